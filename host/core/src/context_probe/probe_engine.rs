//! The engine operations that a context probe needs. Tests use a fake engine.

use lmstrix_inference::Prompt;

use crate::engine::Error;

/// Runs one model for probes.
pub(super) trait ProbeEngine {
    /// A selected model, not necessarily loaded.
    type Selected;
    /// A loaded instance.
    type Instance;

    /// Finds the model at its engine. Loads nothing.
    async fn find(&self) -> Result<FoundModel, Error>;

    /// Selects the model with exactly this context length, in tokens; `None` uses the
    /// context length of the loaded instance. Loads nothing.
    async fn select(&self, context: Option<u32>) -> Result<Self::Selected, Error>;

    /// Loads a selected model, or reuses a suitable instance.
    async fn load(&self, selected: Self::Selected) -> Result<Self::Instance, Error>;

    /// Returns the effective context length of an instance, in tokens, if known.
    fn context(&self, instance: &Self::Instance) -> Option<u32>;

    /// Runs one inference and returns its answer. `answer_tokens` limits its length.
    async fn infer(
        &self,
        instance: Self::Instance,
        prompt: &Prompt,
        answer_tokens: u32,
    ) -> Result<ProbeAnswer, Error>;

    /// Unloads the last instance if this program loaded it, also one whose load was
    /// cancelled.
    async fn unload(&self) -> Result<(), Error>;
}

/// Facts about the model to probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FoundModel {
    /// A server's address, or `embedded`.
    pub(super) engine: String,
    /// `lmstudio`, `ollama`, …
    pub(super) engine_kind: &'static str,
    /// The engine's name for messages.
    pub(super) engine_name: String,
    /// The model's name.
    pub(super) model: String,
    pub(super) architecture: Option<String>,
    pub(super) quantization: Option<String>,
    /// In tokens.
    pub(super) declared_context: Option<u32>,
    /// The context length that the engine would use by default, in tokens.
    pub(super) expected_context: Option<u32>,
    /// The engine can load a requested context length; otherwise the server decides it.
    pub(super) can_set_context: bool,
    /// An instance of another program that a probe replaces.
    pub(super) foreign_instance: Option<ForeignInstance>,
}

/// An instance that another program loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ForeignInstance {
    /// In tokens, if known.
    pub(super) context: Option<u32>,
}

/// The answer to a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeAnswer {
    /// The text, including reasoning.
    pub(super) text: String,
    /// The tokens of the prompt, if the engine counts them.
    pub(super) prompt_tokens: Option<u32>,
}
