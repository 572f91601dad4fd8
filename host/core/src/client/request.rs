//! A request for one answer, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use lmstrix_inference::SettingsLayer;
use lmstrix_sandbox::ProcessorRef;

use super::timeouts::TimeoutOptions;
use crate::job::ModelReference;

/// A request for one answer. What it leaves out comes from the environment, the
/// config file and the prompt, as for `infer`.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt's name, `pack/prompt`, or the prompt itself when it contains white
    /// space or `{{`.
    pub prompt: String,
    /// TOML files with prompts.
    pub prompt_files: Vec<PathBuf>,
    /// Text files that are passed to packs, in addition to the prompt files.
    pub pack_files: Vec<PathBuf>,
    /// Packs by name or file; the first one resolves the prompt.
    pub packs: Vec<String>,
    /// More folders to search for packs.
    pub pack_dirs: Vec<PathBuf>,
    /// Refuse packs that are not in the `packs.lock` of their folder with the same digest.
    pub locked: bool,
    /// Parameters, in order.
    pub params: Vec<(String, String)>,
    /// Processors instead of the prompt's own; `None` keeps those.
    pub processors: Option<Vec<ProcessorRef>>,
    /// Replaces the prompt's system message.
    pub system: Option<String>,
    /// Send the text without the model's chat template.
    pub raw: bool,
    /// PNG, JPEG or WebP images of at most 20 MiB. A pack places them in messages by their
    /// file names; the others are sent with the last user message.
    pub attachments: Vec<PathBuf>,
    /// The engine, the model and its context length.
    pub model: ModelReference,
    /// The options of the load.
    pub load: LoadPolicy,
    /// Settings, which win over all other origins.
    pub settings: SettingsLayer,
    /// Time limits.
    pub timeouts: TimeoutOptions,
    /// Return an error for a setting that would be lost, and for a cut answer.
    pub strict: bool,
    /// Keep a thinking span at the start of an answer in its text.
    pub keep_reasoning_tags: bool,
}

/// Options of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadPolicy {
    /// Reload the model even if it is already loaded.
    pub reload: bool,
    /// Skip memory and context checks.
    pub force: bool,
    /// The time after the last request for which the server keeps the model loaded; `None`
    /// leaves it to the server's settings.
    pub ttl: Option<Duration>,
    /// Keep a llama-server that this program starts until it is unloaded, unless `ttl` is set.
    pub keep_loaded: bool,
}

impl Request {
    /// Creates a request for a prompt: its name, `pack/prompt`, or the prompt itself
    /// when it contains white space or `{{`.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            ..Self::default()
        }
    }

    /// Sets the text that the prompt works on, the parameter `text`.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.param("text", text)
    }

    /// Sets a parameter.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.params.retain(|(known, _)| *known != name);
        self.params.push((name, value.into()));
        self
    }

    /// Adds a TOML file with prompts.
    #[must_use]
    pub fn prompts(mut self, file: impl Into<PathBuf>) -> Self {
        self.prompt_files.push(file.into());
        self
    }

    /// Adds a text file that is passed to packs, in addition to the prompt files.
    #[must_use]
    pub fn pack_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.pack_files.push(file.into());
        self
    }

    /// Adds an image, which is sent with the last user message unless a pack places it.
    #[must_use]
    pub fn attach(mut self, file: impl Into<PathBuf>) -> Self {
        self.attachments.push(file.into());
        self
    }

    /// Sets the engine: `auto`, `embedded`, a server's URL or name.
    #[must_use]
    pub fn engine(mut self, engine: impl Into<String>) -> Self {
        self.model.engine = Some(engine.into());
        self
    }

    /// Sets the model: its name, or a GGUF file.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model.model = Some(model.into());
        self
    }
}
