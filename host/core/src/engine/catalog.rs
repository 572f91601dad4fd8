//! Lists all engines with their models, for `scan`, `ps` and `doctor`, and unloads
//! instances.

use std::path::Path;

use super::server::{self, ServerAddress};
use super::{
    ConnectTimeouts, EMBEDDED, EngineSelection, Error, LLAMA_CPP, LifecycleOptions, ModelFolders,
    embedded, llama_server, ownership,
};

/// A loaded instance of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedInstance {
    /// The instance's name on the server.
    pub id: String,
    /// The effective context length, in tokens, if known.
    pub context: Option<u32>,
    /// True if this program loaded it.
    pub is_owned: bool,
}

/// A model that an engine can run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogModel {
    /// The model's name, as `-m` takes it.
    pub id: String,
    /// Other names of exactly this model.
    pub aliases: Vec<String>,
    /// The declared context length, in tokens.
    pub declared_context: Option<u32>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// The quantization of the weights.
    pub quantization: Option<String>,
    /// The size on disk, in bytes.
    pub size_bytes: Option<u64>,
    /// Memory for one token of context, in bytes.
    pub context_bytes_per_token: Option<u64>,
    /// Whether the model takes images, if known.
    pub vision: Option<bool>,
    /// True if the model was trained to call tools.
    pub tools: bool,
    /// True if the model does not generate text: for embeddings, ranking or speech.
    pub generates_no_text: bool,
    /// The loaded instances.
    pub instances: Vec<LoadedInstance>,
}

/// An engine and its models.
#[derive(Clone, Debug)]
pub struct CatalogEngine {
    /// A server's address, `llama.cpp` or `embedded`.
    pub address: String,
    /// `lmstudio`, `ollama`, …
    pub kind: &'static str,
    /// The engine's name for messages, with its address.
    pub display_name: String,
    /// The engine's version, if known.
    pub version: Option<String>,
    /// The models, or the message of the error that prevented listing them.
    pub models: Result<Vec<CatalogModel>, String>,
    /// Messages about files that could not be used as models.
    pub problems: Vec<String>,
}

/// All engines found.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The engines in the order of their addresses; the embedded engine is last.
    pub engines: Vec<CatalogEngine>,
    /// The error if no server was found.
    pub server_error: Option<Error>,
}

/// Queries all engines for their models. `folders` hold model files, and `lifecycle` says how
/// they run and which folder holds the ownership records. `on_file` is called with each model
/// file before it is read.
///
/// An engine that fails does not affect the others: its error is part of the
/// result.
pub async fn query_catalog(
    selection: &EngineSelection,
    folders: &ModelFolders,
    lifecycle: &LifecycleOptions,
    timeouts: ConnectTimeouts,
    on_file: &mut (dyn FnMut(&Path) + Send),
) -> Catalog {
    let (addresses, is_explicit): (&[ServerAddress], bool) = match selection {
        EngineSelection::Embedded | EngineSelection::LlamaCpp => (&[], false),
        EngineSelection::Servers(addresses) => (addresses, addresses.len() == 1),
        EngineSelection::Auto(addresses) => (addresses, false),
    };
    let mut catalog = Catalog::default();
    if !addresses.is_empty() {
        match server::catalog_servers(addresses, is_explicit, timeouts).await {
            Ok(servers) => catalog.engines = servers,
            Err(error) => catalog.server_error = Some(error),
        }
    }
    for engine in &mut catalog.engines {
        let records = ownership::read_unlocked(&lifecycle.state_dir, &engine.address);
        for model in engine.models.iter_mut().flatten() {
            for instance in &mut model.instances {
                instance.is_owned = ownership::is_owned(&records, &instance.id, instance.context);
            }
        }
    }
    let mut files = folders.own_files();
    if matches!(
        selection,
        EngineSelection::LlamaCpp | EngineSelection::Auto(_)
    ) {
        let options = &lifecycle.llama_server;
        let engine =
            llama_server::catalog_engine(folders, &lifecycle.state_dir, options, on_file).await;
        match (engine, selection) {
            (Some(engine), _) => {
                // Each file is listed at the engine that runs it.
                if engine.models.is_ok() {
                    files.clear();
                }
                catalog.engines.push(engine);
            }
            (None, EngineSelection::LlamaCpp) => {
                catalog.server_error = Some(Error::NoLlamaServer { unsupported: None });
            }
            (None, _) => {}
        }
    }
    if matches!(
        selection,
        EngineSelection::Embedded | EngineSelection::Auto(_)
    ) {
        let engine = embedded::catalog_engine(files, on_file);
        catalog.engines.extend(engine);
    }
    catalog
}

/// Returns the engine that runs model files.
#[must_use]
pub fn file_engine(selection: &EngineSelection, lifecycle: &LifecycleOptions) -> &'static str {
    match selection {
        EngineSelection::LlamaCpp => LLAMA_CPP,
        EngineSelection::Auto(_) if lifecycle.llama_server.is_available() => LLAMA_CPP,
        _ => EMBEDDED,
    }
}

impl CatalogModel {
    /// Reads the header of a model file in any folder, for the engine `embedded` or
    /// `llama.cpp`.
    ///
    /// # Errors
    /// Returns an error if the engine cannot run the file.
    pub fn from_file(path: &Path, engine: &str) -> Result<Self, Error> {
        match engine {
            LLAMA_CPP => llama_server::catalog_file(path),
            _ => embedded::catalog_file(path),
        }
    }
}

/// Unloads instances of a server: those that this program loaded, or with `force`
/// all of them. Returns the names of the instances that were not unloaded.
/// `instances` are pairs of model name and instance. `lms_path` is LM Studio's own
/// program, used if the server is too old to unload models.
///
/// # Errors
/// Returns an error if the server cannot unload an instance or cannot be reached.
pub async fn unload(
    address: &ServerAddress,
    instances: &[(String, LoadedInstance)],
    force: bool,
    state_dir: &Path,
    lms_path: Option<&Path>,
    timeouts: ConnectTimeouts,
) -> Result<Vec<String>, Error> {
    server::unload_instances(address, instances, force, state_dir, lms_path, timeouts).await
}
