//! The one test binary.

/// The embedded engine against llama.cpp, hostile files, and its own promises.
mod embedded;
