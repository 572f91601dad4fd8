//! Selects and loads the models of a run.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use lmstrix_inference::{ContextSize, Event};

use super::backend::{LeftBehind, LoadError, LoadErrorKind, Loaded};
use super::batch_model::BatchModel;
use super::contexts::ModelContext;
use super::event::{BatchEvent, SharedObserver};
use crate::batch::PlanContext;
use crate::engine::{
    self, ConnectTimeouts, EngineSelection, Instance, LLAMA_CPP, LifecycleOptions, ModelFolders,
    ModelQuery, SelectedModel, select_model,
};
use crate::error::Error;
use crate::error_chain::error_chain;
use crate::job::{self, Cancel, FailureClass, JobError, Sinks, Timeouts};
use crate::sink::{self, Sink};

/// The models of a run, with the options of loading them.
pub(super) struct ModelLoader<'a> {
    pub(super) models: &'a [BatchModel],
    pub(super) contexts: &'a [ModelContext],
    pub(super) timeouts: Timeouts,
    pub(super) connect: ConnectTimeouts,
    pub(super) lifecycle: LifecycleOptions,
    pub(super) folders: ModelFolders,
    pub(super) observer: &'a SharedObserver,
}

/// A loaded instance with a count of the tokens that it produced.
pub(super) struct CountedInstance {
    pub(super) instance: Instance,
    pub(super) tokens: Arc<AtomicU64>,
}

impl ModelLoader<'_> {
    /// Selects a model. Loads nothing.
    pub(super) async fn select(&self, model: usize) -> Result<SelectedModel, LoadError> {
        self.select_with_context(model)
            .await
            .map_err(|error| LoadError {
                kind: load_error_kind(error),
                left: LeftBehind::Nothing,
            })
    }

    /// Loads a selected model, or reuses a suitable instance.
    pub(super) async fn load(
        &self,
        model: usize,
        selected: SelectedModel,
        cancel: Cancel<'_>,
    ) -> Result<Loaded<CountedInstance>, LoadError> {
        let label = self
            .models
            .get(model)
            .map(|model| model.label.clone())
            .unwrap_or_default();
        let mut progress = LoadProgress {
            observer: self.observer.clone(),
            model: label,
            context: selected.requested_context(),
        };
        let mut sinks: Sinks<'_> = vec![&mut progress];
        let start = Instant::now();
        let loading = job::load(selected, &mut sinks, cancel, self.timeouts, start);
        match loading.await {
            Ok(instance) => Ok(Loaded {
                id: instance.id().to_owned(),
                context: instance.context(),
                load_s: instance.load_s(),
                is_ours: instance.is_owned(),
                warnings: instance.warnings.clone(),
                instance: CountedInstance {
                    instance,
                    tokens: Arc::default(),
                },
            }),
            Err(error) => Err(load_error(error)),
        }
    }

    /// Returns whether the model's server answers.
    pub(super) async fn is_reachable(&self, model: usize) -> bool {
        select_model(self.query(model, None)).await.is_ok()
    }

    /// Selects the model again, since its server may no longer have it, with the context
    /// that its jobs need.
    async fn select_with_context(&self, model: usize) -> Result<SelectedModel, engine::Error> {
        let size = self.contexts.get(model).map(|context| context.size);
        let is_fitting = self
            .models
            .get(model)
            .is_some_and(|model| model.plan_context == PlanContext::Fit);
        match select_model(self.query(model, size)).await {
            Ok(selected) if size.is_some() && !selected.can_set_context() => {
                select_model(self.query(model, None)).await
            }
            // With less context only the jobs that do not fit fail.
            Err(engine::Error::InsufficientMemory {
                largest_context: Some(largest),
                ..
            }) if is_fitting => {
                let size = Some(ContextSize::Tokens(largest));
                select_model(self.query(model, size)).await
            }
            selected => selected,
        }
    }

    fn query(&self, model: usize, context: Option<ContextSize>) -> ModelQuery {
        let model = self.models.get(model);
        let selection = match model.map(|model| (&model.server, model.place.as_str())) {
            Some((Some(server), _)) => EngineSelection::Servers(vec![server.clone()]),
            Some((None, LLAMA_CPP)) => EngineSelection::LlamaCpp,
            _ => EngineSelection::Embedded,
        };
        ModelQuery {
            selection,
            model: model.map(|model| model.id.clone()),
            default_model: None,
            context,
            folders: self.folders.clone(),
            timeouts: self.connect,
            last_used: None,
            lifecycle: self.lifecycle.clone(),
        }
    }
}

fn load_error_kind(error: engine::Error) -> LoadErrorKind {
    match FailureClass::of_engine(&error) {
        FailureClass::Server => LoadErrorKind::Server(error_chain(&error)),
        FailureClass::Model | FailureClass::Busy => LoadErrorKind::Model(error_chain(&error)),
        FailureClass::Job | FailureClass::Disk => LoadErrorKind::Impossible(error.into()),
    }
}

fn load_error(error: JobError) -> LoadError {
    match error {
        JobError::Engine(error) => LoadError {
            // The server refused: nothing is loaded. A connection that broke may have
            // left a load that continues.
            left: if error.is_unreachable() {
                LeftBehind::Unknown
            } else {
                LeftBehind::Nothing
            },
            kind: load_error_kind(error),
        },
        JobError::Cancelled => LoadError {
            kind: LoadErrorKind::Cancelled,
            left: LeftBehind::Unknown,
        },
        JobError::Expired(expired) => LoadError {
            kind: LoadErrorKind::Model(Error::from(expired).message),
            left: LeftBehind::Ours,
        },
        error => LoadError {
            kind: LoadErrorKind::Impossible(error.into()),
            left: LeftBehind::Unknown,
        },
    }
}

/// Reports the progress of a load.
struct LoadProgress {
    observer: SharedObserver,
    model: String,
    context: Option<u32>,
}

impl Sink for LoadProgress {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            Event::Loading(progress) => self.observer.event(BatchEvent::ModelLoading {
                model: &self.model,
                context: self.context,
                progress: *progress,
            }),
            Event::Warning(text) => self.observer.warning(text),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }
}
