//! The embedded engine: GGUF files, in process.
