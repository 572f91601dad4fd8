//! Warnings: what the user should know about a job that still runs.

use std::fmt;

use lmstrix_inference::FinishReason;
use serde::{Deserialize, Serialize};

/// A warning. Code decides on the variant, people read the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Warning {
    /// Messages go to a model without a chat template.
    NoChatTemplate {
        /// The model's name.
        model: String,
    },
    /// A prompt without chat template goes to a model that was trained to answer.
    RawPrompt {
        /// The model's name.
        model: String,
    },
    /// `--system` was given for a prompt that has no system message.
    SystemDropped,
    /// The answer is not complete.
    CutAnswer(FinishReason),
    /// The server counted fewer tokens than the prompt must have.
    PromptTruncated {
        /// The tokens of the prompt that the server counted.
        counted: u32,
        /// A lower bound of the tokens of the prompt that was sent.
        sent: u32,
    },
    /// Text on stdout turned out to be reasoning.
    ReasoningPrinted,
    /// Two packs have one name; the nearest is used.
    Packs(String),
    /// From the pack that resolved the prompt.
    Resolver(String),
    /// From a processor, with its name.
    Processor(String),
    /// From the engine: a lost setting, the choice of a model, its context.
    Engine(String),
    /// The run's statistics could not be saved; the cause.
    StatisticsNotSaved(String),
}

impl Warning {
    /// Returns the warning without the numbers that differ between jobs.
    #[must_use]
    pub fn without_counts(&self) -> Self {
        match self {
            Self::PromptTruncated { .. } => Self::PromptTruncated {
                counted: 0,
                sent: 0,
            },
            other => other.clone(),
        }
    }

    /// Returns whether the warning is decided after the answer has ended, so that no
    /// sink has received it.
    #[must_use]
    pub fn is_after_the_end(&self) -> bool {
        matches!(
            self,
            Self::CutAnswer(_) | Self::PromptTruncated { .. } | Self::StatisticsNotSaved(_)
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChatTemplate { model } => write!(
                f,
                "`{model}` has no chat template, so llama-server uses one that the model was not \
                 trained with; --raw sends the text alone"
            ),
            Self::RawPrompt { model } => write!(
                f,
                "the text goes to `{model}` without its chat template, so the model may continue \
                 it instead of answering; remove --raw to get an answer"
            ),
            Self::SystemDropped => {
                f.write_str("--system is ignored: a raw prompt has no system message")
            }
            Self::ReasoningPrinted => f.write_str(
                "the first part of the output is the model's reasoning, of which it marks only \
                 the end; add `--post reasoning:open=true`",
            ),
            Self::PromptTruncated { counted, sent } => {
                f.write_str(&truncated_reason(*counted, *sent))
            }
            Self::CutAnswer(reason) => f.write_str(cut_reason(reason)),
            Self::StatisticsNotSaved(cause) => {
                write!(f, "could not save run statistics: {cause}")
            }
            Self::Packs(text)
            | Self::Resolver(text)
            | Self::Processor(text)
            | Self::Engine(text) => f.write_str(text),
        }
    }
}

/// Returns the text for a prompt of which the server read only a part.
pub(super) fn truncated_reason(counted: u32, sent: u32) -> String {
    format!(
        "the server truncated the prompt: it read {counted} tokens, but the prompt has at least \
         {sent} (load the model with a longer context, --context)"
    )
}

/// Returns why an answer is cut, with the flag that sets the limit.
pub(super) fn cut_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::ContextFull => {
            "the answer was cut because the model's context is full (--context)"
        }
        FinishReason::ContentFilter => "the answer was cut by a content filter of the server",
        FinishReason::Unreported => {
            "the server ended the answer without a finish reason; it may be incomplete"
        }
        FinishReason::Repetition => {
            "the answer was ended because it repeated itself (--max-repeat 0 disables this)"
        }
        _ => "the answer was cut at the token limit (--max-tokens)",
    }
}
