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
    /// Token counts so far; later counts replace earlier ones.
    Usage(Usage),
    /// A warning that does not stop the inference.
    Warning(String),
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

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model ended the answer or produced a stop sequence.
    End,
    /// The answer reached `max_tokens`.
    Length,
    /// The context is full.
    ContextFull,
    /// A processor asked to stop.
    Enough,
    /// The answer repeated the same text too often (`--max-repeat`).
    Repetition,
    /// The run was cancelled or a timeout expired.
    Cancelled,
}
