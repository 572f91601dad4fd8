//! The request for one inference.

use lmstrix_inference::{Prompt, Settings};

/// The input of one inference.
#[derive(Clone, Debug)]
pub struct InferenceRequest {
    /// The messages or the raw text to send.
    pub prompt: Prompt,
    /// The settings to send.
    pub settings: Settings,
    /// True if a thinking span at the start of the answer is reported as reasoning.
    pub split_reasoning: bool,
    /// Names of settings that the engine must support (`--strict`).
    pub required_settings: Vec<String>,
}
