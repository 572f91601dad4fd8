//! Errors of the embedded engine. Hints and exit codes are added by the crate's `error`
//! module.

use std::io;

/// An error of the embedded engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read `{file}`: {source}")]
    Read {
        /// Path of the file.
        file: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The file is not a GGUF file.
    #[error("`{file}` is not a GGUF file")]
    NotGguf {
        /// Path of the file.
        file: String,
    },
    /// The GGUF file is truncated, damaged or inconsistent.
    #[error("invalid model file `{file}`: {problem}")]
    InvalidFile {
        /// Path of the file.
        file: String,
        /// The problem, and its location if known.
        problem: String,
    },
    /// The model's architecture is not supported.
    #[error(
        "the embedded engine does not support the architecture `{architecture}`, only {supported}"
    )]
    UnsupportedArchitecture {
        /// `general.architecture`.
        architecture: String,
        /// The supported architectures, separated by commas.
        supported: String,
    },
    /// The model's tokenizer is not supported.
    #[error(
        "the embedded engine does not support the tokenizer `{tokenizer}` of the architecture `{architecture}`, only {supported}"
    )]
    UnsupportedTokenizer {
        /// `general.architecture`.
        architecture: String,
        /// `tokenizer.ggml.model` and `tokenizer.ggml.pre`, separated by a slash.
        tokenizer: String,
        /// The supported tokenizers, separated by commas.
        supported: String,
    },
    /// The type of a tensor is not supported.
    #[error(
        "the embedded engine does not support the tensor type {tensor_type} (of `{tensor}`), only {supported}"
    )]
    UnsupportedTensorType {
        /// The tensor type as llama.cpp names it.
        tensor_type: String,
        /// The first tensor of this type.
        tensor: String,
        /// The supported tensor types, separated by commas.
        supported: String,
    },
    /// The model needs a feature that is not supported.
    #[error("the embedded engine does not support {feature}")]
    UnsupportedFeature {
        /// The feature.
        feature: String,
    },
    /// The file has no chat template, so only raw prompts can be run.
    #[error("the model file has no chat template")]
    NoChatTemplate,
    /// The chat template cannot be parsed or rendered.
    #[error("cannot render the model's chat template: {message}")]
    ChatTemplate {
        /// The error message of the template engine.
        message: String,
    },
    /// The chat template rejected the messages with `raise_exception`.
    #[error("the model's chat template rejected the messages: {message}")]
    TemplateRejected {
        /// The message of the template.
        message: String,
    },
    /// The prompt does not fit into the context with at least one token of an answer. It is
    /// raised before any computation.
    #[error("the prompt has {}{prompt_tokens} tokens, the context length is {context_tokens}", if *exact { "" } else { "at least " })]
    PromptTooLong {
        /// Number of tokens of the prompt.
        prompt_tokens: u32,
        /// Context length in tokens.
        context_tokens: u32,
        /// True if `prompt_tokens` is exact. A prompt that is certainly too long is not
        /// tokenized, and `prompt_tokens` is then a lower bound.
        exact: bool,
    },
    /// The computation failed.
    #[error("inference failed: {0}")]
    Compute(String),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(error.to_string())
    }
}
