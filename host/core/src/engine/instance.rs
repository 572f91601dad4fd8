//! A loaded model: how it is loaded, used and unloaded.

use lmstrix_inference::{Event, Prompt, Settings};

use super::embedded::EmbeddedWorker;
use super::selected_model::{Backend, SelectedModel};
use super::server::{ServerInstance, ServerTarget};
use super::{Error, InferenceRequest, InferenceStream};

/// A loaded model. It can run any number of inferences.
#[derive(Debug)]
pub struct Instance {
    /// The selected model.
    pub selected: SelectedModel,
    /// Warnings about the instance, to be shown to the user.
    pub warnings: Vec<String>,
    instance: ServerInstance,
    /// The embedded engine's thread.
    worker: Option<EmbeddedWorker>,
}

impl SelectedModel {
    /// Returns an unloader for all instances of the model that this process
    /// loaded, including one that is still loading. Used after an interrupt.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.backend {
            Backend::Embedded(_) => None,
            Backend::Server(target) => Some((target.clone(), None)),
        })
    }

    /// Loads the model unless it is loaded already, and reports progress to
    /// `emit`. Has no timeout of its own. The embedded engine loads the weights
    /// with the first inference.
    ///
    /// # Errors
    /// Returns an error if the server cannot load the model or cannot be reached.
    pub async fn load(mut self, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Instance, Error> {
        let mut worker = None;
        if let Backend::Server(target) = &mut self.backend {
            target.begin_use();
        }
        let (instance, warnings) = match &self.backend {
            Backend::Embedded(model) => {
                worker = Some(model.start()?);
                let instance = ServerInstance {
                    id: self.model.clone(),
                    context: Some(model.context()),
                    declared: Some(model.declared_context()),
                    ..ServerInstance::default()
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

    /// Returns whether this process loaded an instance in place of this one, which was gone.
    #[must_use]
    pub fn has_own_replacement(&self) -> bool {
        match &self.selected.backend {
            Backend::Embedded(_) => false,
            Backend::Server(target) => target.has_own_replacement(),
        }
    }

    /// Returns an unloader for the instance.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.selected.backend {
            Backend::Embedded(_) => None,
            Backend::Server(target) => Some((target.clone(), Some(self.instance.clone()))),
        })
    }

    /// Renders the chat template: returns the exact text that the model would
    /// receive, if the engine can tell.
    pub async fn render_prompt(&self, prompt: &Prompt, settings: &Settings) -> Option<String> {
        match &self.selected.backend {
            Backend::Embedded(model) => {
                let reasoning = settings
                    .reasoning
                    .as_ref()
                    .map(|reasoning| reasoning.value.as_str());
                model.render(prompt, reasoning)
            }
            Backend::Server(target) => target.render_prompt(prompt, &self.instance).await,
        }
    }

    /// Returns the number of inferences that the instance runs in parallel, if the
    /// server reports it. The embedded engine runs one at a time.
    pub async fn parallel_slots(&self) -> Option<u32> {
        match &self.selected.backend {
            Backend::Embedded(_) => Some(1),
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
            (Backend::Embedded(_), Some(worker)) => worker.infer(request),
            (Backend::Embedded(_), None) => {
                Err(Error::EngineStopped("its thread is not running".to_owned()))
            }
        }
    }
}

/// Unloads instances that this program loaded: one, or all of a model if no
/// instance is set. `None` for engines without unloading.
#[derive(Debug)]
pub struct Unloader(UnloadTarget);

/// A server's model, and the instance if it is known.
type UnloadTarget = Option<(Box<ServerTarget>, Option<ServerInstance>)>;

/// The result of an unload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadResult {
    /// An instance was unloaded.
    Unloaded,
    /// This program did not load the instance.
    NotOwned,
    /// Another process uses the instance, and the last one unloads it.
    InUse,
    /// The engine has nothing to unload.
    NothingToUnload,
}

impl Unloader {
    /// Unloads the instance if this program loaded it, in this run or an earlier
    /// one, and no other process uses it.
    ///
    /// # Errors
    /// Returns an error if the server cannot unload it or cannot be reached.
    pub async fn unload(&self) -> Result<UnloadResult, Error> {
        match &self.0 {
            None => Ok(UnloadResult::NothingToUnload),
            Some((target, Some(instance))) => target.unload_if_owned(instance).await,
            Some((target, None)) => target.unload_loaded_by_process().await,
        }
    }

    /// Unloads an instance that this process only used, if the process that loaded it has
    /// left that to its last user.
    ///
    /// # Errors
    /// Returns an error if the server cannot unload it or cannot be reached.
    pub async fn release(&self) -> Result<UnloadResult, Error> {
        match &self.0 {
            Some((target, Some(instance))) if target.is_left_to_user(instance) => {
                target.unload_if_owned(instance).await
            }
            _ => Ok(UnloadResult::NothingToUnload),
        }
    }
}
