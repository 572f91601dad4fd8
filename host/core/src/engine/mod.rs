//! Engines: selects an engine and a model, loads models, and runs inferences as
//! streams of events.
//!
//! HTTP and JSON wire types stay private to this module. It does not depend on
//! packs or sinks.

mod catalog;
mod context;
mod error;
mod hub;
mod lifecycle;
mod local;
mod memory;
mod ownership;
mod reasoning;
mod server;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;

use crate::suggest::similar_names;
pub use catalog::{Catalog, CatalogEngine, CatalogModel, LoadedInstance, query_catalog, unload};
pub use error::Error;
pub use hub::{DEFAULT_HUB_URL, Hub, HubError, HubReference, PullProgress, PullResult};
pub use lifecycle::{KnownModel, LifecycleOptions};
use lmstrix_gguf::ModelFile;
use lmstrix_inference::{ContextSize, Event, Prompt, SettingSupport, Settings, SettingsLayer};
pub use memory::{Memory, format_bytes, process_start_time};
pub use server::{ConnectTimeouts, FaultKind, InvalidUrl, ServerAddress, ServerFault, ServerKind};
pub use stream::InferenceStream;

/// The `--engine` value that selects the embedded engine.
pub const EMBEDDED: &str = "embedded";
/// The `--engine` value that selects an engine automatically.
pub const AUTO: &str = "auto";
/// The name of the built-in demo model.
pub const DEMO: &str = "demo";

/// Formats a duration in seconds, such as `2.5 s`.
#[must_use]
pub fn format_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// The engines to select from.
#[derive(Clone, Debug)]
pub enum EngineSelection {
    /// The embedded engine of this process.
    Embedded,
    /// The servers at these addresses. A single address must answer; of several,
    /// those that do not answer are skipped.
    Servers(Vec<ServerAddress>),
    /// The embedded engine for model files, else the servers that answer at these
    /// addresses.
    Auto(Vec<ServerAddress>),
}

impl EngineSelection {
    /// Returns whether a path to a GGUF file means the embedded engine. An engine that
    /// was named decides where a name is looked up: a server's model may be called
    /// like its file.
    #[must_use]
    pub fn can_mean_file(&self) -> bool {
        !matches!(self, Self::Servers(_))
    }

    /// Returns the servers that may answer.
    #[must_use]
    pub fn servers(&self) -> &[ServerAddress] {
        match self {
            Self::Embedded => &[],
            Self::Servers(servers) | Self::Auto(servers) => servers,
        }
    }
}

/// Returns whether an engine's address is on this machine.
#[must_use]
pub fn is_local(address: &str) -> bool {
    address == EMBEDDED || ServerAddress::parse(address).is_ok_and(|address| address.is_loopback())
}

/// The input of [`select_model`].
#[derive(Clone, Debug)]
pub struct ModelQuery {
    /// The engines to select from.
    pub selection: EngineSelection,
    /// The model that was requested.
    pub model: Option<String>,
    /// The model to use if none was requested and not exactly one is loaded.
    pub default_model: Option<String>,
    /// The requested context size.
    pub context: Option<ContextSize>,
    /// The folder of the embedded engine's model files.
    pub models_dir: PathBuf,
    /// Limits on connecting to servers.
    pub timeouts: ConnectTimeouts,
    /// The model that was used last, used if nothing else decides.
    pub last_used: Option<String>,
    /// How to load models, and what the registry knows about them.
    pub lifecycle: LifecycleOptions,
}

/// A selected model, not necessarily loaded.
#[derive(Debug)]
pub struct SelectedModel {
    /// The model's name, for reports.
    pub model: String,
    /// True for the built-in demo model, whose answers are not meaningful.
    pub is_demo: bool,
    /// Warnings about the selection, to be shown to the user.
    pub warnings: Vec<String>,
    recommended: SettingsLayer,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Embedded {
        file: Arc<ModelFile>,
        context: u32,
        requested_context: Option<u32>,
    },
    Server(Box<server::ServerTarget>),
}

