//! The request of an inference as a server receives it: its endpoint, the settings
//! that the server honours, and the limit of output tokens.

use lmstrix_inference::{Prompt, SettingSupport, Settings};

use crate::engine::reasoning::ReasoningSplitter;
use crate::engine::server::dialect::Endpoint;
use crate::engine::server::server_instance::ServerInstance;
use crate::engine::server::server_target::ServerTarget;
use crate::engine::{Error, InferenceRequest};

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct PreparedRequest<'a> {
    pub(super) target: &'a ServerTarget,
    pub(super) instance: &'a ServerInstance,
    pub(super) request: &'a InferenceRequest,
    pub(super) endpoint: Endpoint,
    /// The settings to send.
    pub(super) settings: Settings,
    /// The limit of output tokens to send; `None` is unlimited.
    pub(super) max_tokens: Option<u32>,
}

impl PreparedRequest<'_> {
    /// Returns the splitter of the answer's reasoning.
    pub(super) fn reasoning_splitter(&self) -> ReasoningSplitter {
        if !self.request.split_reasoning {
            return ReasoningSplitter::new(false);
        }
        let prompt_end = match &self.request.prompt {
            Prompt::Raw(prompt) => Some(prompt.as_str()),
            // A schema allows no reasoning.
            Prompt::Chat(_) => self.target.listed.opened_tag.filter(|_| {
                let level = self.settings.reasoning.as_ref();
                level.is_none_or(|level| level.value != "off")
                    && self.settings.json_schema.is_none()
            }),
        };
        prompt_end
            .and_then(ReasoningSplitter::after_prompt)
            .unwrap_or_else(|| ReasoningSplitter::new(true))
    }

    /// Returns the `num_ctx` for Ollama. After a load with a context length,
    /// every request has to repeat it: another number makes Ollama reload the
    /// model, and none keeps the loaded instance.
    pub(super) fn num_ctx(&self) -> Option<u32> {
        let requested = self.target.requested_context;
        (self.instance.is_owned || requested.is_some())
            .then(|| self.instance.context.or(requested))
            .flatten()
    }
}

/// Returns the settings to send, and a warning for each explicitly set one
/// that the server does not honour.
///
/// # Errors
/// Returns an error if one of them is required.
pub(super) fn supported_settings(
    target: &ServerTarget,
    request: &InferenceRequest,
) -> Result<(Settings, Vec<String>), Error> {
    let mut settings = request.settings.clone();
    let dropped: Vec<String> = settings
        .explicit_names()
        .into_iter()
        .filter(|name| {
            let support = target.support(&request.prompt, &settings, name);
            matches!(support, SettingSupport::Dropped | SettingSupport::Rejected)
        })
        .map(str::to_owned)
        .collect();
    let required: Vec<&str> = dropped
        .iter()
        .filter(|name| request.required_settings.contains(name))
        .map(String::as_str)
        .collect();
    if !required.is_empty() {
        return Err(Error::UnsupportedSettings(required.join(", ")));
    }
    if dropped.iter().any(|name| name == "reasoning") {
        settings.reasoning = None;
    }
    let engine = target.server.kind;
    let warnings = dropped
        .iter()
        .map(|name| format!("{engine} does not honour the setting `{name}` for this model"))
        .collect();
    Ok((settings, warnings))
}
