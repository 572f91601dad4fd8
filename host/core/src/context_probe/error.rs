//! Errors of context probes.

use crate::{engine, registry};

/// A model could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The engine cannot be used, or does not have the model.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The registry cannot be read or written.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// Neither the engine nor the options set the largest context length.
    #[error("{engine} does not report the declared context length of `{model}`")]
    UnknownContext {
        /// The engine's name for messages.
        engine: String,
        /// The model's name.
        model: String,
    },
    /// The requested context length exceeds the declared one.
    #[error("a context of {requested} tokens is more than the {declared} that `{model}` declares")]
    ContextTooLarge {
        /// The model's name.
        model: String,
        /// The requested context length, in tokens.
        requested: u32,
        /// The declared context length, in tokens.
        declared: u32,
    },
    /// The requested context length, or a smaller one, failed in an earlier run.
    #[error(
        "`{model}` failed with {failed} tokens in an earlier test: {}",
        cause_text(cause)
    )]
    FailedEarlier {
        /// The model's name.
        model: String,
        /// The context length that failed, in tokens.
        failed: u32,
        /// The reason, if known.
        cause: Option<String>,
    },
    /// The probe was cancelled.
    #[error("interrupted")]
    Cancelled,
}

fn cause_text(cause: &Option<String>) -> &str {
    cause.as_deref().unwrap_or("unknown cause")
}
