//! A model in a server's list, in one form for all kinds of server.

/// A model in a server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedModel {
    /// The identifier that requests use.
    pub(super) id: String,
    /// Other names of exactly this model.
    pub(super) aliases: Vec<String>,
    /// The loaded instances in the server's order.
    pub(super) instances: Vec<ListedInstance>,
    /// Declared context length in tokens.
    pub(super) declared: Option<u32>,
    pub(super) architecture: Option<String>,
    pub(super) quantization: Option<String>,
    /// Size on disk in bytes.
    pub(super) size_bytes: Option<u64>,
    pub(super) supports_vision: bool,
    pub(super) supports_tools: bool,
    /// `true` for an embedding model, which cannot generate text.
    pub(super) is_embedding_only: bool,
    /// The reasoning levels that the model accepts, if the server reports them.
    pub(super) reasoning_levels: Option<Vec<String>>,
    /// The tag that opens the reasoning of each answer in the prompt, if the chat template
    /// has one and the server does not separate reasoning itself.
    pub(super) opened_tag: Option<&'static str>,
    /// `true` if the server has LM Studio's native chat and load endpoints
    /// (0.4.0 or newer).
    pub(super) has_lmstudio_chat: bool,
}

/// A loaded instance in a server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedInstance {
    pub(super) id: String,
    /// Effective context length in tokens, if known.
    pub(super) context: Option<u32>,
}

/// Parts of the names of instruction-tuned models.
const INSTRUCT_MARKS: [&str; 6] = ["instruct", "chat", "-it", "assistant", "thinking", "coder"];
/// Parts of the names of base models, which only continue a text.
const BASE_MARKS: [&str; 3] = ["-base", "_base", "-pt"];

impl ListedModel {
    /// Returns `true` if the model is probably instruction-tuned, judged by its
    /// name. Few models in use are base models.
    pub(super) fn is_instruct(&self) -> bool {
        let name = self.id.to_lowercase();
        INSTRUCT_MARKS.iter().any(|mark| name.contains(mark))
            || !BASE_MARKS.iter().any(|mark| name.contains(mark))
    }
}
