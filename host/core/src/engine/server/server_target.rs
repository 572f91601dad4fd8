//! A model selected on a server, and what is known of it.

use std::sync::{Arc, Mutex, PoisonError};

use lmstrix_inference::{Prompt, SettingSupport, Settings};

use super::detected_server::Server;
use super::dialect::{Endpoint, setting_support};
use super::listed_model::{ListedInstance, ListedModel};
use super::load_decision::{LoadMethod, load_method};
use super::model_list;
use super::server_instance::ServerInstance;
use super::server_kind::ServerKind;
use crate::engine::lease::{Lease, is_used};
use crate::engine::ownership;
use crate::engine::{KnownModel, LifecycleOptions};

/// A model selected on a server, not necessarily loaded.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ServerTarget {
    pub(super) server: Arc<Server>,
    pub(super) listed: ListedModel,
    pub(super) listed_instance: Option<ListedInstance>,
    /// The requested instance, if the requested name is an instance's and not
    /// the model's.
    pub(super) requested_instance: Option<String>,
    pub(super) requested_context: Option<u32>,
    pub(super) lifecycle: Arc<LifecycleOptions>,
    /// The use of the model, which keeps other processes from unloading it.
    pub(super) lease: Option<Arc<Lease>>,
    /// The instance in place of one that was gone, for all clones of this target.
    pub(super) replacement: Arc<Mutex<Option<ServerInstance>>>,
}

impl ServerTarget {
    /// Returns the base URL of the server.
    pub(in crate::engine) fn base_url(&self) -> &str {
        self.server.client.base_url()
    }

    /// Begins a use of the model, on servers that can unload. Must be called before an
    /// instance is selected. A state folder that cannot be written does not keep the user from
    /// a loaded model; other processes do not know of the use then.
    pub(in crate::engine) fn begin_use(&mut self) {
        if load_method(self.server.kind, &self.listed) != LoadMethod::StartedWithModel {
            let folder = &self.lifecycle.state_dir;
            match Lease::acquire(folder, self.base_url(), &self.listed.id) {
                Ok(lease) => self.lease = Some(Arc::new(lease)),
                Err(error) => tracing::info!(%error, "no lease"),
            }
        }
    }

    /// Returns whether another process uses the model.
    pub(super) fn is_shared(&self) -> bool {
        let folder = &self.lifecycle.state_dir;
        let own = self.lease.as_deref();
        is_used(folder, self.base_url(), &self.listed.id, own)
    }

    /// Returns the instance that took the place of `instance`, or `instance` itself.
    pub(super) fn current_instance(&self, instance: &ServerInstance) -> ServerInstance {
        let replacement = self
            .replacement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        replacement.as_ref().unwrap_or(instance).clone()
    }

    /// Returns whether this process loaded an instance in place of one that was gone.
    pub(in crate::engine) fn has_own_replacement(&self) -> bool {
        let replacement = self
            .replacement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        replacement
            .as_ref()
            .is_some_and(|instance| instance.is_owned)
    }

    pub(super) fn set_current_instance(&self, instance: &ServerInstance) {
        let mut replacement = self
            .replacement
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *replacement = Some(instance.clone());
    }

    /// Returns the context length in tokens that the model declares, if known.
    pub(in crate::engine) fn declared_context(&self) -> Option<u32> {
        self.listed.declared
    }

    /// Returns `true` if a load can set the context length.
    pub(in crate::engine) fn can_set_context(&self) -> bool {
        let method = load_method(self.server.kind, &self.listed);
        matches!(
            method,
            LoadMethod::AddsInstance | LoadMethod::ReplacesInstance
        )
    }

    /// Returns what earlier runs recorded about the model.
    pub(in super::super) fn facts(&self) -> KnownModel {
        self.lifecycle.known_model(self.base_url(), &self.listed.id)
    }

    /// Returns the context length in tokens to load with: the requested one,
    /// else the tested one. `None` leaves it to the server's settings, since
    /// the server's video memory is not visible from here.
    pub(super) fn context_to_load(&self) -> Option<u32> {
        let declared = self.listed.declared.unwrap_or(u32::MAX);
        self.requested_context
            .or(self.facts().tested.map(|tested| tested.min(declared)))
    }

