//! A model file that is selected for the engine `llama.cpp`, with the context that it will be
//! loaded with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix_inference::{ContextSize, Prompt, SettingSupport, Settings};

use super::arguments::slots;
use super::file_facts::FileFacts;
use super::options::{GpuLayers, LlamaServerOptions};
use super::program::Program;
use super::run_files::{RunFiles, ServerRecord};
use super::usage::ServerUsage;
use crate::engine::context_limits::{ContextLimits, resolve_context};
use crate::engine::memory::{Memory, MemoryNeed};
use crate::engine::model_files::is_path;
use crate::engine::server::llama_server_support;
use crate::engine::{
    ConnectTimeouts, Error, KnownModel, LLAMA_CPP, LifecycleOptions, ModelFolders, display_model,
};
use crate::store::sha256_hex;

/// A selected model file, not necessarily loaded.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ManagedModel {
    /// The name by which it was selected; of a path, the absolute path.
    pub(in crate::engine) name: String,
    pub(super) path: PathBuf,
    /// The name that requests use.
    pub(super) alias: String,
    facts: FileFacts,
    pub(super) program: Program,
    /// The context length to load with, in tokens; `None` leaves it to llama-server.
    pub(super) context: Option<u32>,
    /// The context length that was requested, in tokens.
    pub(in crate::engine) requested_context: Option<u32>,
    pub(super) timeouts: ConnectTimeouts,
    pub(super) lifecycle: Arc<LifecycleOptions>,
    pub(in crate::engine) usage: ServerUsage,
}

/// Reads the header of a model file, and decides on its context. Starts no server.
///
/// # Errors
/// Returns an error if there is no such file, no usable llama-server, or not enough memory.
pub(in crate::engine) async fn select_managed(
    model: &str,
    context: Option<ContextSize>,
    folders: &ModelFolders,
    timeouts: ConnectTimeouts,
    lifecycle: Arc<LifecycleOptions>,
) -> Result<(ManagedModel, Vec<String>), Error> {
    let path = find(model, folders, &lifecycle.state_dir)?;
    let options = &lifecycle.llama_server;
    if !options.is_available() {
        return Err(Error::NoLlamaServer { unsupported: None });
    }
    let facts = FileFacts::read(&path)?;
    let program = Program::inspect(options).await?;
    let name = if is_path(model) {
        path.display().to_string()
    } else {
        model.to_owned()
    };
    let usage = ServerUsage::new(
        lifecycle.state_dir.clone(),
        path.to_string_lossy().into_owned(),
        program.path.clone(),
        display_model(&name).to_owned(),
    );
    let mut selected = ManagedModel {
        alias: alias(&name),
        name,
        path,
        facts,
        program,
        context: None,
        requested_context: None,
        timeouts,
        lifecycle,
        usage,
    };
    let warnings = selected.decide_context(context).await?;
    Ok((selected, warnings))
}

/// Returns the absolute path of a model file: of an existing one, or of that of a running
/// server, which may be named by its file name alone.
///
/// # Errors
/// Returns an error if no file has the name.
fn find(model: &str, folders: &ModelFolders, state_dir: &Path) -> Result<PathBuf, Error> {
    let found = folders.find(model);
    if !found.as_ref().is_ok_and(|path| path.exists()) {
        let mut running = RunFiles::new(state_dir).running().into_iter();
        if let Some(server) = running.find(|server| server.alias == alias(model)) {
            return Ok(server.file);
        }
    }
    let found = found?;
    Ok(std::path::absolute(&found).unwrap_or(found))
}

/// Returns the name that requests use. llama-server takes several names, separated by commas.
fn alias(name: &str) -> String {
    display_model(name).replace(',', "_")
}

impl ManagedModel {
    /// Decides on the context length, and returns warnings about it.
    ///
    /// # Errors
    /// Returns an error if the model does not fit into memory with the requested context.
    async fn decide_context(&mut self, context: Option<ContextSize>) -> Result<Vec<String>, Error> {
        let options = self.lifecycle.llama_server.clone();
        let declared = self.facts.declared_context;
        if let (None, Some(ContextSize::Percent(_))) = (declared, context) {
            return Err(Error::InvalidContext(format!(
                "the header of `{}` has no context length, so a percentage cannot be resolved; \
                 give a number of tokens",
                self.display()
            )));
        }
        let of_config = options.settings.context;
        let of_config = of_config.map(|tokens| tokens.min(declared.unwrap_or(u32::MAX)));
        let wanted = context.or(of_config.map(ContextSize::Tokens));
        let Some(declared) = declared else {
            if let Some(ContextSize::Tokens(tokens)) = wanted {
                self.context = Some(tokens);
                self.requested_context = context.map(|_| tokens);
            }
            return Ok(Vec::new());
        };
        let is_running = context.is_none() && !self.suitable_records().is_empty();
        let (tokens, warning) = match self.resolve(wanted, declared, &options).await {
            // A running server is used as it is.
            Ok((tokens, _)) if is_running => (tokens, None),
            Err(_) if is_running => {
                self.context = of_config;
                return Ok(Vec::new());
            }
            resolved => resolved?,
        };
        self.context = Some(tokens);
        self.requested_context = context.map(|_| tokens);
        Ok(warning.into_iter().collect())
    }

