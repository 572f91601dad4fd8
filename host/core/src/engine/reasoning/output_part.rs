//! What a splitter makes of a text.

use lmstrix_inference::Event;

/// A part of the model's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum OutputPart {
    Reasoning(String),
    Text(String),
    /// All text so far was reasoning.
    TextWasReasoning,
}

impl From<OutputPart> for Event {
    fn from(part: OutputPart) -> Self {
        match part {
            OutputPart::Reasoning(text) => Self::Reasoning(text),
            OutputPart::Text(text) => Self::Text(text),
            OutputPart::TextWasReasoning => Self::TextWasReasoning,
        }
    }
}
