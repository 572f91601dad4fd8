//! The host's types for the requests and results of the contract. The `convert` module
//! converts them to and from the generated types of `wit/prompts.wit`.

use std::sync::Arc;

use lmstrix_inference::{FinishReason, Prompt, SettingsLayer};
use serde::{Deserialize, Serialize};

/// A text file that is passed to a pack: one that the user named, or a sidecar file of the
/// pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// The file name without its folder.
    pub name: String,
    /// The path for messages, as the user wrote it.
    pub display_path: String,
    /// The content, which many jobs share.
    pub text: Arc<str>,
}

/// Facts about the model that will run the prompt. Unknown facts are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The model's name on the engine.
    pub id: String,
    /// The value of `general.architecture`, or the server's name for it.
    pub architecture: Option<String>,
    /// The maximum context length in tokens with which this run would load the model.
    pub context_length: Option<u32>,
    /// Further facts with the keys `engine`, `quantization`, `format`, `vision`, `max-tokens` and
    /// `tokens-per-byte`.
    pub extra: Vec<(String, String)>,
}

impl ModelFacts {
    /// Sets a fact by its name: `id`, `architecture`, or a key of [`Self::extra`].
    pub fn set(&mut self, key: &str, value: &str) {
        match key {
            "id" => value.clone_into(&mut self.id),
            "architecture" => self.architecture = Some(value.to_owned()),
            _ => self.extra.push((key.to_owned(), value.to_owned())),
        }
    }
}

/// The arguments of `resolve`.
#[derive(Clone, Debug, Default)]
pub struct ResolveRequest {
    /// The prompt's name inside the pack.
    pub prompt: String,
    /// The parameters in the order in which the user set them.
    pub params: Vec<(String, String)>,
    /// The files that are passed to the pack.
    pub files: Vec<TextFile>,
    /// The model, or `None` if the prompt is only rendered.
    pub model: Option<ModelFacts>,
    /// Reserved for extensions of the contract.
    pub extra: Vec<(String, String)>,
}

/// A processor and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorRef {
    /// `name`, or `pack/name`.
    pub name: String,
    /// The options in the given order.
    pub options: Vec<(String, String)>,
}

/// The result of `resolve`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPrompt {
    /// The prompt to send to the model.
    pub prompt: Prompt,
    /// The settings that the prompt requests.
    pub settings: SettingsLayer,
    /// The processors of the answer, in order.
    pub processors: Vec<ProcessorRef>,
    /// Extension of the output file, one of [`ALLOWED_EXTENSIONS`].
    pub extension: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Further entries for the JSON report.
    pub extra: Vec<(String, String)>,
    /// The output of the pack on stdout and stderr.
    pub written: String,
}

/// The file extensions that a pack may request. Others are ignored, so that a pack cannot
/// create a file that the system would execute.
pub const ALLOWED_EXTENSIONS: [&str; 12] = [
    "txt", "md", "json", "jsonl", "csv", "tsv", "xml", "html", "yaml", "toml", "srt", "vtt",
];

/// The arguments of a processor's `open`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessorContext {
    /// The processor's name inside the pack.
    pub processor: String,
    /// The options of the processor, as they were given.
    pub options: Vec<(String, String)>,
    /// The declared defaults of the others.
    pub defaults: Vec<(String, String)>,
    /// The prompt of the job, as the user named it.
    pub prompt: String,
    /// The parameters of the prompt.
    pub params: Vec<(String, String)>,
    /// The files that are passed to the pack.
    pub files: Vec<TextFile>,
    /// The model that runs the prompt.
    pub model: Option<ModelFacts>,
}

/// The reason why the answer ended, as passed to a processor's `finish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The engine finished the answer for this reason.
    Finished(FinishReason),
    /// The inference failed with this message.
    Failed(String),
}

/// The result of a processor's `push`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOutput {
    /// Output text; may be empty.
    pub text: String,
    /// True if the processor needs no more input.
    pub done: bool,
}

/// The result of a processor's `finish`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedText {
    /// The remaining output text.
    pub tail: String,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Further entries for the JSON report.
    pub extra: Vec<(String, String)>,
    /// The output of the processor on stdout and stderr, from its start.
    pub written: String,
}

/// A parameter of a prompt, or an option of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParamInfo {
    /// Name of the parameter or option.
    pub name: String,
    /// A one-line description.
    pub summary: String,
    /// True if it must be set.
    pub required: bool,
    /// The value that applies if it is not set.
    pub default: Option<String>,
}

/// A prompt or a processor of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackItemInfo {
    /// The name inside the pack.
    pub name: String,
    /// A one-line description.
    pub summary: String,
    /// The parameters of the prompt, or the options of the processor.
    pub params: Vec<ParamInfo>,
    /// True if parameters or options that are not declared are used, too: the `extra` key
    /// `any-params`.
    pub any_params: bool,
}

/// The prompts and processors of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackContents {
    /// A one-line description of the pack.
    pub summary: String,
    /// The prompts.
    pub prompts: Vec<PackItemInfo>,
    /// The processors.
    pub processors: Vec<PackItemInfo>,
}

impl PackContents {
    /// Returns true if the pack has processors and no prompts. Its component may export
    /// functions for both.
    #[must_use]
    pub fn has_only_processors(&self) -> bool {
        self.prompts.is_empty() && !self.processors.is_empty()
    }
}
