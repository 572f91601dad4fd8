//! A loaded model: how it is loaded, used and unloaded.

use std::time::Duration;

use lmstrix_inference::{Event, Prompt, Settings};

use super::embedded::EmbeddedWorker;
use super::llama_server::{RunningServer, ServerUsage};
use super::selected_model::{Backend, SelectedModel};
use super::server::{ServerInstance, ServerTarget};
use super::{Error, InferenceRequest, InferenceStream, UnloadResult};

/// A loaded model. It can run any number of inferences.
#[derive(Debug)]
pub struct Instance {
    /// The selected model.
    pub selected: SelectedModel,
    /// Warnings about the instance, to be shown to the user.
    pub warnings: Vec<String>,
    instance: ServerInstance,
    runner: Runner,
}

/// The thread or server that runs the inferences of an instance.
#[derive(Debug)]
enum Runner {
    /// The thread of the embedded engine.
    Thread(EmbeddedWorker),
    Server(Box<ServerTarget>),
    /// A server that this program started.
    ManagedServer(Box<ServerTarget>, ServerUsage),
}

impl Runner {
    /// Returns the server, if it is one.
    fn server(&self) -> Option<&ServerTarget> {
        match self {
            Self::Thread(_) => None,
            Self::Server(target) | Self::ManagedServer(target, _) => Some(target),
        }
    }
}

impl SelectedModel {
    /// Returns an unloader for all instances of the model that this process
    /// loaded, including one that is still loading. Used after an interrupt.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        match &self.backend {
            Backend::Embedded(_) => Unloader(UnloadTarget::Nothing),
            Backend::Managed(model) => Unloader(UnloadTarget::Managed(model.usage.clone())),
            Backend::Server(target) => Unloader(UnloadTarget::Server(target.clone(), None)),
        }
    }

    /// Loads the model unless it is loaded already, and reports progress to
    /// `emit`. Has no timeout of its own. The embedded engine loads the weights
    /// with the first inference.
    ///
    /// # Errors
    /// Returns an error if the server cannot load the model or cannot be reached.
    pub async fn load(mut self, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Instance, Error> {
        if let Backend::Server(target) = &mut self.backend {
            target.begin_use();
        }
        let (mut instance, runner) = match &self.backend {
            Backend::Embedded(model) => {
                let instance = ServerInstance {
                    id: self.model.clone(),
                    context: Some(model.context()),
                    declared: Some(model.declared_context()),
                    ..ServerInstance::default()
                };
                (instance, Runner::Thread(model.start()?))
            }
            Backend::Managed(model) => {
                let RunningServer { target, instance } = model.start(emit).await?;
                let usage = model.usage.clone();
                (instance, Runner::ManagedServer(Box::new(target), usage))
            }
            Backend::Server(target) => {
                let instance = target.ensure_loaded(emit).await?;
                (instance, Runner::Server(target.clone()))
            }
        };
        Ok(Instance {
            selected: self,
            warnings: std::mem::take(&mut instance.warnings),
            instance,
            runner,
        })
    }
}

impl Instance {
    /// Returns the instance's name on its server; of a server that this program started, the
    /// name of the model.
    #[must_use]
    pub fn id(&self) -> &str {
        match &self.runner {
            Runner::ManagedServer(..) => &self.selected.model,
            Runner::Thread(_) | Runner::Server(_) => &self.instance.id,
        }
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
        let server = self.runner.server();
        server.is_some_and(ServerTarget::has_own_replacement)
    }

    /// Returns an unloader for the instance.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        match &self.runner {
            Runner::Thread(_) => Unloader(UnloadTarget::Nothing),
            Runner::ManagedServer(_, usage) => Unloader(UnloadTarget::Managed(usage.clone())),
            Runner::Server(target) => Unloader(UnloadTarget::Server(
                target.clone(),
                Some(self.instance.clone()),
            )),
        }
    }

    /// Renders the chat template: returns the exact text that the model would
    /// receive, if the engine can tell.
    pub async fn render_prompt(&self, prompt: &Prompt, settings: &Settings) -> Option<String> {
        match (&self.selected.backend, self.runner.server()) {
            (Backend::Embedded(model), _) => {
                let reasoning = settings
                    .reasoning
                    .as_ref()
                    .map(|reasoning| reasoning.value.as_str());
                model.render(prompt, reasoning)
            }
            (_, Some(target)) => target.render_prompt(prompt, &self.instance).await,
            (_, None) => None,
        }
    }

    /// Returns the number of inferences that the instance runs in parallel, if the
    /// server reports it. The embedded engine runs one at a time.
    pub async fn parallel_slots(&self) -> Option<u32> {
        match self.runner.server() {
            None => Some(1),
            Some(target) => target.parallel_slots(&self.instance).await,
        }
    }

    /// Starts an inference. Dropping the stream cancels it, also on the server.
    ///
    /// # Errors
    /// Returns an error if the embedded engine's thread has stopped.
    pub fn infer(&self, request: InferenceRequest) -> Result<InferenceStream, Error> {
        match &self.runner {
            Runner::Thread(worker) => worker.infer(request),
            Runner::Server(target) => Ok(target.clone().infer(self.instance.clone(), request)),
            Runner::ManagedServer(target, usage) => {
                let stream = target.clone().infer(self.instance.clone(), request);
                Ok(stream.of_server(usage.clone()))
            }
        }
    }
}

/// Unloads instances that this program loaded.
#[derive(Debug)]
pub struct Unloader(UnloadTarget);

/// The instances that an [`Unloader`] unloads.
#[derive(Debug)]
enum UnloadTarget {
    /// The engine ends with this process.
    Nothing,
    /// The instance of a server's model, or all of the model if it is not known.
    Server(Box<ServerTarget>, Option<ServerInstance>),
    /// A server that this program started.
    Managed(ServerUsage),
}

impl Unloader {
    /// Returns the failure of a load that was not ready within `limit`, with what is known of
    /// its reason.
    #[must_use]
    pub fn slow_load(&self, limit: Duration) -> Option<Error> {
        match &self.0 {
            UnloadTarget::Managed(usage) => usage.slow_load(limit),
            UnloadTarget::Nothing | UnloadTarget::Server(..) => None,
        }
    }

    /// Unloads the instance if this program loaded it, in this run or an earlier
    /// one, and no other process uses it.
    ///
    /// # Errors
    /// Returns an error if the server cannot unload it or cannot be reached.
    pub async fn unload(&self) -> Result<UnloadResult, Error> {
        match &self.0 {
            UnloadTarget::Nothing => Ok(UnloadResult::NothingToUnload),
            UnloadTarget::Managed(usage) => usage.unload().await,
            UnloadTarget::Server(target, Some(instance)) => target.unload_if_owned(instance).await,
            UnloadTarget::Server(target, None) => target.unload_loaded_by_process().await,
        }
    }

    /// Unloads an instance that this process only used, if the process that loaded it has
    /// left that to its last user. Ends a server that this program started, unless another
    /// process uses it or it is to stay.
    ///
    /// # Errors
    /// Returns an error if the server cannot unload it or cannot be reached.
    pub async fn release(&self) -> Result<UnloadResult, Error> {
        match &self.0 {
            UnloadTarget::Server(target, Some(instance)) if target.is_left_to_user(instance) => {
                target.unload_if_owned(instance).await
            }
            UnloadTarget::Managed(usage) => usage.release().await,
            _ => Ok(UnloadResult::NothingToUnload),
        }
    }
}
