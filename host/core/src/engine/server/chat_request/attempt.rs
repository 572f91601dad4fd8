//! One attempt of an inference: sends the request and reads the response. An attempt
//! that fails before any output can be repeated.

use std::time::Duration;

use bytes::Bytes;
use lmstrix_inference::{Event, FinishReason};
use serde_json::{Map, Value};

use super::event_sender::EventSender;
use super::prepared_request::PreparedRequest;
use super::request_form::{FormChange, RequestForm};
use super::response_reader::{ReadState, ResponseReader};
use crate::engine::Error;
use crate::engine::server::fault::{self, FaultKind, ServerFault};
use crate::engine::server::http_client::{ClientError, retry_after};
use crate::engine::server::json_request::connection_error;
use crate::engine::server::load_decision::{LoadMethod, load_method};

/// The attempts of one inference, and the state that is kept between them.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    prepared: &'a PreparedRequest<'a>,
    sender: &'a EventSender,
    form: RequestForm,
    /// The server reported that it is loading its model. Until it accepts the
    /// request, the prompt has not been started.
    is_server_loading: bool,
}

/// The result of one attempt.
#[derive(Debug)]
pub(super) enum AttemptResult {
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
    /// The instance is gone, or has less context than it had when it was loaded.
    InstanceGone(Error),
    /// The request was changed; this does not count as an attempt.
    RequestChanged,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(prepared: &'a PreparedRequest<'a>, sender: &'a EventSender) -> Self {
        Self {
            prepared,
            sender,
            form: RequestForm::new(),
            is_server_loading: false,
        }
    }

