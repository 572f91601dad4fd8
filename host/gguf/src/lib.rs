//! The embedded engine of lmstrix-host: runs GGUF models in this process on the CPU, with
//! candle.
//!
//! The engine is synchronous and does not use the network; callers run it on a thread of their
//! own. A model has threads for batches of tokens. The engine supports only models for which it
//! gives the same answers as llama.cpp (see `supported.rs`), and rejects all others by name.
//!
//! `file` reads the header of a model file with `gguf`. `model` runs an inference: it
//! renders the prompt with `template`, tokenizes it with `tokenizer`, computes logits with
//! `decoder`, picks tokens with `sampler`, and emits complete characters (`utf8`) up to a
//! stop sequence (`stop`).

mod decoder;
mod error;
mod file;
mod gguf;
mod header;
mod model;
mod sampler;
mod stop;
mod supported;
mod template;
mod tensor_type;
mod tokenizer;
mod utf8;

pub use error::Error;
pub use file::ModelFile;
pub use model::{InferenceSummary, Model};

/// The GGUF file of the built-in demo model, a toy that repeats the first sentence of a
/// text.
pub const DEMO_MODEL: &[u8] = include_bytes!("../assets/demo.gguf");

/// Returns the supported pairs of architecture and tokenizer.
pub fn supported() -> impl Iterator<Item = (&'static str, String)> {
    supported::ARCHITECTURES.iter().flat_map(|architecture| {
        supported::TOKENIZERS
            .iter()
            .map(|(model, pre)| (*architecture, supported::tokenizer_name(model, pre)))
    })
}
