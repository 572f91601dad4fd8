//! One inference on a server: sends the request, retries where that is safe,
//! and reads the response to its end.

mod response_reader;

use std::sync::Arc;
use std::time::Duration;

use lmstrix_inference::{Event, FinishReason, MaxTokens, Prompt, SettingSupport, Settings};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::dialect::{Endpoint, WireRequest};
use super::fault::{self, FaultKind, ServerFault};
use super::http_client::{ClientError, retry_after};
use super::json_request::connection_error;
use super::{ServerInstance, ServerKind, ServerTarget};
use crate::engine::stream::{CancelFlag, EVENT_BUFFER, InferenceStream};
use crate::engine::{Error, InferenceRequest};
use crate::token_estimate::TokenEstimate;
use response_reader::{ReadState, ResponseReader};

/// Maximum number of attempts, including the first.
const MAX_ATTEMPTS: u32 = 5;
/// The delay before the second attempt; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(250);
/// Maximum delay before a retry. If the server asks for a longer one, the
/// request fails.
const MAX_BACKOFF: Duration = Duration::from_secs(120);
/// Interval between requests to a server that is loading its model.
const LOADING_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum number of request keys that are omitted because the server rejects
/// them.
const MAX_OMITTED_KEYS: usize = 8;
/// Request keys that cannot be omitted.
const REQUIRED_KEYS: [&str; 5] = ["model", "messages", "prompt", "input", "options"];
/// Time limit for rendering a prompt. The result is only displayed.
const RENDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the inference as a separate task.
pub(super) fn start(
    target: ServerTarget,
    instance: ServerInstance,
    request: InferenceRequest,
) -> InferenceStream {
    let (sender, events) = mpsc::channel(EVENT_BUFFER);
    let cancel = Arc::new(CancelFlag::default());
    let task_cancel = Arc::clone(&cancel);
    let task = tokio::spawn(async move {
        let mut chat = ChatRequest {
            target: &target,
            instance: &instance,
            request: &request,
            sender: &sender,
            omitted_keys: Vec::new(),
            stream: true,
            is_server_loading: false,
        };
        let result = tokio::select! {
            biased;
            // Dropping the other future closes the connection.
            () = task_cancel.wait() => Ok(Some(FinishReason::Cancelled)),
            result = chat.run() => result,
        };
        let last = match result {
            Ok(Some(finish)) => Ok(Event::Finished(finish)),
            // The stream has been dropped.
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let _dropped = sender.send(last).await;
    });
    InferenceStream::new(events, cancel, Some(task.abort_handle()))
}

/// Returns the prompt with the chat template applied, or `None` if the server
/// cannot render it.
pub(super) async fn render_prompt(
    target: &ServerTarget,
    prompt: &Prompt,
    instance: &ServerInstance,
) -> Option<String> {
    let messages = match prompt {
        Prompt::Raw(text) => return Some(text.clone()),
        Prompt::Chat(messages) => messages,
    };
    if !matches!(
        target.server.kind,
        ServerKind::LlamaServer | ServerKind::LlamaRouter
    ) {
        return None;
    }
    let messages: Vec<Value> = messages
        .iter()
        .map(|message| json!({ "role": message.role.as_str(), "content": message.content }))
        .collect();
    let body = json!({ "model": instance.id, "messages": messages });
    let client = &target.server.client;
    let response = async {
        let response = client.post("/apply-template", &body).await.ok()?;
        client.read_body(response).await.ok()?.json()
    };
    let rendered = tokio::time::timeout(RENDER_TIMEOUT, response)
        .await
        .ok()??;
    rendered.get("prompt")?.as_str().map(str::to_owned)
}

/// One inference with all its attempts.
struct ChatRequest<'a> {
    target: &'a ServerTarget,
    instance: &'a ServerInstance,
    request: &'a InferenceRequest,
    sender: &'a mpsc::Sender<Result<Event, Error>>,
    /// Request keys that the server rejected.
    omitted_keys: Vec<String>,
    stream: bool,
    /// The server reported that it is loading its model. Until it accepts the
    /// request, the prompt has not been started.
    is_server_loading: bool,
}

