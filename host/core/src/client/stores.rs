//! State that runs share: the registry, and the records of owned instances.

use std::path::PathBuf;

use super::engine_selection::lm_studio_home;
use super::notices::Notices;
use super::request::LoadPolicy;
use crate::config::Config;
use crate::engine::{
    EngineSelection, KnownModel, LifecycleOptions, LlamaServerOptions, ModelFolders,
};
use crate::environment::Environment;
use crate::registry::{Registry, RegistryStore};

/// Returns the user's registry.
pub fn registry_store(env: &Environment) -> RegistryStore {
    RegistryStore::new(&env.paths.data)
}

/// Returns the folder for locks and for the record of owned instances.
pub fn ownership_folder(env: &Environment) -> PathBuf {
    env.paths.state.join("servers")
}

/// Reads the registry. An unreadable one is a warning, since an inference does not
/// need it.
pub fn read_registry(env: &Environment, notices: &Notices) -> Registry {
    match registry_store(env).read() {
        Ok(read) => {
            for warning in &read.warnings {
                notices.warning(warning);
            }
            read.registry
        }
        Err(error) => {
            notices.warning(&crate::error_chain::error_chain(&error));
            Registry::default()
        }
    }
}

/// Returns the folders that hold model files: those of this program, LM Studio and Ollama.
pub fn model_folders(env: &Environment) -> ModelFolders {
    let lm_studio = lm_studio_home(env).map(|home| home.join("models"));
    let variable = |name: &str| {
        let value = env.all_variables.get(name)?;
        Some(PathBuf::from(value.expose()))
    };
    let of_user = variable("HOME").or_else(|| variable("USERPROFILE"));
    let ollama = [
        variable("OLLAMA_MODELS"),
        of_user.map(|home| home.join(".ollama/models")),
        // Of the service that Ollama's installer for Linux sets up.
        cfg!(target_os = "linux").then(|| PathBuf::from("/usr/share/ollama/.ollama/models")),
    ];
    ModelFolders {
        own: env.paths.data.join("models"),
        lm_studio: lm_studio.filter(|folder| folder.is_dir()),
        ollama: ollama.into_iter().flatten().find(|folder| folder.is_dir()),
    }
}

/// Returns the folders of the model files that a selection of engines stands for: those of
/// other programs only if the engine is `llama.cpp`, since a server may have them, too.
pub fn selected_folders(env: &Environment, selection: &EngineSelection) -> ModelFolders {
    let all = model_folders(env);
    match selection {
        EngineSelection::LlamaCpp => all,
        _ => ModelFolders {
            own: all.own,
            ..ModelFolders::default()
        },
    }
}

/// Returns how llama-server is found and started.
pub fn llama_server_options(env: &Environment, config: &Config) -> LlamaServerOptions {
    let configured = config.llama_server_command.as_ref();
    let program = match configured {
        // A bare name is looked for on the PATH, as a shell does.
        Some(command) if command.components().count() == 1 => command
            .to_str()
            .and_then(|name| on_path(name, env))
            .or_else(|| Some(command.clone())),
        // The server runs in another folder.
        Some(command) => std::path::absolute(command).ok(),
        None => on_path("llama-server", env),
    };
    LlamaServerOptions {
        program,
        is_configured: configured.is_some(),
        supervisor: env.helper.clone(),
        cache_dir: env.paths.cache.clone(),
        settings: config.llama_server.clone(),
    }
}

/// Returns how models are loaded by commands that only list them.
pub fn listing_options(env: &Environment, config: &Config) -> LifecycleOptions {
    LifecycleOptions {
        state_dir: ownership_folder(env),
        llama_server: llama_server_options(env, config),
        lms_path: lms_program(env),
        ..LifecycleOptions::default()
    }
}

/// Returns how models are loaded in this run, and what the registry knows of them.
pub fn lifecycle_options(
    policy: LoadPolicy,
    env: &Environment,
    config: &Config,
    registry: &Registry,
) -> LifecycleOptions {
    let mut options = LifecycleOptions {
        reload: policy.reload,
        force: policy.force,
        ttl: policy.ttl,
        keep_loaded: policy.keep_loaded,
        ..listing_options(env, config)
    };
    for (place, id, record) in registry.models() {
        let facts = KnownModel {
            tested: record.tested.as_ref().map(|it| it.context),
            size_bytes: record.size_bytes,
            context_bytes_per_token: record.context_bytes_per_token,
            tokens_per_byte: record.tokens_per_byte_median(),
        };
        if facts != KnownModel::default() {
            let place = options.known_models.entry(place.to_owned()).or_default();
            place.insert(id.to_owned(), facts);
        }
    }
    options
}

/// Returns LM Studio's command-line program, if it is on the PATH.
pub fn lms_program(env: &Environment) -> Option<PathBuf> {
    on_path("lms", env)
}

/// Returns a program on the PATH.
fn on_path(name: &str, env: &Environment) -> Option<PathBuf> {
    let path = env.all_variables.get("PATH")?;
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path.expose())
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
}
