//! The models and the running servers of the engine, for lists.

use std::path::{Path, PathBuf};

use super::failure::LlamaServerFailure;
use super::file_facts::FileFacts;
use super::options::LlamaServerOptions;
use super::program::Program;
use super::run_files::{Control, RunFiles, ServerRecord};
use super::usage::{ends_or_is_shared, stop};
use crate::engine::lease::is_used;
use crate::engine::model_files::NamedFile;
use crate::engine::{
    CatalogEngine, CatalogModel, Error, LLAMA_CPP, LoadedInstance, ModelFolders, display_model,
};

/// The availability of llama-server.
#[derive(Debug)]
pub enum LlamaCppStatus {
    /// It runs GGUF files.
    Available {
        /// The executable.
        program: PathBuf,
        /// Its version, if reported.
        version: Option<String>,
    },
    /// There is no executable.
    NotFound,
    /// The executable cannot be used.
    Unusable(LlamaServerFailure),
}

/// Returns the availability of llama-server.
pub async fn llama_cpp_status(options: &LlamaServerOptions) -> LlamaCppStatus {
    if !options.is_available() {
        return LlamaCppStatus::NotFound;
    }
    match Program::inspect(options).await {
        Ok(program) => LlamaCppStatus::Available {
            program: program.path,
            version: program.version,
        },
        Err(failure) => LlamaCppStatus::Unusable(failure),
    }
}

/// Lists the model files of all folders with their running servers. `None` if there is no
/// llama-server.
pub(in crate::engine) async fn catalog_engine(
    folders: &ModelFolders,
    state_dir: &Path,
    options: &LlamaServerOptions,
    on_file: &mut (dyn FnMut(&Path) + Send),
) -> Option<CatalogEngine> {
    let (version, problem) = match llama_cpp_status(options).await {
        LlamaCppStatus::NotFound => return None,
        LlamaCppStatus::Available { version, .. } => (version, None),
        LlamaCppStatus::Unusable(failure) => (None, Some(failure.to_string())),
    };
    let running = RunFiles::new(state_dir).running();
    let mut models = Vec::new();
    let mut problems = Vec::new();
    for file in folders.named_files() {
        on_file(&file.path);
        // Reading blocks; an interrupt must have its turn.
        tokio::task::yield_now().await;
        match catalog_model(file) {
            Ok(model) => models.push(model),
            Err(error) => problems.push(error.to_string()),
        }
    }
    add_running(&mut models, &running);
    Some(CatalogEngine {
        version,
        problems,
        ..engine(match problem {
            None => Ok(models),
            Some(problem) => Err(problem),
        })
    })
}

/// Lists the running servers only; `None` if there are none.
#[must_use]
pub fn running_servers(state_dir: &Path) -> Option<CatalogEngine> {
    let running = RunFiles::new(state_dir).running();
    let mut models = Vec::new();
    add_running(&mut models, &running);
    (!models.is_empty()).then(|| engine(Ok(models)))
}

/// Describes a model file in any folder by its header.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a GGUF file.
pub(in crate::engine) fn catalog_file(path: &Path) -> Result<CatalogModel, Error> {
    catalog_model(NamedFile {
        name: path.display().to_string(),
        aliases: Vec::new(),
        path: path.to_owned(),
    })
}

/// Ends the servers of models: those that no process uses, or with `force` all of them.
/// Returns the models of the others; they end with their last user.
///
/// # Errors
/// Returns an error if a server does not end.
pub async fn stop_servers(
    state_dir: &Path,
    models: &[String],
    force: bool,
) -> Result<Vec<String>, Error> {
    let files = RunFiles::new(state_dir);
    let mut skipped = Vec::new();
    for server in files.running() {
        if !models.contains(&server.model) {
            continue;
        }
        let is_in_use = || is_used(state_dir, LLAMA_CPP, &server.file.to_string_lossy(), None);
        if force {
            stop(&files, &server.id, &server.model).await?;
            continue;
        }
        files.write_control(&server.id, Control::END_UNUSED)?;
        if !ends_or_is_shared(&files, &server.id, &server.model, is_in_use).await? {
            skipped.push(server.model);
        }
    }
    Ok(skipped)
}

fn engine(models: Result<Vec<CatalogModel>, String>) -> CatalogEngine {
    CatalogEngine {
        address: LLAMA_CPP.to_owned(),
        kind: LLAMA_CPP,
        display_name: "llama.cpp".to_owned(),
        version: None,
        models,
        problems: Vec::new(),
    }
}

fn catalog_model(file: NamedFile) -> Result<CatalogModel, Error> {
    let facts = FileFacts::read(&file.path)?;
    let mut model = CatalogModel {
        id: file.name,
        aliases: file.aliases,
        declared_context: facts.declared_context,
        architecture: facts.architecture,
        quantization: facts.quantization,
        size_bytes: Some(facts.size_bytes),
        context_bytes_per_token: facts.context_bytes_per_token,
        ..CatalogModel::default()
    };
    model.generates_no_text = model
        .architecture
        .as_deref()
        .is_some_and(|architecture| NO_TEXT_ARCHITECTURES.contains(&architecture));
    Ok(model)
}

/// Architectures of models for embeddings and of image encoders.
const NO_TEXT_ARCHITECTURES: [&str; 5] =
    ["bert", "nomic-bert", "jina-bert-v2", "t5encoder", "clip"];

/// Adds the running servers to the models of their files.
fn add_running(models: &mut Vec<CatalogModel>, running: &[ServerRecord]) {
    for server in running {
        let instance = LoadedInstance {
            id: server.model.clone(),
            context: server.context,
            is_owned: true,
        };
        match models.iter_mut().find(|model| model.id == server.model) {
            Some(model) => model.instances.push(instance),
            None => models.push(CatalogModel {
                id: server.model.clone(),
                aliases: vec![display_model(&server.model).to_owned()],
                size_bytes: fs_err::metadata(&server.file).ok().map(|file| file.len()),
                instances: vec![instance],
                ..CatalogModel::default()
            }),
        }
    }
}
