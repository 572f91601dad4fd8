//! What earlier runs taught, as engines and commands take it.

use std::path::PathBuf;

use crate::args::Model;
use crate::engine::{Facts, Life};
use crate::environment::Env;
use crate::registry::{Registry, Store};
use crate::sink::Messages;

/// The registry of this user.
pub(in super::super) fn store(env: &Env) -> Store {
    Store::new(&env.paths.data)
}

/// The folder for locks and claims.
pub(in super::super) fn claims(env: &Env) -> PathBuf {
    env.paths.state.join("servers")
}

/// What is known, as far as it can be read: an inference needs none of it.
pub(in super::super) fn known(env: &Env, messages: Messages) -> Registry {
    match store(env).read() {
        Ok(known) => {
            for warning in &known.warnings {
                messages.warning(warning);
            }
            known.registry
        }
        Err(error) => {
            messages.warning(&crate::error::chain(&error));
            Registry::default()
        }
    }
}

/// How models are loaded in this run.
pub(in super::super) fn life(model: &Model, env: &Env, registry: &Registry) -> Life {
    let mut life = Life {
        state: claims(env),
        reload: model.reload,
        force: model.force,
        exact: false,
        lms: lms(env),
        ..Life::default()
    };
    for (place, id, record) in registry.models() {
        let facts = Facts {
            tested: record.tested.as_ref().map(|it| it.context),
            size_bytes: record.size_bytes,
            context_bytes_per_token: record.context_bytes_per_token,
            tokens_per_byte: record.tokens_per_byte.median(),
        };
        if facts != Facts::default() {
            let place = life.known.entry(place.to_owned()).or_default();
            place.insert(id.to_owned(), facts);
        }
    }
    life
}

/// LM Studio's own program, where the user's shell would find it.
pub(in super::super) fn lms(env: &Env) -> Option<PathBuf> {
    on_path("lms", env)
}

/// A program that the user's shell would find.
fn on_path(name: &str, env: &Env) -> Option<PathBuf> {
    let path = env.others.get("PATH")?;
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path.expose())
        .filter(|it| it.is_absolute())
        .map(|it| it.join(&name))
        .find(|it| it.is_file())
}
