//! Options for loading models, and facts about models from the registry. The
//! engine module does not read the registry itself; callers pass these values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::LlamaServerOptions;

/// Options for loading and unloading models.
#[derive(Clone, Debug, Default)]
pub struct LifecycleOptions {
    /// The folder for locks and ownership records.
    pub state_dir: PathBuf,
    /// Reload a model that is already loaded, even by another program.
    pub reload: bool,
    /// Skip memory and context checks.
    pub force: bool,
    /// The time after the last request for which a server keeps a model loaded, as Ollama's
    /// `keep_alive` and LM Studio's `ttl`.
    pub ttl: Option<Duration>,
    /// Without `ttl`, keep a llama-server that this program starts until it is unloaded,
    /// instead of until its last user has ended.
    pub keep_loaded: bool,
    /// How llama-server is found and started.
    pub llama_server: LlamaServerOptions,
    /// Do not use an instance with more context than requested.
    pub exact_context: bool,
    /// The path of LM Studio's `lms` program, if found.
    pub lms_path: Option<PathBuf>,
    /// Facts about models, by engine address and model name.
    pub known_models: BTreeMap<String, BTreeMap<String, KnownModel>>,
}

/// Facts about a model from the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KnownModel {
    /// The tested context length, in tokens.
    pub tested: Option<u32>,
    /// The size on disk, in bytes.
    pub size_bytes: Option<u64>,
    /// Memory for one token of context, in bytes.
    pub context_bytes_per_token: Option<u64>,
    /// Tokens per byte of prompt.
    pub tokens_per_byte: Option<f64>,
}

impl LifecycleOptions {
    /// Returns the time without users after which a llama-server that this program starts
    /// ends; `None` keeps it until it is unloaded.
    #[must_use]
    pub fn idle_limit(&self) -> Option<Duration> {
        self.ttl.or((!self.keep_loaded).then_some(Duration::ZERO))
    }

    /// Returns the facts about a model; empty if it is not in the registry.
    /// `engine` is a server's address, `llama.cpp` or `embedded`.
    #[must_use]
    pub fn known_model(&self, engine: &str, model: &str) -> KnownModel {
        self.known_models
            .get(engine)
            .and_then(|models| models.get(model))
            .copied()
            .unwrap_or_default()
    }
}

/// The result of an unload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadResult {
    /// An instance was unloaded.
    Unloaded,
    /// This program did not load the instance.
    NotOwned,
    /// Another process uses the instance, and the last one unloads it.
    InUse,
    /// The engine has nothing to unload.
    NothingToUnload,
}
