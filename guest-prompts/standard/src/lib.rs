//! The standard prompt pack: TOML prompt files and the common processors.
//!
//! Everything here is plain Rust on plain values and is tested natively.
//! Only `component`, which exists in the WebAssembly build alone, knows WIT:
//! it turns the contract's types into those of [`types`] and back.
//!
//! In the order of the data: a [`document`] is a parsed file, a [`prompt`] one
//! definition in it with its [`setting`]s and [`post`] processors, a
//! [`template`] its text, which [`expand`] fills in; [`resolve`] puts it all
//! together, and [`describe`] lists what there is. [`processor`] is the way back,
//! from the model's answer to the user's text.

pub mod closest;
pub mod describe;
pub mod document;
pub mod expand;
pub mod post;
pub mod processor;
pub mod prompt;
pub mod resolve;
pub mod setting;
pub mod template;
pub mod types;
pub mod value;

#[cfg(target_family = "wasm")]
mod component;