/// Selects an engine and a model: queries the servers, or reads the header of a
/// model file. Does not load the model.
///
/// # Errors
/// Returns an error if the engine or the model does not exist or cannot be used.
pub async fn select_model(query: ModelQuery) -> Result<SelectedModel, Error> {
    let ModelQuery {
        selection,
        model,
        default_model,
        context,
        models_dir,
        timeouts,
        last_used,
        lifecycle,
    } = query;
    let lifecycle = Arc::new(lifecycle);
    let name = model.as_deref().or(default_model.as_deref());
    let (addresses, is_explicit) = match selection {
        EngineSelection::Embedded => {
            return select_embedded(name, context, &models_dir, &lifecycle);
        }
        EngineSelection::Auto(_)
            if name.is_some_and(|name| {
                is_path(name) || find_model_file(name, &models_dir).is_ok()
            }) =>
        {
            return select_embedded(name, context, &models_dir, &lifecycle);
        }
        EngineSelection::Servers(addresses) => {
            let is_explicit = addresses.len() == 1;
            (addresses, is_explicit)
        }
        EngineSelection::Auto(addresses) => (addresses, false),
    };
    let target = server::select_target(
        &addresses,
        is_explicit,
        server::ModelNames {
            requested: model.as_deref(),
            fallback: default_model.as_deref(),
            last_used: last_used.as_deref(),
        },
        context,
        timeouts,
        lifecycle,
    )
    .await?;
    Ok(SelectedModel {
        model: target.model().to_owned(),
        is_demo: false,
        warnings: Vec::new(),
        recommended: SettingsLayer::default(),
        backend: Backend::Server(Box::new(target)),
    })
}

fn select_embedded(
    model: Option<&str>,
    context: Option<ContextSize>,
    models_dir: &Path,
    lifecycle: &LifecycleOptions,
) -> Result<SelectedModel, Error> {
    let (name, is_demo, file) = match model {
        None | Some(DEMO) => (
            DEMO.to_owned(),
            true,
            ModelFile::from_bytes(DEMO, lmstrix_gguf::DEMO_MODEL)?,
        ),
        Some(path) if is_path(path) => {
            let given_path = Path::new(path);
            // A bare file name can also refer to a file in the models folder.
            let models_path = models_dir.join(path);
            let is_in_models_dir =
                !given_path.exists() && !path.contains('/') && models_path.exists();
            let file = ModelFile::open(if is_in_models_dir {
                &models_path
            } else {
                given_path
            })?;
            (path.to_owned(), false, file)
        }
        Some(name) => (
            name.to_owned(),
            false,
            ModelFile::open(&find_model_file(name, models_dir)?)?,
        ),
    };
    file.check_supported()?;
    let (recommended, mut warnings) = drop_invalid_settings(file.recommended_settings());
    let limits = context::ContextLimits {
        model: &name,
        declared: file.context_length(),
        tested: lifecycle.known_model(EMBEDDED, &name).tested,
        memory_need: memory::MemoryNeed {
            weight_bytes: file.weight_memory_bytes(),
            bytes_per_token: Some(file.kv_cache_bytes_per_token()),
        },
        memory: Memory::detect(),
        force: lifecycle.force,
    };
    let (tokens, context_warning) = context::resolve_context(context, limits)?;
    warnings.extend(context_warning);
    Ok(SelectedModel {
        model: name,
        is_demo,
        warnings,
        recommended,
        backend: Backend::Embedded {
            file: Arc::new(file),
            context: tokens,
            requested_context: context.map(|_| tokens),
        },
    })
}

/// Removes settings recommended by the model file that are out of range. Returns
/// the remaining settings and a warning for each removed one.
fn drop_invalid_settings(mut layer: SettingsLayer) -> (SettingsLayer, Vec<String>) {
    let mut warnings = Vec::new();
    while let Err(error) = layer.check() {
        warnings.push(format!("ignored a setting of the model file: {error}"));
        layer.clear(&error.name);
    }
    (layer, warnings)
}

/// Returns whether a model name is the path of a GGUF file.
fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        || path.is_absolute()
        || model.starts_with("./")
        || model.starts_with("../")
}

/// Returns the path of the model file `NAME.gguf` in the models folder.
fn find_model_file(name: &str, models_dir: &Path) -> Result<PathBuf, Error> {
    let mut available: Vec<String> = fs::read_dir(models_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "gguf")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    // Only exact names match: a part of a name must not load another model.
    if available.iter().any(|model| model == name) {
        return Ok(models_dir.join(format!("{name}.gguf")));
    }
    available.push(DEMO.to_owned());
    available.sort();
    Err(Error::UnknownModel {
        name: name.to_owned(),
        similar: similar_names(name, available.iter().map(String::as_str)),
        models_dir: models_dir.to_owned(),
    })
}

