//! The body of a request, and how it changes after the server rejected a key of it.

use serde_json::{Map, Value};

use super::prepared_request::PreparedRequest;
use crate::engine::Error;
use crate::engine::server::dialect::WireRequest;

/// Maximum number of request keys that are omitted because the server rejects
/// them.
const MAX_OMITTED_KEYS: usize = 8;
/// Request keys that cannot be omitted.
const REQUIRED_KEYS: [&str; 5] = ["model", "messages", "prompt", "input", "options"];

/// The form in which a request is sent: streamed and with all its keys, until the
/// server rejects that.
#[derive(Debug)]
pub(super) struct RequestForm {
    /// Request keys that the server rejected.
    omitted_keys: Vec<String>,
    stream: bool,
}

/// The result of [`RequestForm::omit`].
#[derive(Debug)]
pub(super) enum FormChange {
    /// The request was changed, with a warning to show to the user.
    Changed { warning: Option<String> },
    /// The request cannot do without the key.
    Impossible,
}

impl RequestForm {
    pub(super) fn new() -> Self {
        Self {
            omitted_keys: Vec::new(),
            stream: true,
        }
    }

    /// Builds the body of the request.
    pub(super) fn body(&self, prepared: &PreparedRequest<'_>) -> Map<String, Value> {
        let mut body = prepared.endpoint.request_body(&WireRequest {
            kind: prepared.target.server.kind,
            model: &prepared.instance.id,
            prompt: &prepared.request.prompt,
            settings: &prepared.settings,
            max_tokens: prepared.max_tokens,
            context: prepared.num_ctx(),
            stream: self.stream,
        });
        for key in &self.omitted_keys {
            body.remove(key);
        }
        body
    }

    /// Changes the request to do without a key of its `body` that the server rejected.
    ///
    /// # Errors
    /// Returns an error if the key carries a required setting.
    pub(super) fn omit(
        &mut self,
        key: &str,
        body: &Map<String, Value>,
        prepared: &PreparedRequest<'_>,
    ) -> Result<FormChange, Error> {
        if key.starts_with("stream") {
            return Ok(self.omit_streaming(key));
        }
        if !body.contains_key(key)
            || REQUIRED_KEYS.contains(&key)
            || self.omitted_keys.len() >= MAX_OMITTED_KEYS
        {
            return Ok(FormChange::Impossible);
        }
        let setting = setting_name(key);
        let request = prepared.request;
        if request.required_settings.iter().any(|name| name == setting) {
            return Err(Error::UnsupportedSettings(setting.to_owned()));
        }
        let is_explicit = request.settings.explicit_names().contains(&setting);
        let warning = is_explicit.then(|| {
            format!(
                "{} rejects the setting `{setting}`; retrying without it",
                prepared.target.server.kind
            )
        });
        self.omitted_keys.push(key.to_owned());
        Ok(FormChange::Changed { warning })
    }

    /// Omits the options of streaming, then streaming itself.
    fn omit_streaming(&mut self, key: &str) -> FormChange {
        if !self.stream {
            return FormChange::Impossible;
        }
        if key == "stream_options" && !self.omitted_keys.iter().any(|omitted| omitted == key) {
            self.omitted_keys.push(key.to_owned());
            return FormChange::Changed { warning: None };
        }
        self.stream = false;
        let warning = "the server does not support streaming; the answer arrives in one piece";
        FormChange::Changed {
            warning: Some(warning.to_owned()),
        }
    }
}

/// Returns the name of the setting that a request key carries.
fn setting_name(key: &str) -> &str {
    match key {
        "response_format" | "format" => "json_schema",
        "reasoning_effort" | "chat_template_kwargs" | "think" => "reasoning",
        "max_output_tokens" => "max_tokens",
        "repetition_penalty" => "repeat_penalty",
        other => other,
    }
}
