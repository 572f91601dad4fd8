//! State that runs share: the registry, and the records of owned instances.

use std::path::PathBuf;

use super::notices::Notices;
use super::request::LoadPolicy;
use crate::engine::{KnownModel, LifecycleOptions};
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

/// Returns how models are loaded in this run, and what the registry knows of them.
pub fn lifecycle_options(
    policy: LoadPolicy,
    env: &Environment,
    registry: &Registry,
) -> LifecycleOptions {
    let mut options = LifecycleOptions {
        state_dir: ownership_folder(env),
        reload: policy.reload,
        force: policy.force,
        ttl: policy.ttl,
        exact_context: false,
        lms_path: lms_program(env),
        ..LifecycleOptions::default()
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
