//! Classes of the errors of the embedded engine.

#[cfg(feature = "embedded")]
pub use lmstrix_gguf::Error as EmbeddedError;

/// The class of an error of the embedded engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddedFault {
    /// The prompt does not fit into the context.
    PromptTooLong {
        /// The tokens of the prompt, if they were counted exactly.
        prompt_tokens: Option<u32>,
    },
    /// The model has no chat template.
    NoChatTemplate,
    /// The chat template refused the messages.
    TemplateRejected,
    /// The model has something that the engine does not support.
    Unsupported,
    /// The computation failed.
    Compute,
    /// The file cannot be read or is invalid.
    File,
}

/// An error of the embedded engine, which has no values in builds without it.
#[cfg(not(feature = "embedded"))]
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {}

/// Returns the class of an error.
#[cfg(feature = "embedded")]
#[must_use]
pub fn embedded_fault(error: &EmbeddedError) -> EmbeddedFault {
    match error {
        EmbeddedError::PromptTooLong {
            prompt_tokens,
            exact,
            ..
        } => EmbeddedFault::PromptTooLong {
            prompt_tokens: exact.then_some(*prompt_tokens),
        },
        EmbeddedError::NoChatTemplate => EmbeddedFault::NoChatTemplate,
        EmbeddedError::TemplateRejected { .. } => EmbeddedFault::TemplateRejected,
        EmbeddedError::UnsupportedArchitecture { .. }
        | EmbeddedError::UnsupportedTokenizer { .. }
        | EmbeddedError::UnsupportedTensorType { .. }
        | EmbeddedError::UnsupportedFeature { .. } => EmbeddedFault::Unsupported,
        EmbeddedError::Compute(_) => EmbeddedFault::Compute,
        _ => EmbeddedFault::File,
    }
}

/// Returns the class of an error.
#[cfg(not(feature = "embedded"))]
#[must_use]
pub fn embedded_fault(error: &EmbeddedError) -> EmbeddedFault {
    match *error {}
}
