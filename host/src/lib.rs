//! Runs prompts on local language models, with the prompt logic in sandboxed
//! WebAssembly components.

pub mod engine;
pub mod inference;
