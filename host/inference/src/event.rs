//! What happens during an inference.

use serde::{Deserialize, Serialize};

/// How an engine handles a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingSupport {
    /// The engine applies the setting.
    Honoured,
    /// The engine ignores the setting silently.
    Dropped,
    /// The engine returns an error.
    Rejected,
    /// Not known.
    Unknown,
}

/// An event of a running inference. A complete stream ends with exactly one
/// `Finished`; a stream that ends without it is an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The model is being loaded; the completed fraction, 0 to 1, if known.
    Loading(Option<f32>),
    /// The prompt is being processed.
    Prefill {
        /// The completed fraction, 0 to 1.
        progress: f32,
        /// The number of tokens of the whole prompt, if known.
        tokens: Option<u32>,
    },
    /// A piece of the model's reasoning, which is not part of the answer.
    Reasoning(String),
    /// A piece of the answer: complete characters, never empty.
    Text(String),
    /// All text so far was reasoning: its closing tag has arrived, but no opening one had.
    /// The answer begins now.
    TextWasReasoning,
    /// Token counts so far; later counts replace earlier ones.
    Usage(Usage),
    /// A warning that does not stop the inference.
    Warning(String),
    /// The output of a pack on stdout and stderr, which is no part of the answer.
    PackOutput {
        /// The pack, or the processor as `pack/processor`.
        from: String,
        /// The text, which may contain control characters.
        text: String,
    },
    /// The end of the answer. No event follows.
    Finished(FinishReason),
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, including reasoning.
    pub completion_tokens: u32,
}

/// Why an answer ended. In JSON it is the name in kebab case, and for
/// [`FinishReason::Other`] the server's string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model ended the answer or produced a stop sequence.
    End,
    /// The answer reached `max_tokens`.
    Length,
    /// The context is full.
    ContextFull,
    /// A content filter of the server cut the answer.
    ContentFilter,
    /// A processor asked to stop.
    Enough,
    /// The answer repeated the same text too often (`--max-repeat`).
    Repetition,
    /// The run was cancelled or a timeout expired.
    Cancelled,
    /// The server ended its response without a reason.
    Unreported,
    /// A reason that this list does not have, as the server sent it.
    #[serde(untagged)]
    Other(String),
}

impl FinishReason {
    /// Returns true if the answer is not complete, or may not be.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Length
            | Self::ContextFull
            | Self::ContentFilter
            | Self::Repetition
            | Self::Unreported => true,
            // The names of other APIs for a limit of tokens.
            Self::Other(reason) => ["max_tokens", "model_length"]
                .iter()
                .any(|name| reason.eq_ignore_ascii_case(name)),
            Self::End | Self::Enough | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finish_reason_is_its_name_or_the_string_of_the_server() {
        for (reason, json) in [
            (FinishReason::End, r#""end""#),
            (FinishReason::ContextFull, r#""context-full""#),
            (
                FinishReason::Other("eos_token".to_owned()),
                r#""eos_token""#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), json);
            assert_eq!(serde_json::from_str::<FinishReason>(json).unwrap(), reason);
        }
    }
}
