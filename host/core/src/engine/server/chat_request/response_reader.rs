//! Reads one response to its end: decodes it, and checks what only the request tells, whether
//! the requested model answered and whether a limit cut the answer.

use std::time::Duration;

use lmstrix_inference::{Event, FinishReason};

use super::answer_check::{check_model, detect_silent_overflow, refine_finish};
use super::answer_decoder::{AnswerDecoder, Decoded};
use super::prepared_request::PreparedRequest;
use crate::engine::Error;
use crate::engine::server::fault::ServerFault;

/// The state of a response after a chunk of it.
#[derive(Debug)]
pub(super) enum ReadState {
    /// The response goes on.
    Incomplete,
    /// The answer is complete.
    Finished(FinishReason),
    /// The server reported an error.
    Fault(ServerFault),
    /// The response is not a valid answer.
    Failed(Error),
}

/// Reads the body of one response into events.
#[derive(Debug)]
pub(super) struct ResponseReader<'a> {
    prepared: &'a PreparedRequest<'a>,
    decoder: AnswerDecoder,
    /// The model that was checked last: a response may name another one at its end.
    checked_model: Option<String>,
}

impl<'a> ResponseReader<'a> {
    pub(super) fn new(prepared: &'a PreparedRequest<'a>) -> Self {
        Self {
            prepared,
            decoder: AnswerDecoder::new(prepared.endpoint, prepared.reasoning_splitter()),
            checked_model: None,
        }
    }

    /// Returns the time limit for the next chunk. `None` leaves it to the timeouts of the
    /// job.
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.decoder.read_timeout()
    }

    /// Returns `true` if a disconnect does not matter.
    pub(super) fn may_be_disconnected(&self) -> bool {
        self.decoder.may_be_disconnected()
    }

    /// Returns `true` once any part of an answer has been decoded.
    pub(super) fn has_output(&self) -> bool {
        self.decoder.has_output()
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let client = &self.prepared.target.server.client;
        let redact = |event| match event {
            Event::Warning(warning) => Event::Warning(client.redact(&warning)),
            event => event,
        };
        let events = self.decoder.take_events();
        events.into_iter().map(redact).collect()
    }

    /// Returns text that was held back because it could have become a reasoning tag.
    pub(super) fn flush_held_text(&mut self) -> Vec<Event> {
        self.decoder.flush_held_text();
        self.decoder.take_events()
    }

    /// Handles the next bytes of the response.
    pub(super) fn push(&mut self, bytes: &[u8]) -> ReadState {
        let decoded = self.decoder.push(bytes);
        self.check(decoded)
    }

    /// Handles the end of the response, or the end of the wait for it.
    pub(super) fn end(&mut self) -> ReadState {
        let decoded = self.decoder.end();
        self.check(decoded)
    }

    fn check(&mut self, decoded: Decoded) -> ReadState {
        if let Err(error) = self.check_model() {
            // The text of another model.
            self.decoder.take_events();
            return ReadState::Failed(error);
        }
        let finish = match decoded {
            Decoded::Incomplete => return ReadState::Incomplete,
            Decoded::Fault(fault) => return ReadState::Fault(fault),
            Decoded::Invalid(reason) => {
                return ReadState::Failed(Error::InvalidResponse {
                    engine: self.prepared.target.server.display_name(),
                    received: reason,
                });
            }
            Decoded::Finished(finish) => finish,
        };
        let usage = self.decoder.usage();
        if !self.has_output()
            && let Some(fault) = detect_silent_overflow(self.prepared, &finish, usage)
        {
            return ReadState::Fault(fault);
        }
        let finish = match refine_finish(self.prepared, finish, usage) {
            FinishReason::Other(reason) => {
                FinishReason::Other(self.prepared.target.server.client.redact(&reason))
            }
            finish => finish,
        };
        ReadState::Finished(finish)
    }

    /// Checks the model that the response names, once for each name.
    ///
    /// # Errors
    /// Returns an error if another model answered.
    fn check_model(&mut self) -> Result<(), Error> {
        let Some(model) = self.decoder.model() else {
            return Ok(());
        };
        if self.checked_model.as_deref() == Some(model) {
            return Ok(());
        }
        let model = model.to_owned();
        self.checked_model = Some(model.clone());
        let model = self.prepared.target.server.client.redact(&model);
        if let Some(warning) = check_model(self.prepared, &model)? {
            self.decoder.warn_once(warning);
        }
        Ok(())
    }
}
