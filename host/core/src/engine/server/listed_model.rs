//! The list of a server's models, in one form for all kinds of server.

use serde_json::{Map, Value};

/// The models of a server.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) models: Vec<ListedModel>,
    /// Identifies the server by its responses: the same text as before means that the same
    /// server still listens at its address. `None` if the responses are not distinct enough.
    pub(super) fingerprint: Option<String>,
    /// The parts of the responses that stay true while the fingerprint, or a digest by which
    /// they are kept, is the same.
    pub(super) kept: Map<String, Value>,
}

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
    /// The digest of the model's content, by which Ollama's details are kept.
    pub(super) digest: Option<String>,
    /// Size on disk in bytes.
    pub(super) size_bytes: Option<u64>,
    /// Whether the model takes images, if the server reports it.
    pub(super) supports_vision: Option<bool>,
    pub(super) supports_tools: bool,
    /// `true` for a model that does not generate text: for embeddings, ranking or speech.
    pub(super) generates_no_text: bool,
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
pub(in crate::engine) struct ListedInstance {
    pub(in crate::engine) id: String,
    /// Effective context length in tokens, if known.
    pub(in crate::engine) context: Option<u32>,
}

/// Parts of the names of models that do not generate text, for servers that report no types.
const NO_TEXT_MARKS: [&str; 10] = [
    "embed", "rerank", "bge-", "gte-", "e5-", "minilm", "whisper", "-tts", "tts-", "-asr",
];
/// Parts of the names of instruction-tuned models.
const INSTRUCT_MARKS: [&str; 6] = ["instruct", "chat", "-it", "assistant", "thinking", "coder"];
/// Parts of the names of base models, which only continue a text.
const BASE_MARKS: [&str; 3] = ["-base", "_base", "-pt"];

impl ListedModel {
    /// Returns a model that a server does not list.
    pub(super) fn unlisted(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            instances: vec![ListedInstance {
                id: name.to_owned(),
                context: None,
            }],
            ..Self::default()
        }
    }

    /// Returns `true` if the model probably does not generate text, judged by its name.
    pub(super) fn generates_no_text_by_name(id: &str) -> bool {
        let id = id.to_lowercase();
        // Its own name, without that of its owner.
        let name = id.rsplit('/').next().unwrap_or_default();
        NO_TEXT_MARKS
            .iter()
            .any(|mark| match mark.strip_suffix('-') {
                // The beginning of a name or of a word of it.
                Some(_) => name.starts_with(mark) || name.contains(&format!("-{mark}")),
                None => name.contains(mark),
            })
    }

    /// Returns `true` if the model or one of its instances has this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.id == name
            || self.aliases.iter().any(|alias| alias == name)
            || self.instances.iter().any(|instance| instance.id == name)
    }

    /// Returns `true` if the model is probably instruction-tuned, judged by its
    /// name. Few models in use are base models.
    pub(super) fn is_instruct(&self) -> bool {
        let name = self.id.to_lowercase();
        INSTRUCT_MARKS.iter().any(|mark| name.contains(mark))
            || !BASE_MARKS.iter().any(|mark| name.contains(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_generate_no_text_are_recognised_by_name() {
        for (id, expected) in [
            ("text-embedding-nomic-embed-text-v1.5", true),
            ("BAAI/bge-m3", true),
            ("Qwen/Qwen3-Reranker-0.6B", true),
            ("openai/whisper-large-v3", true),
            ("kokoro-tts", true),
            ("all-MiniLM-L6-v2", true),
            ("intfloat/multilingual-e5-large", true),
            ("llama3.2:3b", false),
            ("qwen3-4b", false),
            ("gte-ish", true),
            ("some-owner-embed/llama", false),
            ("phi-3.5-mini", false),
        ] {
            let actual = ListedModel::generates_no_text_by_name(id);
            assert_eq!(actual, expected, "{id}");
        }
    }
}
