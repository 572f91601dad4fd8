//! Selects an engine and a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix_inference::{ContextSize, SettingsLayer};

use super::embedded::select_embedded;
use super::model_file::{find_model_file, is_path};
use super::selected_model::{Backend, SelectedModel};
use super::{ConnectTimeouts, EngineSelection, Error, LifecycleOptions, server};

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
            return selected_embedded(name, context, &models_dir, &lifecycle);
        }
        EngineSelection::Auto(_)
            if name.is_some_and(|name| {
                is_path(name)
                    || cfg!(feature = "embedded") && find_model_file(name, &models_dir).is_ok()
            }) =>
        {
            return selected_embedded(name, context, &models_dir, &lifecycle);
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

fn selected_embedded(
    model: Option<&str>,
    context: Option<ContextSize>,
    models_dir: &Path,
    lifecycle: &LifecycleOptions,
) -> Result<SelectedModel, Error> {
    let selection = select_embedded(model, context, models_dir, lifecycle)?;
    Ok(SelectedModel {
        model: selection.name,
        is_demo: selection.is_demo,
        warnings: selection.warnings,
        recommended: selection.recommended,
        backend: Backend::Embedded(selection.model),
    })
}
