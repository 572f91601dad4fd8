//! The embedded engine. What it claims is compared with llama.cpp; what it
//! promises about contexts, cancelling and broken files is tried on a model
//! that is written here.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; clippy spares only the test functions themselves"
)]

/// The same tokens and the same greedy answers as llama.cpp.
mod against_llama_cpp;
/// Progress, limits, cancelling, and that inferences do not touch each other.
mod behaviour;
/// Files that are cut off, damaged, or lie.
mod hostile;
/// A small model, written byte by byte.
mod tiny;
