//! The request for one inference.

use lmstrix_inference::{Prompt, Settings};

use crate::attachment::AttachedImage;

/// The input of one inference.
#[derive(Clone, Debug)]
pub struct InferenceRequest {
    /// The messages or the raw text to send.
    pub prompt: Prompt,
    /// The images that the messages name.
    pub images: Vec<AttachedImage>,
    /// The settings to send.
    pub settings: Settings,
    /// True if a thinking span at the start of the answer is reported as reasoning.
    pub split_reasoning: bool,
    /// Names of settings that the engine must support (`--strict`).
    pub required_settings: Vec<String>,
}
