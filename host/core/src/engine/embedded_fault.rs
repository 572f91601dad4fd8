//! Classes of the errors of the embedded engine.

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