impl SelectedModel {
    /// Returns the engine's kind, for reports: `lmstudio`, `ollama`, …, or
    /// `embedded`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match &self.backend {
            Backend::Embedded { .. } => EMBEDDED,
            Backend::Server(target) => target.engine_name(),
        }
    }

    /// Returns the base URL of the server, or `embedded`.
    #[must_use]
    pub fn address(&self) -> &str {
        match &self.backend {
            Backend::Embedded { .. } => EMBEDDED,
            Backend::Server(target) => target.base_url(),
        }
    }

    /// Returns the engine's name for messages, with its address.
    #[must_use]
    pub fn display_name(&self) -> String {
        match &self.backend {
            Backend::Embedded { .. } => "the embedded engine".to_owned(),
            Backend::Server(target) => target.display_name(),
        }
    }

    /// Returns the engine's version, if known.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.backend {
            Backend::Embedded { .. } => Some(env!("CARGO_PKG_VERSION")),
            Backend::Server(target) => target.version(),
        }
    }

    /// Returns the model's `general.architecture`, if known.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        match &self.backend {
            Backend::Embedded { file, .. } => Some(file.architecture()),
            Backend::Server(target) => target.architecture(),
        }
    }

    /// Returns the quantization by its llama.cpp name, if known.
    #[must_use]
    pub fn quantization(&self) -> Option<String> {
        match &self.backend {
            Backend::Embedded { file, .. } => Some(file.quantization()),
            Backend::Server(target) => target.quantization().map(str::to_owned),
        }
    }

    /// Returns the largest context that this run would load the model with, in
    /// tokens, if known.
    #[must_use]
    pub fn expected_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded { context, .. } => Some(*context),
            Backend::Server(target) => target.expected_context(),
        }
    }

    /// Returns the model's declared context length, in tokens, if known.
    #[must_use]
    pub fn declared_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded { file, .. } => Some(file.context_length()),
            Backend::Server(target) => target.declared_context(),
        }
    }

    /// Returns whether the model can be loaded with a requested context.
    #[must_use]
    pub fn can_set_context(&self) -> bool {
        match &self.backend {
            Backend::Embedded { .. } => true,
            Backend::Server(target) => target.can_set_context(),
        }
    }

    /// Returns the requested context, in tokens.
    #[must_use]
    pub fn requested_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded {
                requested_context: asked,
                ..
            } => *asked,
            Backend::Server(target) => target.requested_context(),
        }
    }

    /// Returns the sampling settings that the model file recommends. Empty for
    /// servers, which apply them themselves.
    #[must_use]
    pub fn recommended(&self) -> SettingsLayer {
        self.recommended.clone()
    }

    /// Returns whether the model appears to be instruction-tuned.
    #[must_use]
    pub fn is_instruct(&self) -> bool {
        match &self.backend {
            Backend::Embedded { file, .. } => file.chat_template().is_some(),
            Backend::Server(target) => target.is_instruct(),
        }
    }

    /// Returns how the engine treats a setting, given by its snake-case name.
    #[must_use]
    pub fn support(&self, prompt: &Prompt, settings: &Settings, name: &str) -> SettingSupport {
        match &self.backend {
            Backend::Embedded { file, .. } => file.setting_support(name),
            Backend::Server(target) => target.support(prompt, settings, name),
        }
    }

    /// Returns the context, if known, of an instance that another program loaded
    /// and that a load with another context would replace. Returns `None` if
    /// there is no such instance.
    #[must_use]
    pub fn replaced_foreign_context(&self) -> Option<Option<u32>> {
        match &self.backend {
            Backend::Embedded { .. } => None,
            Backend::Server(target) => target.replaced_foreign_context(),
        }
    }

    /// Returns an unloader for all instances of the model that this process
    /// loaded, including one that is still loading. Used after an interrupt.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.backend {
            Backend::Embedded { .. } => None,
            Backend::Server(target) => Some((target.clone(), None)),
        })
    }

    /// Loads the model unless it is loaded already, and reports progress to
    /// `emit`. Has no timeout of its own. The embedded engine loads the weights
    /// with the first inference.
    ///
    /// # Errors
    /// Returns an error if the server cannot load the model or cannot be reached.
    pub async fn load(self, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Instance, Error> {
        let mut worker = None;
        let (instance, warnings) = match &self.backend {
            Backend::Embedded { file, context, .. } => {
                worker = Some(local::Worker::start(Arc::clone(file), *context)?);
                let instance = server::ServerInstance {
                    id: self.model.clone(),
                    context: Some(*context),
                    declared: Some(file.context_length()),
                    ..server::ServerInstance::default()
                };
                (instance, Vec::new())
            }
            Backend::Server(target) => {
                let mut instance = target.ensure_loaded(emit).await?;
                let warnings = std::mem::take(&mut instance.warnings);
                (instance, warnings)
            }
        };
        Ok(Instance {
            selected: self,
            instance,
            worker,
            warnings,
        })
    }
}

