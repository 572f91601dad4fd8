//! The embedded engine: supported models are compared with llama.cpp; contexts, cancellation
//! and malformed files are tested with a small generated model.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy exempts only the test functions"
)]

/// Progress, limits, cancellation and independence of inferences.
mod behaviour;
/// Tokens and greedy answers are the same as those of llama.cpp.
mod llama_cpp_comparison;
/// Truncated, damaged and inconsistent files.
mod malformed_files;
/// Writes a small model.
mod tiny_model;
/// Logits and greedy answers of a trained model are those of llama.cpp, except for rounding.
/// Linux only: so is the package with the model.
#[cfg(target_os = "linux")]
mod trained_model;