    /// Returns the context length that fits into memory, and a warning if it was reduced. The
    /// memory of GPUs counts only when that of the machine is not enough: asking for it takes
    /// a start of the executable.
    async fn resolve(
        &self,
        wanted: Option<ContextSize>,
        declared: u32,
        options: &LlamaServerOptions,
    ) -> Result<(u32, Option<String>), Error> {
        let slots = u64::from(slots(&options.settings));
        let of_token = self.facts.context_bytes_per_token;
        let limits = |memory| ContextLimits {
            model: self.display(),
            declared,
            tested: self.known().tested,
            memory_need: MemoryNeed {
                weight_bytes: self.facts.size_bytes,
                bytes_per_token: of_token.map(|bytes| bytes.saturating_mul(slots)),
            },
            memory,
            force: self.lifecycle.force,
        };
        let memory = Memory::detect();
        let of_machine = resolve_context(wanted, limits(memory));
        // On a Mac, the memory of the GPU is that of the machine.
        let has_devices =
            !cfg!(target_os = "macos") && options.settings.gpu_layers != Some(GpuLayers::Count(0));
        if matches!(of_machine, Ok((_, None))) || !has_devices {
            return of_machine;
        }
        let bytes = self.program.free_device_bytes().await;
        if bytes == 0 {
            return of_machine;
        }
        resolve_context(
            wanted,
            limits(Memory {
                total: memory.total.saturating_add(bytes),
                available: memory.available.saturating_add(bytes),
            }),
        )
    }

    /// Returns the running servers of the file with the same settings.
    pub(super) fn suitable_records(&self) -> Vec<ServerRecord> {
        let settings = self.settings_digest();
        let mut records = self.usage.files.running();
        records.retain(|record| record.file == self.path && record.settings == settings);
        records
    }

    /// Returns a digest of all that servers of the same file can differ in, except the context.
    pub(super) fn settings_digest(&self) -> String {
        let settings = super::options::LlamaServerSettings {
            context: None,
            ..self.lifecycle.llama_server.settings.clone()
        };
        let text = format!("{}\n{settings:?}", self.program.path.display());
        sha256_hex(text.as_bytes())
    }

    /// Returns a warning if a server has less context than requested.
    pub(super) fn context_warning(&self, effective: Option<u32>) -> Option<String> {
        let requested = self.requested_context?;
        let effective = effective.filter(|effective| *effective < requested)?;
        Some(format!(
            "requested a context of {requested} tokens, but the model is loaded with {effective}"
        ))
    }

    /// Returns what the registry knows of the model.
    pub(in crate::engine) fn known(&self) -> KnownModel {
        self.lifecycle.known_model(LLAMA_CPP, &self.name)
    }

    /// Returns the name for messages.
    fn display(&self) -> &str {
        display_model(&self.name)
    }

    pub(in crate::engine) fn version(&self) -> Option<&str> {
        self.program.version.as_deref()
    }

    /// Returns the path of the executable.
    pub(in crate::engine) fn program(&self) -> &Path {
        &self.program.path
    }

    pub(in crate::engine) fn architecture(&self) -> Option<&str> {
        self.facts.architecture.as_deref()
    }

    pub(in crate::engine) fn quantization(&self) -> Option<&str> {
        self.facts.quantization.as_deref()
    }

    pub(in crate::engine) fn declared_context(&self) -> Option<u32> {
        self.facts.declared_context
    }

    /// Returns the context length in tokens that the server of this run is expected to have.
    pub(in crate::engine) fn expected_context(&self) -> Option<u32> {
        let running = self.suitable_records();
        let wanted = self.requested_context.unwrap_or(0);
        let of_running = running
            .iter()
            .filter_map(|record| record.context)
            .filter(|context| *context >= wanted)
            .min();
        of_running.or(self.context).or(self.facts.declared_context)
    }

    /// Returns whether the model appears to be instruction-tuned: its file has a chat template.
    pub(in crate::engine) fn is_instruct(&self) -> bool {
        self.facts.has_chat_template.unwrap_or(false)
    }

    /// Returns how llama-server treats a setting, given by its snake-case name.
    pub(in crate::engine) fn support(
        &self,
        prompt: &Prompt,
        settings: &Settings,
        name: &str,
    ) -> SettingSupport {
        llama_server_support(prompt, settings, name)
    }
}