/// A loaded model. It can run any number of inferences.
#[derive(Debug)]
pub struct Instance {
    /// The selected model.
    pub selected: SelectedModel,
    /// Warnings about the instance, to be shown to the user.
    pub warnings: Vec<String>,
    instance: server::ServerInstance,
    /// The embedded engine's thread.
    worker: Option<local::Worker>,
}

impl Instance {
    /// Returns the instance's name on its server.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.instance.id
    }

    /// Returns the effective context length, in tokens, if known.
    #[must_use]
    pub fn context(&self) -> Option<u32> {
        self.instance.context
    }

    /// Returns the model's declared context length, in tokens, if known.
    #[must_use]
    pub fn declared_context(&self) -> Option<u32> {
        self.instance.declared
    }

    /// Returns the load time in seconds, if this run loaded the instance.
    #[must_use]
    pub fn load_s(&self) -> Option<f64> {
        self.instance.load_s
    }

    /// Returns whether this run loaded the instance.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.instance.is_owned
    }

    /// Returns an unloader for the instance.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.selected.backend {
            Backend::Embedded { .. } => None,
            Backend::Server(target) => Some((target.clone(), Some(self.instance.clone()))),
        })
    }

    /// Renders the chat template: returns the exact text that the model would
    /// receive, if the engine can tell.
    pub async fn render_prompt(&self, prompt: &Prompt, settings: &Settings) -> Option<String> {
        match &self.selected.backend {
            Backend::Embedded { file, .. } => {
                let reasoning = settings
                    .reasoning
                    .as_ref()
                    .map(|reasoning| reasoning.value.as_str());
                file.render(prompt, reasoning).ok()
            }
            Backend::Server(target) => target.render_prompt(prompt, &self.instance).await,
        }
    }

    /// Returns the number of inferences that the instance runs in parallel, if the
    /// server reports it. The embedded engine runs one at a time.
    pub async fn parallel_slots(&self) -> Option<u32> {
        match &self.selected.backend {
            Backend::Embedded { .. } => Some(1),
            Backend::Server(target) => target.parallel_slots(&self.instance).await,
        }
    }

    /// Starts an inference. Dropping the stream cancels it, also on the server.
    ///
    /// # Errors
    /// Returns an error if the embedded engine's thread has stopped.
    pub fn infer(&self, request: InferenceRequest) -> Result<InferenceStream, Error> {
        match (&self.selected.backend, &self.worker) {
            (Backend::Server(target), _) => {
                Ok(target.clone().infer(self.instance.clone(), request))
            }
            (Backend::Embedded { .. }, Some(worker)) => worker.infer(request),
            (Backend::Embedded { .. }, None) => {
                Err(Error::EngineStopped("its thread is not running".to_owned()))
            }
        }
    }
}

/// Unloads instances that this program loaded: one, or all of a model if no
/// instance is set. `None` for engines without unloading.
#[derive(Debug)]
pub struct Unloader(Option<(Box<server::ServerTarget>, Option<server::ServerInstance>)>);

impl Unloader {
    /// Unloads the instance if this program loaded it, in this run or an earlier
    /// one. Returns whether an instance was unloaded, or `None` for an engine that
    /// has nothing to unload.
    ///
    /// # Errors
    /// Returns an error if the server cannot unload it or cannot be reached.
    pub async fn unload(&self) -> Result<Option<bool>, Error> {
        match &self.0 {
            None => Ok(None),
            Some((target, Some(instance))) => target.unload_if_owned(instance).await.map(Some),
            Some((target, None)) => target.unload_loaded_by_process().await.map(Some),
        }
    }
}

/// The input of one inference.
#[derive(Clone, Debug)]
pub struct InferenceRequest {
    /// The messages or the raw text to send.
    pub prompt: Prompt,
    /// The settings to send.
    pub settings: Settings,
    /// True if a thinking span at the start of the answer is reported as reasoning.
    pub split_reasoning: bool,
    /// Names of settings that the engine must support (`--strict`).
    pub required_settings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_recommended_settings_are_dropped() {
        let recommended = SettingsLayer {
            temperature: Some(0.5),
            top_p: Some(7.0),
            repeat_penalty: Some(0.0),
            ..SettingsLayer::default()
        };
        let (layer, warnings) = drop_invalid_settings(recommended);
        assert_eq!(
            (layer.temperature, layer.top_p, layer.repeat_penalty),
            (Some(0.5), None, None)
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}