    /// Sends the request once and reads the response.
    ///
    /// # Errors
    /// Returns an error if a further attempt cannot succeed, or would repeat output.
    pub(super) async fn run_one(&mut self) -> Result<AttemptResult, Error> {
        let body = self.form.body(self.prepared);
        let server = &self.prepared.target.server;
        if !self.is_server_loading && !self.emit_prefill_start().await {
            return Ok(AttemptResult::Finished(None));
        }
        let posted = server
            .client
            .post(self.prepared.endpoint.path(), &Value::Object(body.clone()))
            .await;
        let response = match posted {
            Ok(response) => response,
            Err(error @ (ClientError::ConnectFailed(_) | ClientError::ConnectionLost(_))) => {
                return Ok(self.retry_after_error(&error));
            }
            Err(error) => return Err(connection_error(server, &error)),
        };
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let retry_after = retry_after(&response);
            let error_body = match server.client.read_body(response).await {
                Ok(response) => response.body,
                Err(error) => return Ok(self.retry_after_error(&error)),
            };
            let fault = fault::from_response(status, retry_after.as_deref(), &error_body);
            return self.handle_fault(fault, &body).await;
        }
        if std::mem::take(&mut self.is_server_loading) && !self.emit_prefill_start().await {
            return Ok(AttemptResult::Finished(None));
        }
        self.read_response(response, &body).await
    }

    /// Reads the response to its end, and emits its events.
    async fn read_response(
        &mut self,
        mut response: reqwest::Response,
        body: &Map<String, Value>,
    ) -> Result<AttemptResult, Error> {
        let mut reader = ResponseReader::new(self.prepared);
        loop {
            let (state, at_end) = match self.read_chunk(&reader, &mut response).await {
                Ok(Some(bytes)) => (reader.push(&bytes), false),
                Ok(None) => (reader.end(), true),
                // A disconnect after the finish reason is not an error.
                Err(_) if reader.may_be_disconnected() => (reader.end(), true),
                Err(error) => {
                    // Held back text belongs to the partial answer.
                    if !self.emit_all(reader.flush_held_text()).await {
                        return Ok(AttemptResult::Finished(None));
                    }
                    if !reader.has_output() {
                        return Ok(self.retry_after_error(&error));
                    }
                    let server = &self.prepared.target.server;
                    return Err(Error::ConnectionLost {
                        engine: server.display_name(),
                        reason: server.client.redact(&error.to_string()),
                    });
                }
            };
            if !self.emit_all(reader.take_events()).await {
                return Ok(AttemptResult::Finished(None));
            }
            match state {
                ReadState::Incomplete if !at_end => {}
                ReadState::Incomplete => {
                    return Err(Error::IncompleteResponse {
                        engine: self.prepared.target.server.display_name(),
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

    /// Reads the next chunk of the response; `None` at its end, or at the end of the
    /// wait for it.
    async fn read_chunk(
        &self,
        reader: &ResponseReader<'_>,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, ClientError> {
        let chunk = self.prepared.target.server.client.chunk(response);
        match reader.read_timeout() {
            None => chunk.await,
            // After the finish reason, only token counts may follow.
            Some(timeout) => match tokio::time::timeout(timeout, chunk).await {
                Ok(read) => read,
                Err(_) => Ok(None),
            },
        }
    }

    /// Emits events. Returns `false` if the stream has been dropped.
    async fn emit_all(&self, events: Vec<Event>) -> bool {
        for event in events {
            if !self.sender.emit(event).await {
                return false;
            }
        }
        true
    }

    async fn emit_prefill_start(&self) -> bool {
        let event = Event::Prefill {
            progress: 0.0,
            tokens: None,
        };
        self.sender.emit(event).await
    }

    fn retry_after_error(&self, client_error: &ClientError) -> AttemptResult {
        let server = &self.prepared.target.server;
        let error = match client_error {
            ClientError::ConnectionLost(cause) => Error::ConnectionLost {
                engine: server.display_name(),
                reason: server.client.redact(cause),
            },
            other => connection_error(server, other),
        };
        AttemptResult::Retry {
            wait: Duration::ZERO,
            reason: format!("{}: {client_error}", server.display_name()),
            error,
        }
    }

    fn server_error(&self, fault: ServerFault) -> Error {
        let server = &self.prepared.target.server;
        Error::Server {
            engine: server.display_name(),
            model: self.prepared.instance.id.clone(),
            fault: Box::new(ServerFault {
                message: server.client.redact(&fault.message),
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
            kind if self.is_instance_gone(kind) => {
                Ok(AttemptResult::InstanceGone(self.server_error(fault)))
            }
            FaultKind::Loading => {
                self.is_server_loading = true;
                Ok(AttemptResult::Loading)
            }
            FaultKind::Busy => Ok(AttemptResult::Retry {
                wait: fault.retry_after.unwrap_or_default(),
                reason: format!("{} is busy", self.prepared.target.server.display_name()),
                error: self.server_error(fault),
            }),
            FaultKind::Unsupported(names) => {
                let change =
                    self.form
                        .change_rejected(names, &fault.message, body, self.prepared)?;
                self.apply(change, fault).await
            }
            FaultKind::Overflow {
                prompt_tokens: Some(prompt),
                output_tokens: Some(output),
                context_tokens: Some(context),
            } => {
                let change = self
                    .form
                    .limit_output(*prompt, *output, *context, self.prepared);
                self.apply(change, fault).await
            }
            _ => Err(self.server_error(fault)),
        }
    }

    /// Returns whether the fault means that the instance is gone: the server says so, or
    /// names a smaller context than the instance had, since it loaded the model by itself.
    fn is_instance_gone(&self, kind: &FaultKind) -> bool {
        let PreparedRequest {
            target, instance, ..
        } = self.prepared;
        let is_gone = match kind {
            FaultKind::Unloaded => true,
            // A further instance has a name of its own.
            FaultKind::UnknownModel => instance.id != target.listed.id,
            FaultKind::Overflow {
                context_tokens: Some(context),
                ..
            } => instance
                .context
                .is_some_and(|loaded| *context < loaded.into()),
            _ => false,
        };
        is_gone && load_method(target.server.kind, &target.listed) != LoadMethod::StartedWithModel
    }

    /// Continues with a changed request.
    ///
    /// # Errors
    /// Returns the fault if the request cannot be changed.
    async fn apply(&self, change: FormChange, fault: ServerFault) -> Result<AttemptResult, Error> {
        let FormChange::Changed { warning } = change else {
            return Err(self.server_error(fault));
        };
        if let Some(warning) = warning {
            let _dropped = self.sender.emit(Event::Warning(warning)).await;
        }
        Ok(AttemptResult::RequestChanged)
    }
}