    pub(in crate::engine) fn model(&self) -> &str {
        &self.listed.id
    }

    pub(in crate::engine) fn engine_name(&self) -> &'static str {
        self.server.kind.name()
    }

    pub(in crate::engine) fn display_name(&self) -> String {
        self.server.display_name()
    }

    pub(in crate::engine) fn version(&self) -> Option<&str> {
        self.server.version.as_deref()
    }

    pub(in crate::engine) fn architecture(&self) -> Option<&str> {
        self.listed.architecture.as_deref()
    }

    pub(in crate::engine) fn quantization(&self) -> Option<&str> {
        self.listed.quantization.as_deref()
    }

    /// Returns the context length in tokens that the instance of this run is
    /// expected to have: that of the loaded instance, the one to load with, or
    /// the declared one.
    pub(in crate::engine) fn expected_context(&self) -> Option<u32> {
        let loaded = self
            .listed_instance
            .as_ref()
            .and_then(|instance| instance.context);
        // Ollama reloads a model if a request has another context length.
        if self.server.kind == ServerKind::Ollama {
            return self
                .requested_context
                .or(loaded)
                .or(self.context_to_load())
                .or(self.listed.declared);
        }
        loaded.or(self.context_to_load()).or(self.listed.declared)
    }

    pub(in crate::engine) fn requested_context(&self) -> Option<u32> {
        self.requested_context
    }

    /// Returns whether the model takes images, if the server reports it.
    pub(in crate::engine) fn has_vision(&self) -> Option<bool> {
        self.listed.supports_vision
    }

    /// Returns `true` if the model is probably instruction-tuned, judged by its
    /// name.
    pub(in crate::engine) fn is_instruct(&self) -> bool {
        self.listed.is_instruct()
    }

    /// Returns whether the server honours the setting `name` (snake case) for
    /// this prompt and these settings.
    pub(in crate::engine) fn support(
        &self,
        prompt: &Prompt,
        settings: &Settings,
        name: &str,
    ) -> SettingSupport {
        let endpoint = Endpoint::select(
            self.server.kind,
            self.listed.has_lmstudio_chat,
            prompt,
            settings,
        );
        let level = settings
            .reasoning
            .as_ref()
            .map(|reasoning| reasoning.value.as_str());
        if let ("reasoning", Some(levels), Some(level)) =
            (name, &self.listed.reasoning_levels, level)
            && !levels.iter().any(|known| known == level)
        {
            // For a model without reasoning, `off` is what it does anyway.
            return if level == "off" && levels.is_empty() {
                SettingSupport::Honoured
            } else {
                SettingSupport::Dropped
            };
        }
        setting_support(self.server.kind, endpoint, name)
    }

    /// Returns the context length of an instance that another program loaded
    /// and that a load with another context length would replace. `None` if
    /// there is no such instance, `Some(None)` if its context length is
    /// unknown.
    #[expect(
        clippy::option_option,
        reason = "an instance, with or without a known context"
    )]
    pub(in crate::engine) fn replaced_foreign_context(&self) -> Option<Option<u32>> {
        let loaded = self.listed_instance.as_ref()?;
        let is_foreign =
            load_method(self.server.kind, &self.listed) == LoadMethod::ReplacesInstance && {
                let records = ownership::read_unlocked(&self.lifecycle.state_dir, self.base_url());
                !ownership::is_owned(&records, &loaded.id, loaded.context)
            };
        is_foreign.then_some(loaded.context)
    }

    /// Returns the instance of a server that was started with its model.
    pub(in crate::engine) fn instance(&self) -> ServerInstance {
        let listed = self.listed_instance.as_ref();
        ServerInstance {
            id: listed.map_or_else(|| self.listed.id.clone(), |instance| instance.id.clone()),
            context: listed.and_then(|instance| instance.context),
            declared: self.listed.declared,
            ..ServerInstance::default()
        }
    }

    /// Returns the number of inferences that the instance runs in parallel, if
    /// the server reports it.
    pub(in crate::engine) async fn parallel_slots(&self, instance: &ServerInstance) -> Option<u32> {
        model_list::parallel_slots(&self.server, &instance.id).await
    }
}
