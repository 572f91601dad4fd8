//! What can go wrong in the embedded engine: one variant per decision that
//! somebody makes about it. Hints and exit codes are added at the border.

use std::io;

/// What can go wrong in the embedded engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or the system does not let us read it.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file, as it was named.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else than a GGUF.
    #[error("{file} is not a GGUF file")]
    NotGguf {
        /// The file, as it was named.
        file: String,
    },
    /// The file is a GGUF, but cut off, damaged or contradictory.
    #[error("{file} is broken: {what}")]
    Broken {
        /// The file, as it was named.
        file: String,
        /// Where, and what is wrong there.
        what: String,
    },
    /// The model's architecture is not among those that we compute right.
    #[error("the embedded engine does not know the architecture `{architecture}`, only {works}")]
    Architecture {
        /// `general.architecture`.
        architecture: String,
        /// The architectures that work.
        works: String,
    },
    /// The model's tokenizer is not among those that we split texts right for.
    #[error(
        "the embedded engine does not know the tokenizer `{tokenizer}` of architecture `{architecture}`, only {works}"
    )]
    Tokenizer {
        /// `general.architecture`.
        architecture: String,
        /// `tokenizer.ggml.model`, a slash, `tokenizer.ggml.pre`.
        tokenizer: String,
        /// The tokenizers that work with this architecture.
        works: String,
    },
    /// The weights are stored in a way that we cannot compute with.
    #[error("the embedded engine does not know the tensor type {kind} (of {tensor}), only {works}")]
    TensorType {
        /// The type, in llama.cpp's spelling.
        kind: String,
        /// The first tensor that has it.
        tensor: String,
        /// The types that work.
        works: String,
    },
    /// The model needs something that we would otherwise silently ignore.
    #[error("the embedded engine does not support {what}")]
    Feature {
        /// What it needs.
        what: String,
    },
    /// The file has no chat template, so that only raw prompts can be run.
    #[error("the model file has no chat template")]
    NoTemplate,
    /// The chat template does not parse or does not run.
    #[error("the model's chat template fails: {message}")]
    Template {
        /// The template engine's words.
        message: String,
    },
    /// The chat template itself says that it does not accept these messages.
    #[error("the model's chat template refuses these messages: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The prompt leaves no room for an answer. Nothing was computed.
    #[error("the prompt has {}{prompt_tokens} tokens, the context only {context_tokens}", if *exact { "" } else { "at least " })]
    TooLong {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens that the context holds.
        context_tokens: u32,
        /// Whether they were counted; a prompt that cannot possibly fit is not.
        exact: bool,
    },
    /// The computation itself failed.
    #[error("computing with the model failed: {0}")]
    Compute(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(error.to_string())
    }
}