/// The result of one attempt.
enum AttemptResult {
    /// The response is complete; `None` if the stream was dropped.
    Finished(Option<FinishReason>),
    /// The attempt failed before any output, so that a retry is safe.
    Retry {
        wait: Duration,
        reason: String,
        error: Error,
    },
    /// The model is still loading; this does not count as an attempt.
    Loading,
    /// The request was changed; this does not count as an attempt.
    RequestChanged,
}

impl ChatRequest<'_> {
    /// Sends an event. Returns `false` if the stream has been dropped.
    async fn emit(&self, event: Event) -> bool {
        self.sender.send(Ok(event)).await.is_ok()
    }

    /// Runs attempts until one finishes. Returns `None` if the stream was
    /// dropped.
    async fn run(&mut self) -> Result<Option<FinishReason>, Error> {
        let (settings, warnings) = self.supported_settings()?;
        for warning in warnings {
            if !self.emit(Event::Warning(warning)).await {
                return Ok(None);
            }
        }
        let max_tokens = self.effective_max_tokens(&settings)?;
        let endpoint = Endpoint::select(
            self.target.server.kind,
            self.target.listed.has_lmstudio_chat,
            &self.request.prompt,
            &settings,
        );
        tracing::debug!(
            ?endpoint,
            model = self.instance.id,
            "sending an inference request"
        );
        let mut failures = 0;
        loop {
            let body = self.request_body(endpoint, &settings, max_tokens);
            match self.attempt(endpoint, &body, max_tokens).await? {
                AttemptResult::Finished(finish) => return Ok(finish),
                AttemptResult::RequestChanged => {}
                AttemptResult::Loading => {
                    if !self.emit(Event::Loading(None)).await {
                        return Ok(None);
                    }
                    tokio::time::sleep(LOADING_RETRY_INTERVAL).await;
                }
                AttemptResult::Retry {
                    wait,
                    reason,
                    error,
                } => {
                    failures += 1;
                    if failures >= MAX_ATTEMPTS {
                        return Err(error);
                    }
                    let wait = wait.max(INITIAL_BACKOFF * 2_u32.pow(failures - 1));
                    if wait > MAX_BACKOFF {
                        return Err(error);
                    }
                    let warning = format!(
                        "{reason}; retrying in {} s (retry {failures} of {})",
                        wait.as_secs_f64(),
                        MAX_ATTEMPTS - 1
                    );
                    if !self.emit(Event::Warning(warning)).await {
                        return Ok(None);
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Returns the settings to send, and a warning for each explicitly set one
    /// that the server does not honour.
    ///
    /// # Errors
    /// Returns an error if one of them is required.
    fn supported_settings(&self) -> Result<(Settings, Vec<String>), Error> {
        let mut settings = self.request.settings.clone();
        let dropped: Vec<String> = settings
            .explicit_names()
            .into_iter()
            .filter(|name| {
                let support = self.target.support(&self.request.prompt, &settings, name);
                matches!(support, SettingSupport::Dropped | SettingSupport::Rejected)
            })
            .map(str::to_owned)
            .collect();
        let required: Vec<&str> = dropped
            .iter()
            .filter(|name| self.request.required_settings.contains(name))
            .map(String::as_str)
            .collect();
        if !required.is_empty() {
            return Err(Error::UnsupportedSettings(required.join(", ")));
        }
        if dropped.iter().any(|name| name == "reasoning") {
            settings.reasoning = None;
        }
        let engine = self.target.server.kind;
        let warnings = dropped
            .iter()
            .map(|name| format!("{engine} does not honour the setting `{name}` for this model"))
            .collect();
        Ok((settings, warnings))
    }

    /// Returns the limit of output tokens to send: at most what the prompt
    /// leaves of the context. LM Studio and Ollama let a model generate beyond
    /// the context and drop the beginning, so with them an unlimited request
    /// gets this limit.
    ///
    /// # Errors
    /// Returns an error if a percentage cannot be resolved or the prompt is
    /// certainly longer than the context.
    fn effective_max_tokens(&self, settings: &Settings) -> Result<Option<u32>, Error> {
        let Some(context) = self.instance.context else {
            // The server does not report the effective context length, so use
            // the tested or the declared one.
            let known = self
                .target
                .facts()
                .tested
                .or(self.target.declared_context());
            return match (settings.max_tokens.value, known) {
                (MaxTokens::Percent(_), None) => Err(Error::InvalidContext(format!(
                    "{} does not report the context length of the model, so a percentage cannot \
                     be resolved; give `--max-tokens` as a number",
                    self.target.server.display_name()
                ))),
                (limit @ MaxTokens::Percent(_), Some(known)) => Ok(limit.tokens(known)),
                (limit, _) => Ok(limit.tokens(u32::MAX)),
            };
        };
        let prompt = self.estimate_prompt_tokens();
        let kind = self.target.server.kind;
        // The other servers count the tokens of the prompt and report an
        // overflow.
        let truncates_silently = matches!(kind, ServerKind::LmStudio | ServerKind::Ollama);
        if truncates_silently && prompt.low > context {
            return Err(Error::PromptTooLong {
                engine: self.target.server.display_name(),
                model: self.target.listed.id.clone(),
                min_tokens: prompt.low,
                context,
            });
        }
        // If the estimate leaves nothing, let the server's count decide.
        let available = match context.saturating_sub(prompt.likely) {
            0 => context.saturating_sub(prompt.low),
            available => available,
        }
        .max(1);
        Ok(match settings.max_tokens.value.tokens(context) {
            Some(limit) => Some(limit.min(available)),
            None if truncates_silently => Some(available),
            None => None,
        })
    }

    fn estimate_prompt_tokens(&self) -> TokenEstimate {
        let per_byte = self.target.facts().tokens_per_byte;
        match &self.request.prompt {
            Prompt::Raw(text) => TokenEstimate::new([text.as_str()], per_byte),
            Prompt::Chat(messages) => TokenEstimate::new(
                messages.iter().map(|message| message.content.as_str()),
                per_byte,
            ),
        }
    }

    /// Returns the `num_ctx` for Ollama. After a load with a context length,
    /// every request has to repeat it: another number makes Ollama reload the
    /// model, and none keeps the loaded instance.
    fn num_ctx(&self) -> Option<u32> {
        let requested = self.target.requested_context;
        (self.instance.is_owned || requested.is_some())
            .then(|| self.instance.context.or(requested))
            .flatten()
    }

    fn request_body(
        &self,
        endpoint: Endpoint,
        settings: &Settings,
        max_tokens: Option<u32>,
    ) -> Map<String, Value> {
        let mut body = endpoint.request_body(&WireRequest {
            kind: self.target.server.kind,
            model: &self.instance.id,
            prompt: &self.request.prompt,
            settings,
            max_tokens,
            context: self.num_ctx(),
            stream: self.stream,
        });
        for key in &self.omitted_keys {
            body.remove(key);
        }
        body
    }

    async fn attempt(
        &mut self,
        endpoint: Endpoint,
        body: &Map<String, Value>,
        max_tokens: Option<u32>,
    ) -> Result<AttemptResult, Error> {
        let client = &self.target.server.client;
        let prefill_started = || Event::Prefill {
            progress: 0.0,
            tokens: None,
        };
        if !self.is_server_loading && !self.emit(prefill_started()).await {
            return Ok(AttemptResult::Finished(None));
        }
        let posted = client
            .post(endpoint.path(), &Value::Object(body.clone()))
            .await;
        let mut response = match posted {
            Ok(response) => response,
            Err(error @ (ClientError::ConnectFailed(_) | ClientError::ConnectionLost(_))) => {
                return Ok(self.retry_after_error(&error));
            }
            Err(error) => return Err(connection_error(&self.target.server, &error)),
        };
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let retry_after = retry_after(&response);
            let error_body = match client.read_body(response).await {
                Ok(response) => response.body,
                Err(error) => return Ok(self.retry_after_error(&error)),
            };
            let fault = fault::from_response(status, retry_after.as_deref(), &error_body);
            return self.handle_fault(fault, body).await;
        }
        if std::mem::take(&mut self.is_server_loading) && !self.emit(prefill_started()).await {
            return Ok(AttemptResult::Finished(None));
        }
        let mut reader = ResponseReader::new(
            self.target,
            self.instance,
            self.request,
            endpoint,
            max_tokens,
        );
        loop {
            let read = match reader.read_timeout() {
                None => client.chunk(&mut response).await,
                // After the finish reason, only token counts may follow.
                Some(timeout) => {
                    match tokio::time::timeout(timeout, client.chunk(&mut response)).await {
                        Ok(read) => read,
                        Err(_) => Ok(None),
                    }
                }
            };
            let (state, at_end) = match read {
                Ok(Some(bytes)) => (reader.push(&bytes), false),
                Ok(None) => (reader.end(), true),
                // A disconnect after the finish reason is not an error.
                Err(_) if reader.has_finish() => (reader.end(), true),
                Err(error) => {
                    // Held back text belongs to the partial answer.
                    for event in reader.flush_held_text() {
                        if !self.emit(event).await {
                            return Ok(AttemptResult::Finished(None));
                        }
                    }
                    if !reader.has_output() {
                        return Ok(self.retry_after_error(&error));
                    }
                    return Err(Error::ConnectionLost {
                        engine: self.target.server.display_name(),
                        reason: client.redact(&error.to_string()),
                    });
                }
            };
            for event in reader.take_events() {
                if !self.emit(event).await {
                    return Ok(AttemptResult::Finished(None));
                }
            }
            match state {
                ReadState::Incomplete if !at_end => {}
                ReadState::Incomplete => {
                    return Err(Error::IncompleteResponse {
                        engine: self.target.server.display_name(),
                    });
                }
                ReadState::Finished(finish) => return Ok(AttemptResult::Finished(Some(finish))),
                ReadState::Fault(fault) if !reader.has_output() => {
                    return self.handle_fault(fault, body).await;
                }
                ReadState::Fault(fault) => return Err(self.server_error(fault)),
                ReadState::Failed(error) => return Err(error),
            }
        }
    }

    fn retry_after_error(&self, client_error: &ClientError) -> AttemptResult {
        let error = match client_error {
            ClientError::ConnectionLost(cause) => Error::ConnectionLost {
                engine: self.target.server.display_name(),
                reason: self.target.server.client.redact(cause),
            },
            other => connection_error(&self.target.server, other),
        };
        AttemptResult::Retry {
            wait: Duration::ZERO,
            reason: format!("{}: {client_error}", self.target.server.display_name()),
            error,
        }
    }

    fn server_error(&self, fault: ServerFault) -> Error {
        Error::Server {
            engine: self.target.server.display_name(),
            model: self.instance.id.clone(),
            fault: Box::new(ServerFault {
                message: self.target.server.client.redact(&fault.message),
                ..fault
            }),
        }
    }

    /// Handles an error that the server reported before any output.
    async fn handle_fault(
        &mut self,
        fault: ServerFault,
        body: &Map<String, Value>,
    ) -> Result<AttemptResult, Error> {
        match &fault.kind {
            FaultKind::Loading => {
                self.is_server_loading = true;
                Ok(AttemptResult::Loading)
            }
            FaultKind::Busy => Ok(AttemptResult::Retry {
                wait: fault.retry_after.unwrap_or_default(),
                reason: format!("{} is busy", self.target.server.display_name()),
                error: self.server_error(fault),
            }),
            FaultKind::Unsupported(Some(key)) if key.starts_with("stream") => {
                let key = key.clone();
                if !self.stream {
                    return Err(self.server_error(fault));
                }
                if key == "stream_options" && !self.omitted_keys.contains(&key) {
                    self.omitted_keys.push(key);
                } else {
                    self.stream = false;
                    let warning =
                        "the server does not support streaming; the answer arrives in one piece";
                    let _dropped = self.emit(Event::Warning(warning.to_owned())).await;
                }
                Ok(AttemptResult::RequestChanged)
            }
            FaultKind::Unsupported(Some(key))
                if body.contains_key(key)
                    && !REQUIRED_KEYS.contains(&key.as_str())
                    && self.omitted_keys.len() < MAX_OMITTED_KEYS =>
            {
                let (key, setting) = (key.clone(), setting_name(key));
                if self
                    .request
                    .required_settings
                    .iter()
                    .any(|name| name == setting)
                {
                    return Err(Error::UnsupportedSettings(setting.to_owned()));
                }
                if self.request.settings.explicit_names().contains(&setting) {
                    let warning = format!(
                        "{} rejects the setting `{setting}`; retrying without it",
                        self.target.server.kind
                    );
                    let _dropped = self.emit(Event::Warning(warning)).await;
                }
                self.omitted_keys.push(key);
                Ok(AttemptResult::RequestChanged)
            }
            _ => Err(self.server_error(fault)),
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
