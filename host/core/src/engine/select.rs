//! Selects an engine and a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use lmstrix_inference::{ContextSize, SettingsLayer};

use super::embedded::select_embedded;
use super::selected_model::{Backend, SelectedModel};
use super::{ConnectTimeouts, DEMO, EngineSelection, Error, LifecycleOptions, server};
use crate::suggest::similar_names;

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

/// Returns whether a model name is the path of a GGUF file.
pub(super) fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        || path.is_absolute()
        || model.starts_with("./")
        || model.starts_with("../")
}

/// Returns the path of the model file `NAME.gguf` in the models folder.
pub(super) fn find_model_file(name: &str, models_dir: &Path) -> Result<PathBuf, Error> {
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
