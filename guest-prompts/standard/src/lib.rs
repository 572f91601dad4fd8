//! The standard prompt pack: TOML prompt files and the common processors.
//!
//! All modules except `component` are plain Rust and are tested natively. `component` is
//! built only for WebAssembly and converts the types of the contract to those of [`types`]
//! and back.
//!
//! Modules in the order of the data flow: [`document`] parses a prompt file, [`prompt`]
//! reads the prompts in it with their [`setting`]s and processors ([`processor_refs`]),
//! [`template`] splits a text at its placeholders, and [`expand`] expands them. [`resolve`]
//! combines these steps, and [`describe`] lists the prompts and processors. [`processor`]
//! contains the processors, which convert the model's answer to the output.

pub mod describe;
pub mod document;
pub mod expand;
pub mod processor;
pub mod processor_refs;
pub mod prompt;
pub mod resolve;
pub mod setting;
pub mod suggest;
pub mod template;
pub mod types;
pub mod value;

#[cfg(target_family = "wasm")]
mod component;
