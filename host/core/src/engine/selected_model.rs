//! A model on an engine: what is known of it, and how it is loaded.

use lmstrix_inference::{Prompt, SettingSupport, Settings, SettingsLayer};

use super::embedded::EmbeddedModel;
use super::llama_server::ManagedModel;
use super::server::{ServerTarget, llama_server_support};
use super::{EMBEDDED, LLAMA_CPP};

/// A selected model, not necessarily loaded.
#[derive(Debug)]
pub struct SelectedModel {
    /// The model's name, for reports.
    pub model: String,
    /// True for the built-in demo model, whose answers are not meaningful.
    pub is_demo: bool,
    /// Warnings about the selection, to be shown to the user.
    pub warnings: Vec<String>,
    pub(super) recommended: SettingsLayer,
    pub(super) backend: Backend,
}

/// The engine of a model.
#[derive(Debug)]
pub(super) enum Backend {
    Embedded(EmbeddedModel),
    Managed(Box<ManagedModel>),
    Server(Box<ServerTarget>),
}

impl SelectedModel {
    /// Returns the engine's kind, for reports: `lmstudio`, `ollama`, …,
    /// `llama.cpp` or `embedded`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match &self.backend {
            Backend::Embedded(_) => EMBEDDED,
            Backend::Managed(_) => LLAMA_CPP,
            Backend::Server(target) => target.engine_name(),
        }
    }

    /// Returns the base URL of the server, `llama.cpp` or `embedded`.
    #[must_use]
    pub fn address(&self) -> &str {
        match &self.backend {
            Backend::Embedded(_) => EMBEDDED,
            Backend::Managed(_) => LLAMA_CPP,
            Backend::Server(target) => target.base_url(),
        }
    }

    /// Returns the engine's name for messages, with its address.
    #[must_use]
    pub fn display_name(&self) -> String {
        match &self.backend {
            Backend::Embedded(_) => "the embedded engine".to_owned(),
            Backend::Managed(model) => format!("llama.cpp ({})", model.program().display()),
            Backend::Server(target) => target.display_name(),
        }
    }

    /// Returns the engine's version, if known.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.backend {
            Backend::Embedded(_) => Some(env!("CARGO_PKG_VERSION")),
            Backend::Managed(model) => model.version(),
            Backend::Server(target) => target.version(),
        }
    }

    /// Returns the model's `general.architecture`, if known.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        match &self.backend {
            Backend::Embedded(model) => Some(model.architecture()),
            Backend::Managed(model) => model.architecture(),
            Backend::Server(target) => target.architecture(),
        }
    }

    /// Returns the quantization by its llama.cpp name, if known.
    #[must_use]
    pub fn quantization(&self) -> Option<String> {
        match &self.backend {
            Backend::Embedded(model) => Some(model.quantization()),
            Backend::Managed(model) => model.quantization().map(str::to_owned),
            Backend::Server(target) => target.quantization().map(str::to_owned),
        }
    }

    /// Returns the largest context that this run would load the model with, in
    /// tokens, if known.
    #[must_use]
    pub fn expected_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded(model) => Some(model.context()),
            Backend::Managed(model) => model.expected_context(),
            Backend::Server(target) => target.expected_context(),
        }
    }

    /// Returns the model's declared context length, in tokens, if known.
    #[must_use]
    pub fn declared_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded(model) => Some(model.declared_context()),
            Backend::Managed(model) => model.declared_context(),
            Backend::Server(target) => target.declared_context(),
        }
    }

    /// Returns whether the model can be loaded with a requested context.
    #[must_use]
    pub fn can_set_context(&self) -> bool {
        match &self.backend {
            Backend::Embedded(_) | Backend::Managed(_) => true,
            Backend::Server(target) => target.can_set_context(),
        }
    }

    /// Returns the requested context, in tokens.
    #[must_use]
    pub fn requested_context(&self) -> Option<u32> {
        match &self.backend {
            Backend::Embedded(model) => model.requested_context(),
            Backend::Managed(model) => model.requested_context,
            Backend::Server(target) => target.requested_context(),
        }
    }

    /// Returns the tokens per byte of earlier prompts, if known.
    #[must_use]
    pub fn tokens_per_byte(&self) -> Option<f64> {
        match &self.backend {
            Backend::Embedded(model) => model.tokens_per_byte(),
            Backend::Managed(model) => model.known().tokens_per_byte,
            Backend::Server(target) => target.facts().tokens_per_byte,
        }
    }

    /// Returns the sampling settings that the model file recommends. Empty for
    /// servers, which apply them themselves.
    #[must_use]
    pub fn recommended(&self) -> SettingsLayer {
        self.recommended.clone()
    }

    /// Returns whether the model has a chat template, if that is known.
    #[must_use]
    pub fn has_chat_template(&self) -> Option<bool> {
        match &self.backend {
            Backend::Managed(model) => model.has_chat_template(),
            // The embedded engine refuses the messages itself.
            Backend::Embedded(_) | Backend::Server(_) => None,
        }
    }

    /// Returns whether the model appears to be instruction-tuned.
    #[must_use]
    pub fn is_instruct(&self) -> bool {
        match &self.backend {
            Backend::Embedded(model) => model.is_instruct(),
            Backend::Managed(model) => model.is_instruct(),
            Backend::Server(target) => target.is_instruct(),
        }
    }

    /// Returns whether the model takes images, if known.
    #[must_use]
    pub fn has_vision(&self) -> Option<bool> {
        match &self.backend {
            Backend::Embedded(_) | Backend::Managed(_) => Some(false),
            Backend::Server(target) => target.has_vision(),
        }
    }

    /// Returns how the engine treats a setting, given by its snake-case name.
    #[must_use]
    pub fn support(&self, prompt: &Prompt, settings: &Settings, name: &str) -> SettingSupport {
        match &self.backend {
            Backend::Embedded(model) => model.setting_support(name),
            Backend::Managed(_) => llama_server_support(prompt, settings, name),
            Backend::Server(target) => target.support(prompt, settings, name),
        }
    }

    /// Returns the context, if known, of an instance that another program loaded
    /// and that a load with another context would replace. Returns `None` if
    /// there is no such instance.
    #[must_use]
    pub fn replaced_foreign_context(&self) -> Option<Option<u32>> {
        match &self.backend {
            Backend::Embedded(_) | Backend::Managed(_) => None,
            Backend::Server(target) => target.replaced_foreign_context(),
        }
    }
}
