//! The standard prompt pack: TOML prompt files and the common processors.
//!
//! Modules in the order of the data flow: [`document`] parses a prompt file, [`prompt`]
//! reads the prompts in it with their [`setting`]s and processors ([`processor_refs`]),
//! [`template`] splits a text at its placeholders, and [`expand`] expands them. [`resolve`]
//! combines these steps, and [`describe`] lists the prompts and processors. [`processor`]
//! contains the processors, which convert the model's answer to the output, and [`pack`] the
//! functions of the contract.

pub mod describe;
pub mod document;
pub mod expand;
pub mod pack;
pub mod processor;
pub mod processor_refs;
pub mod prompt;
pub mod resolve;
pub mod setting;
pub mod template;
pub mod value;

lmstrix_pack::export!(pack::StandardPack);
