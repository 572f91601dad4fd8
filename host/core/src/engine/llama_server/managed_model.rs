//! A model file that is selected for the engine `llama.cpp`, with the context that it will be
//! loaded with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix_inference::ContextSize;

use super::arguments::slots;
use super::file_facts::FileFacts;
use super::options::{GpuLayers, LlamaServerOptions};
use super::program::Program;
use super::run_files::{RunFiles, ServerRecord};
use super::usage::ServerUsage;
use crate::engine::context_limits::{ContextLimits, resolve_context};
use crate::engine::memory::{Memory, MemoryNeed};
use crate::engine::model_files::NamedFile;
use crate::engine::{
    ConnectTimeouts, Error, KnownModel, LLAMA_CPP, LifecycleOptions, ModelFolders, display_model,
};
use crate::store::sha256_hex;

/// A selected model file, not necessarily loaded.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ManagedModel {
    /// The name in lists: of a file outside of the known folders, its absolute path.
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
    let NamedFile { name, path, .. } = find(model, folders, &lifecycle.state_dir)?;
    let options = &lifecycle.llama_server;
    if !options.is_available() {
        return Err(Error::NoLlamaServer { unsupported: None });
    }
    let facts = FileFacts::read(&path)?;
    let program = Program::inspect(options).await?;
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

/// Returns a model file: an existing one, or that of the only running server that has the
/// file name.
///
/// # Errors
/// Returns an error if no file has the name.
fn find(model: &str, folders: &ModelFolders, state_dir: &Path) -> Result<NamedFile, Error> {
    let found = folders.find_named(model);
    // A path never means a file in another folder.
    let is_bare = Path::new(model).components().count() == 1;
    if is_bare && !found.as_ref().is_ok_and(|file| file.path.exists()) {
        let mut running = RunFiles::new(state_dir).running();
        running.retain(|server| display_model(&server.model) == model);
        if let [server] = running.as_slice() {
            return Ok(NamedFile {
                name: server.model.clone(),
                aliases: Vec::new(),
                path: server.file.clone(),
            });
        }
    }
    found
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
        if let Some(running) = self.running_context(context) {
            // Its memory is not free, and is not needed again.
            self.context = Some(running);
            self.requested_context = context.map(|_| running);
            return Ok(Vec::new());
        }
        let (tokens, warning) = self.resolve(wanted, declared, &options).await?;
        self.context = Some(tokens);
        self.requested_context = context.map(|_| tokens);
        Ok(warning.into_iter().collect())
    }

    /// Returns the context length of a running server that suits, in tokens; of a requested
    /// number of tokens, that number.
    fn running_context(&self, context: Option<ContextSize>) -> Option<u32> {
        if self.lifecycle.reload {
            return None;
        }
        let running = self.suitable_records().into_iter();
        let mut contexts = running.filter_map(|record| record.context);
        match context {
            None => contexts.min(),
            Some(ContextSize::Tokens(tokens)) if self.lifecycle.exact_context => {
                contexts.find(|context| *context == tokens)
            }
            Some(ContextSize::Tokens(tokens)) => {
                contexts.any(|context| context >= tokens).then_some(tokens)
            }
            Some(ContextSize::Percent(_)) => None,
        }
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

    /// Returns the servers of the file that have loaded it, with the same settings.
    pub(super) fn suitable_records(&self) -> Vec<ServerRecord> {
        let mut records = self.records();
        records.retain(|record| self.is_suitable(record));
        records
    }

    /// Returns the other servers of the file.
    pub(super) fn unsuitable_records(&self) -> Vec<ServerRecord> {
        let mut records = self.records();
        records.retain(|record| !self.is_suitable(record));
        records
    }

    fn records(&self) -> Vec<ServerRecord> {
        let mut records = self.usage.files.running();
        records.retain(|record| record.file == self.path);
        records
    }

    fn is_suitable(&self, record: &ServerRecord) -> bool {
        !record.url.is_empty() && record.settings == self.settings_digest()
    }

    /// Returns a digest of all that servers of the same path can differ in, except the context:
    /// the content of the file, the executable and the settings.
    pub(super) fn settings_digest(&self) -> String {
        let settings = super::options::LlamaServerSettings {
            context: None,
            ..self.lifecycle.llama_server.settings.clone()
        };
        let text = format!(
            "{}\n{:?}\n{}\n{settings:?}",
            self.facts.size_bytes,
            self.facts.modified,
            self.program.path.display()
        );
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

    /// Returns whether the file has a chat template, if that is known.
    pub(in crate::engine) fn has_chat_template(&self) -> Option<bool> {
        self.facts.has_chat_template
    }

    /// Returns whether the model appears to be instruction-tuned: its file has a chat template.
    pub(in crate::engine) fn is_instruct(&self) -> bool {
        self.facts.has_chat_template.unwrap_or(false)
    }
}
