//! Selects an engine and a model.

use std::sync::Arc;

use lmstrix_inference::{ContextSize, SettingsLayer};

use super::embedded::select_embedded;
use super::embedded_fault::{EmbeddedFault, embedded_fault};
use super::llama_server::{LlamaServerFault, running_servers, select_managed};
use super::model_files::is_path;
use super::selected_model::{Backend, SelectedModel};
use super::server::{self, ServerAddress};
use super::{
    ConnectTimeouts, EMBEDDED, EngineSelection, Error, LLAMA_CPP, LifecycleOptions, ModelFolders,
    file_engine,
};

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
    /// The folders that hold model files.
    pub folders: ModelFolders,
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
    let query = Query {
        lifecycle: Arc::new(query.lifecycle.clone()),
        query,
    };
    match &query.query.selection {
        EngineSelection::Embedded => query.embedded(query.name()),
        EngineSelection::LlamaCpp => query.llama_cpp().await,
        EngineSelection::Servers(addresses) => {
            query.of_servers(addresses, addresses.len() == 1).await
        }
        EngineSelection::Auto(addresses) => query.automatic(addresses).await,
    }
}

/// A query with its options in the form that all engines share.
struct Query {
    query: ModelQuery,
    lifecycle: Arc<LifecycleOptions>,
}

impl Query {
    /// Returns the name of the requested or the configured model.
    fn name(&self) -> Option<&str> {
        let ModelQuery {
            model,
            default_model,
            ..
        } = &self.query;
        model.as_deref().or(default_model.as_deref())
    }

    async fn of_servers(
        &self,
        addresses: &[ServerAddress],
        is_explicit: bool,
    ) -> Result<SelectedModel, Error> {
        let query = &self.query;
        let target = server::select_target(
            addresses,
            is_explicit,
            server::ModelNames {
                requested: query.model.as_deref(),
                fallback: query.default_model.as_deref(),
                last_used: query.last_used.as_deref(),
            },
            query.context,
            query.timeouts,
            Arc::clone(&self.lifecycle),
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

    fn embedded(&self, model: Option<&str>) -> Result<SelectedModel, Error> {
        let ModelQuery {
            context, folders, ..
        } = &self.query;
        let selection = select_embedded(model, *context, folders, &self.lifecycle)?;
        Ok(SelectedModel {
            model: selection.name,
            is_demo: selection.is_demo,
            warnings: selection.warnings,
            recommended: selection.recommended,
            backend: Backend::Embedded(selection.model),
        })
    }

    async fn managed(&self, model: &str) -> Result<SelectedModel, Error> {
        let ModelQuery {
            context,
            folders,
            timeouts,
            ..
        } = &self.query;
        let lifecycle = Arc::clone(&self.lifecycle);
        let (managed, warnings) =
            select_managed(model, *context, folders, *timeouts, lifecycle).await?;
        Ok(SelectedModel {
            model: managed.name.clone(),
            is_demo: false,
            warnings,
            // llama-server applies the settings of the file itself.
            recommended: SettingsLayer::default(),
            backend: Backend::Managed(Box::new(managed)),
        })
    }

    /// Selects a model file, else the only running server.
    async fn llama_cpp(&self) -> Result<SelectedModel, Error> {
        if let Some(name) = self.name() {
            return self.managed(name).await;
        }
        let running = self.running_models();
        match running.as_slice() {
            [only] => self.managed(only).await,
            _ => Err(Error::ModelNotSpecified {
                engine: LLAMA_CPP.to_owned(),
                loaded: running,
                not_loaded: self.query.folders.names(),
            }),
        }
    }

    /// Selects a model file, else a model of the servers, else a file in the folder of
    /// another program.
    async fn automatic(&self, addresses: &[ServerAddress]) -> Result<SelectedModel, Error> {
        let folders = &self.query.folders;
        let can_run_files =
            cfg!(feature = "embedded") || self.lifecycle.llama_server.is_available();
        let name = self.name();
        if let Some(name) = name
            && (is_path(name) || can_run_files && folders.find_own(name).is_some())
        {
            return self.file(name).await;
        }
        match (self.of_servers(addresses, false).await, name) {
            (Err(Error::NoEngine { .. } | Error::UnknownServerModel { .. }), Some(name))
                if can_run_files && folders.find(name).is_ok() =>
            {
                self.file(name).await
            }
            (Err(Error::NoEngine { .. }), None) if self.running_models().len() == 1 => {
                self.llama_cpp().await
            }
            (selected, _) => selected,
        }
    }

    /// Returns the models of the running llama-servers of this program.
    fn running_models(&self) -> Vec<String> {
        let running = running_servers(&self.lifecycle.state_dir);
        let models = running.and_then(|engine| engine.models.ok());
        let models = models.into_iter().flatten();
        models.map(|model| model.id).collect()
    }

    /// Selects a model file for a llama-server if there is one, else for the embedded engine.
    async fn file(&self, name: &str) -> Result<SelectedModel, Error> {
        if file_engine(&self.query.selection, &self.lifecycle) == EMBEDDED {
            return self.embedded(Some(name)).map_err(|error| match error {
                Error::Embedded(error) if embedded_fault(&error) == EmbeddedFault::Unsupported => {
                    Error::NoLlamaServer {
                        unsupported: Some(error),
                    }
                }
                error => error,
            });
        }
        let failure = match self.managed(name).await {
            Err(Error::LlamaServer(failure)) => failure,
            selected => return selected,
        };
        let is_unusable = matches!(
            failure.fault,
            LlamaServerFault::NotStarted(_) | LlamaServerFault::Lacks(_)
        );
        let embedded = match is_unusable && !self.lifecycle.llama_server.is_configured {
            true => self.embedded(Some(name)),
            false => return Err(Error::LlamaServer(failure)),
        };
        let mut selected = embedded.map_err(|_| Error::LlamaServer(failure.clone()))?;
        let warning = format!("{failure}; using the embedded engine, which is slower");
        selected.warnings.push(warning);
        Ok(selected)
    }
}
