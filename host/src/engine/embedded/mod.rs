//! The embedded engine: GGUF files, computed in process with candle, on the
//! CPU. Nothing else needs to be installed.
//!
//! It is synchronous and knows neither threads nor the network; who uses it
//! gives it a thread. It claims only models that it answers for as llama.cpp
//! does (`supported.rs`), and refuses all others by name.
//!
//! In the order of the way through: `file` (what a header says) reads `gguf`;
//! `model` (one inference) renders the `template`, asks the `tokenizer`, lets
//! the `decoder` compute, the `sampler` choose, and gives out whole characters
//! (`utf8`) up to a stop text (`stop`).

mod decoder;
mod error;
mod file;
mod gguf;
mod model;
mod sampler;
mod stop;
mod supported;
mod template;
mod tensor_kind;
mod tokenizer;
mod utf8;

pub use error::Error;
pub use file::ModelFile;
pub use model::{Model, Outcome};

/// The pairs of architecture and tokenizer that work, for `about` and errors.
pub fn supported() -> impl Iterator<Item = (&'static str, String)> {
    supported::ARCHITECTURES.iter().flat_map(|architecture| {
        supported::TOKENIZERS
            .iter()
            .map(|(model, pre)| (*architecture, supported::tokenizer_name(model, pre)))
    })
}
