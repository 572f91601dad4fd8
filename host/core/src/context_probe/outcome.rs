//! The outcomes of probes, and the result of a model.

use std::fmt;
use std::time::Duration;

use crate::engine::{EmbeddedFault, Error, FaultKind, embedded_fault, format_seconds};
use crate::error_chain::error_chain;
use crate::registry::TestLevel;

/// The result of probing one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedModel {
    /// The model's name on its engine.
    pub model: String,
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The level that was probed: the requested one, or a lower one.
    pub level: TestLevel,
    /// The largest context length that passes, in tokens. `None` if none does.
    pub context: Option<u32>,
    /// True if no larger context length is left to probe.
    pub complete: bool,
    /// The reason if `level` is lower than requested.
    pub lowered: Option<LoweredLevel>,
    /// The probes, in order.
    pub probes: Vec<ProbeReport>,
}

/// The reason why a model is probed at a lower level than requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoweredLevel {
    /// The level that is probed instead.
    pub level: TestLevel,
    /// The small context length that the model failed with, in tokens.
    pub context: u32,
    /// The reason why it gave no answer; `None` if its answer did not contain the key.
    pub refusal: Option<String>,
}

/// A finished probe.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// The probed context length, in tokens.
    pub context: u32,
    /// The level of the probe.
    pub level: TestLevel,
    /// The outcome.
    pub outcome: ProbeOutcome,
    /// The tokens of the last prompt, if the engine counts them.
    pub prompt_tokens: Option<u32>,
    /// The duration, including the load.
    pub elapsed: Duration,
}

/// The outcome of a probe. Its text is part of the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeOutcome {
    /// The model passes the level.
    Passed,
    /// The model did not load.
    NotLoaded(ProbeFailure),
    /// The instance has less context than requested, in tokens.
    LoadedWithLess(u32),
    /// The engine rejected the prompt, or the answer is empty.
    Refused(ProbeFailure),
    /// The answer does not contain the key; holds its first characters.
    WrongAnswer(String),
    /// The probe exceeded this time limit.
    TimedOut(Duration),
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::NotLoaded(failure) => write!(f, "did not load: {}", failure.message),
            Self::LoadedWithLess(context) => write!(f, "loaded with only {context} tokens"),
            Self::Refused(failure) => write!(f, "prompt refused: {}", failure.message),
            Self::WrongAnswer(answer) => write!(f, "wrong answer: {answer:?}"),
            Self::TimedOut(limit) => write!(f, "timed out after {}", format_seconds(*limit)),
        }
    }
}

impl ProbeOutcome {
    /// Returns whether the outcome depends on the context length. A server that fails for
    /// another reason does not invalidate an earlier result.
    #[must_use]
    pub fn depends_on_context(&self) -> bool {
        match self {
            Self::Passed | Self::LoadedWithLess(_) | Self::WrongAnswer(_) => true,
            Self::NotLoaded(failure) | Self::Refused(failure) => failure.is_context_limit,
            Self::TimedOut(_) => false,
        }
    }
}

/// The reason why a model did not load or did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// The engine's message.
    pub message: String,
    /// True if the failure is caused by the context size, not by a transient error.
    pub is_context_limit: bool,
}

impl ProbeFailure {
    pub(super) fn from_error(error: &Error) -> Self {
        let is_context_fault =
            |kind: &FaultKind| matches!(kind, FaultKind::OutOfMemory | FaultKind::Overflow { .. });
        Self {
            message: error_chain(error),
            is_context_limit: match error {
                Error::InsufficientMemory { .. } | Error::InvalidContext(_) => true,
                Error::LoadFailed { fault, .. } | Error::Server { fault, .. } => {
                    is_context_fault(&fault.kind)
                }
                _ => PromptOverflow::from_error(error).is_some(),
            },
        }
    }

    /// Creates a failure that does not depend on the context size.
    pub(super) fn unrelated(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            is_context_limit: false,
        }
    }
}

/// A prompt was too long for the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PromptOverflow {
    /// The tokens of the prompt, if the engine counted them.
    pub(super) prompt_tokens: Option<u32>,
}

impl PromptOverflow {
    /// Returns `None` for errors with another cause.
    pub(super) fn from_error(error: &Error) -> Option<Self> {
        let prompt_tokens = match error {
            Error::Server { fault, .. } => match fault.kind {
                FaultKind::Overflow { prompt_tokens, .. } => {
                    prompt_tokens.and_then(|tokens| u32::try_from(tokens).ok())
                }
                _ => return None,
            },
            Error::PromptTooLong { .. } => None,
            Error::Embedded(error) => match embedded_fault(error) {
                EmbeddedFault::PromptTooLong { prompt_tokens } => prompt_tokens,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { prompt_tokens })
    }
}
