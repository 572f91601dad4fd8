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
    /// The server wants the limit of output tokens under OpenAI's newer name.
    renames_max_tokens: bool,
    /// The limit of output tokens that the context allows, by the server's count.
    max_output: Option<u32>,
    stream: bool,
}

/// OpenAI's two names for the limit of output tokens.
const MAX_TOKENS: &str = "max_tokens";
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";

/// A change of a request after the server rejected it.
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
            renames_max_tokens: false,
            max_output: None,
            stream: true,
        }
    }

    /// Builds the body of the request.
    pub(super) fn body(&self, prepared: &PreparedRequest<'_>) -> Map<String, Value> {
        let mut body = prepared.endpoint.request_body(&WireRequest {
            kind: prepared.target.server.kind,
            model: &prepared.instance.id,
            prompt: &prepared.request.prompt,
            images: &prepared.request.images,
            settings: &prepared.settings,
            max_tokens: self.max_output.or(prepared.max_tokens),
            context: prepared.num_ctx(),
            ttl: prepared.target.lifecycle.ttl,
            stream: self.stream,
        });
        if self.renames_max_tokens
            && let Some(limit) = body.remove(MAX_TOKENS)
        {
            body.insert(MAX_COMPLETION_TOKENS.to_owned(), limit);
        }
        for key in &self.omitted_keys {
            body.remove(key);
        }
        body
    }

    /// Changes the request to do without a key of its `body` that the server rejected: the
    /// first of `names` that is one.
    ///
    /// # Errors
    /// Returns an error if the key carries a required setting.
    pub(super) fn change_rejected(
        &mut self,
        names: &[String],
        message: &str,
        body: &Map<String, Value>,
        prepared: &PreparedRequest<'_>,
    ) -> Result<FormChange, Error> {
        let is_key = |name: &&String| {
            name.starts_with("stream")
                || (body.contains_key(*name) && !REQUIRED_KEYS.contains(&name.as_str()))
        };
        let Some(key) = names.iter().find(is_key) else {
            return Ok(FormChange::Impossible);
        };
        if key == MAX_TOKENS && message.contains(MAX_COMPLETION_TOKENS) {
            self.renames_max_tokens = true;
            return Ok(FormChange::Changed { warning: None });
        }
        self.omit(key, prepared)
    }

    /// Limits the output to the tokens that the prompt leaves of the context, once.
    ///
    /// vLLM stops to count the prompt where it exceeds the limit, so that prompt and output
    /// together are one token more than the context. Then the limit is left out, and vLLM
    /// uses what is left.
    pub(super) fn limit_output(
        &mut self,
        prompt: u64,
        output: u64,
        context: u64,
        prepared: &PreparedRequest<'_>,
    ) -> FormChange {
        let left = u32::try_from(context.saturating_sub(prompt)).unwrap_or(u32::MAX);
        if left == 0 || self.max_output.is_some() {
            return FormChange::Impossible;
        }
        self.max_output = Some(prepared.max_tokens.map_or(left, |limit| limit.min(left)));
        let warning = if prompt.saturating_add(output) == context.saturating_add(1) {
            self.omitted_keys
                .extend([MAX_TOKENS, MAX_COMPLETION_TOKENS].map(str::to_owned));
            format!(
                "the prompt leaves less than {output} tokens of the context for the answer; the \
                 limit is left out"
            )
        } else {
            format!(
                "the prompt leaves {left} tokens of the context for the answer; limiting it to \
                 them"
            )
        };
        FormChange::Changed {
            warning: Some(warning),
        }
    }

    fn omit(&mut self, key: &str, prepared: &PreparedRequest<'_>) -> Result<FormChange, Error> {
        if key.starts_with("stream") {
            return Ok(self.omit_streaming(key));
        }
        if self.omitted_keys.len() >= MAX_OMITTED_KEYS {
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
        "max_output_tokens" | MAX_COMPLETION_TOKENS => MAX_TOKENS,
        "repetition_penalty" => "repeat_penalty",
        other => other,
    }
}
