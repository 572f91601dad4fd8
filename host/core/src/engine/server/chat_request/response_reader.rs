//! Reads one response to its end: parses its frames into events, and returns
//! the answer or an error.

use std::time::{Duration, Instant};

use lmstrix_inference::{Event, FinishReason, Usage};
use serde_json::Value;

use super::answer_check::{check_model, detect_silent_overflow, refine_finish};
use super::body_decoder::{BodyDecoder, BodyRest};
use super::prepared_request::PreparedRequest;
use crate::engine::Error;
use crate::engine::reasoning::{OutputPart, ReasoningSplitter};
use crate::engine::server::dialect::WireEvent;
use crate::engine::server::fault::{self, ServerFault};
use crate::engine::server::sse;

/// Time limit for the rest of a response after its finish reason.
const TRAILING_DATA_TIMEOUT: Duration = Duration::from_secs(2);

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
    body: BodyDecoder,
    splitter: ReasoningSplitter,
    events: Vec<Event>,
    seen_warnings: Vec<String>,
    has_output: bool,
    is_model_checked: bool,
    usage: Option<Usage>,
    /// The finish reason and the time of its arrival.
    finish: Option<(FinishReason, Instant)>,
}

impl<'a> ResponseReader<'a> {
    pub(super) fn new(prepared: &'a PreparedRequest<'a>) -> Self {
        Self {
            prepared,
            body: BodyDecoder::new(prepared.endpoint.framing()),
            splitter: ReasoningSplitter::new(prepared.request.split_reasoning),
            events: Vec::new(),
            seen_warnings: Vec::new(),
            has_output: false,
            is_model_checked: false,
            usage: None,
            finish: None,
        }
    }

    /// Returns the time limit for the next chunk. `None` leaves it to the
    /// timeouts of the job.
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.finish
            .map(|(_, arrived)| TRAILING_DATA_TIMEOUT.saturating_sub(arrived.elapsed()))
    }

    pub(super) fn has_finish(&self) -> bool {
        self.finish.is_some()
    }

    /// Returns `true` once any part of an answer has been emitted.
    pub(super) fn has_output(&self) -> bool {
        self.has_output
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Emits text that was held back because it could have become a reasoning
    /// tag.
    pub(super) fn flush_held_text(&mut self) -> Vec<Event> {
        let pieces = self.splitter.finish();
        self.push_pieces(pieces);
        self.take_events()
    }

    /// Handles the next bytes of the response.
    pub(super) fn push(&mut self, bytes: &[u8]) -> ReadState {
        let mut frames = Vec::new();
        let decoded = self.body.push(bytes, &mut frames);
        let state = self.read_frames(frames, false);
        match decoded {
            Err(reason) if matches!(state, ReadState::Incomplete) => self.invalid_response(&reason),
            _ => state,
        }
    }

    /// Handles the end of the response, or the end of the wait for it.
    pub(super) fn end(&mut self) -> ReadState {
        let state = match self.body.finish() {
            BodyRest::Frames(frames) => self.read_frames(frames, true),
            BodyRest::SingleBody(body) => self.read_single_body(&body),
        };
        match state {
            ReadState::Incomplete => self.finish_response(),
            state => state,
        }
    }

    fn read_single_body(&mut self, body: &[u8]) -> ReadState {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            // This is an error page with a success status.
            let fault = fault::from_text(&String::from_utf8_lossy(body));
            return ReadState::Fault(fault);
        };
        let mut events = Vec::new();
        self.prepared.endpoint.parse_response(&value, &mut events);
        self.handle_events(events)
    }

    fn read_frames(&mut self, frames: Vec<sse::Frame>, at_end: bool) -> ReadState {
        for frame in frames {
            let mut events = Vec::new();
            if let Err(reason) =
                self.prepared
                    .endpoint
                    .parse_frame(&frame.event, &frame.data, &mut events)
            {
                // The stream was cut in the middle of its last line.
                if at_end {
                    return ReadState::Incomplete;
                }
                return self.invalid_response(&reason);
            }
            match self.handle_events(events) {
                ReadState::Incomplete => {}
                state => return state,
            }
        }
        ReadState::Incomplete
    }

    fn invalid_response(&mut self, reason: &str) -> ReadState {
        let held_back = self.splitter.finish();
        self.push_pieces(held_back);
        ReadState::Failed(Error::InvalidResponse {
            engine: self.prepared.target.server.display_name(),
            received: reason.to_owned(),
        })
    }

    fn handle_events(&mut self, events: Vec<WireEvent>) -> ReadState {
        for event in events {
            match event {
                WireEvent::Loading(progress) => self.events.push(Event::Loading(progress)),
                WireEvent::Prefill { progress, tokens } => {
                    self.events.push(Event::Prefill { progress, tokens });
                }
                WireEvent::Reasoning(text) => self.push_pieces(vec![OutputPart::Reasoning(text)]),
                WireEvent::Text(text) => {
                    let pieces = self.splitter.push(&text);
                    self.push_pieces(pieces);
                }
                WireEvent::Usage(usage) => {
                    self.usage = Some(usage);
                    self.events.push(Event::Usage(usage));
                }
                WireEvent::Warning(warning) => self.warn_once(warning),
                WireEvent::Model(model) => {
                    if let Some(error) = self.check_model(&model) {
                        return ReadState::Failed(error);
                    }
                }
                WireEvent::Fault(fault) => {
                    let held_back = self.splitter.finish();
                    self.push_pieces(held_back);
                    return ReadState::Fault(fault);
                }
                WireEvent::Finish(finish) => {
                    self.finish.get_or_insert_with(|| (finish, Instant::now()));
                }
                WireEvent::Done if self.finish.is_some() => return self.finish_response(),
                // The finish reason must follow in the rest of the stream.
                WireEvent::Done => {}
            }
        }
        ReadState::Incomplete
    }

    fn push_pieces(&mut self, pieces: Vec<OutputPart>) {
        for piece in pieces {
            self.has_output = true;
            self.events.push(piece.into());
        }
    }

    /// Emits a warning, unless the same was emitted before for this response.
    fn warn_once(&mut self, warning: String) {
        if !self.seen_warnings.contains(&warning) {
            self.seen_warnings.push(warning.clone());
            self.events.push(Event::Warning(warning));
        }
    }

    /// Checks the first model that the response names, and emits a warning if it may be
    /// another one.
    fn check_model(&mut self, answered: &str) -> Option<Error> {
        if std::mem::replace(&mut self.is_model_checked, true) {
            return None;
        }
        match check_model(self.prepared, answered) {
            Ok(Some(warning)) => self.warn_once(warning),
            Ok(None) => {}
            Err(error) => return Some(error),
        }
        None
    }

    /// Ends the response: it is an answer if there is a finish reason.
    fn finish_response(&mut self) -> ReadState {
        let held_back = self.splitter.finish();
        self.push_pieces(held_back);
        let Some((finish, _)) = self.finish else {
            return ReadState::Incomplete;
        };
        if !self.has_output
            && let Some(fault) = detect_silent_overflow(self.prepared, finish, self.usage)
        {
            return ReadState::Fault(fault);
        }
        ReadState::Finished(refine_finish(self.prepared, finish, self.usage))
    }
}
