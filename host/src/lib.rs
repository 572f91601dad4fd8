//! Runs prompts on local language models, with the prompt logic in sandboxed
//! WebAssembly components.

mod closest;
pub mod engine;
pub mod inference;
pub mod pack;
