//! Reads one response to its end: splits it into frames, parses them, and
//! decides whether they form an answer.

use std::time::{Duration, Instant};

use lmstrix_inference::{Event, FinishReason, Prompt, Usage};
use serde_json::Value;

use crate::engine::reasoning::{OutputPart, ReasoningSplitter};
use crate::engine::server::dialect::{Endpoint, Framing, WireEvent};
use crate::engine::server::fault::{self, FaultKind, ServerFault};
use crate::engine::server::{ServerInstance, ServerKind, ServerTarget, ndjson, sse};
use crate::engine::{Error, InferenceRequest};

/// Time limit for the rest of a response after its finish reason.
const TRAILING_DATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size in bytes of an answer that is not streamed.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The state of a response after a chunk of it.
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

/// Splits a response body into frames.
enum BodyDecoder {
    /// Only whitespace so far; the format is not known yet.
    Undetermined(Framing),
    Sse(sse::SseDecoder),
    Lines(ndjson::NdjsonDecoder),
    /// The body is one JSON value or a page, although a stream was requested.
    SingleBody(Vec<u8>),
}

/// Reads the body of one response into events.
pub(super) struct ResponseReader<'a> {
    target: &'a ServerTarget,
    instance: &'a ServerInstance,
    request: &'a InferenceRequest,
    endpoint: Endpoint,
    max_tokens: Option<u32>,
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
    pub(super) fn new(
        target: &'a ServerTarget,
        instance: &'a ServerInstance,
        request: &'a InferenceRequest,
        endpoint: Endpoint,
        max_tokens: Option<u32>,
    ) -> Self {
        Self {
            target,
            instance,
            request,
            endpoint,
            max_tokens,
            body: BodyDecoder::Undetermined(endpoint.framing()),
            splitter: ReasoningSplitter::new(request.split_reasoning),
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

    pub(super) fn push(&mut self, bytes: &[u8]) -> ReadState {
        if let BodyDecoder::Undetermined(framing) = self.body {
            // A server may answer with a single body although a stream was
            // requested. No event stream starts with a brace; a page of a proxy
            // has no frames.
            let first_byte = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            match (first_byte, framing) {
                (None, _) => return ReadState::Incomplete,
                (Some(b'{' | b'[' | b'<'), Framing::ServerSentEvents)
                | (Some(b'<' | b'['), Framing::NdjsonLines) => {
                    self.body = BodyDecoder::SingleBody(Vec::new())
                }
                (Some(_), Framing::ServerSentEvents) => {
                    self.body = BodyDecoder::Sse(sse::SseDecoder::default());
                }
                (Some(_), Framing::NdjsonLines) => {
                    self.body = BodyDecoder::Lines(ndjson::NdjsonDecoder::default());
                }
            }
        }
        let mut frames = Vec::new();
        let decoded = match &mut self.body {
            BodyDecoder::Undetermined(_) => Ok(()),
            BodyDecoder::Sse(decoder) => decoder.push(bytes, &mut frames),
            BodyDecoder::Lines(decoder) => {
                let mut lines = Vec::new();
                let result = decoder.push(bytes, &mut lines);
                frames.extend(lines.into_iter().map(frame_from_line));
                result
            }
            BodyDecoder::SingleBody(body) => {
                body.extend_from_slice(bytes);
                if body.len() > MAX_BODY_BYTES {
                    return self.invalid_response("answer larger than 64 MiB");
                }
                return ReadState::Incomplete;
            }
        };
        let state = self.read_frames(frames, false);
        match decoded {
            Err(error) if matches!(state, ReadState::Incomplete) => {
                self.invalid_response(&error.to_string())
            }
            _ => state,
        }
    }

    /// Handles the end of the response, or the end of the wait for it.
    pub(super) fn end(&mut self) -> ReadState {
        let mut frames = Vec::new();
        match &mut self.body {
            BodyDecoder::Undetermined(_) => {}
            BodyDecoder::Sse(decoder) => {
                // A frame that is too long is treated as one that was cut off.
                let _too_long = decoder.finish(&mut frames);
            }
            BodyDecoder::Lines(decoder) => {
                let mut lines = Vec::new();
                decoder.finish(&mut lines);
                frames.extend(lines.into_iter().map(frame_from_line));
            }
            BodyDecoder::SingleBody(body) => {
                let body = std::mem::take(body);
                return self.read_single_body(&body);
            }
        }
        match self.read_frames(frames, true) {
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
        self.endpoint.parse_response(&value, &mut events);
        match self.handle_events(events) {
            ReadState::Incomplete => self.finish_response(),
            state => state,
        }
    }

    fn read_frames(&mut self, frames: Vec<sse::Frame>, at_end: bool) -> ReadState {
        for frame in frames {
            let mut events = Vec::new();
            if let Err(reason) = self
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
            engine: self.target.server.display_name(),
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

    /// Compares the model in the response with the requested one. LM Studio and
    /// Ollama may answer with another model, which is an error; with other
    /// servers the name may be an alias, which is a warning.
    fn check_model(&mut self, answered: &str) -> Option<Error> {
        if std::mem::replace(&mut self.is_model_checked, true) {
            return None;
        }
        let requested = &self.instance.id;
        let listed = &self.target.listed;
        let is_requested = [requested, &listed.id]
            .into_iter()
            .chain(&listed.aliases)
            .any(|name| {
                answered == name
                    || answered
                        .strip_prefix(name.as_str())
                        .is_some_and(|rest| rest.starts_with([':', '@']))
            });
        if is_requested {
            return None;
        }
        match self.target.server.kind {
            ServerKind::LmStudio | ServerKind::Ollama => Some(Error::WrongModel {
                engine: self.target.server.display_name(),
                requested: requested.clone(),
                actual: answered.to_owned(),
            }),
            ServerKind::LlamaServer
            | ServerKind::LlamaRouter
            | ServerKind::Vllm
            | ServerKind::OpenAi => {
                self.warn_once(format!(
                    "requested model `{requested}`, but the server reports model `{answered}`"
                ));
                None
            }
        }
    }

    /// Ends the response: it is an answer if there is a finish reason.
    fn finish_response(&mut self) -> ReadState {
        let held_back = self.splitter.finish();
        self.push_pieces(held_back);
        let Some((finish, _)) = self.finish else {
            return ReadState::Incomplete;
        };
        if !self.has_output
            && let Some(fault) = self.detect_silent_overflow(finish)
        {
            return ReadState::Fault(fault);
        }
        ReadState::Finished(self.refine_finish(finish))
    }

    /// Refines the finish reason by the token counts. LM Studio's native chat
    /// never reports that a limit cut the answer, and no server distinguishes
    /// the limit of the context from that of the request.
    fn refine_finish(&self, finish: FinishReason) -> FinishReason {
        let Some(usage) = self.usage else {
            return finish;
        };
        // If LM Studio reports a cut answer, it counts one token too few.
        let uncounted = u32::from(finish == FinishReason::Length);
        let at_limit = |limit: u32| usage.completion_tokens.saturating_add(uncounted) >= limit;
        let is_cut = match finish {
            FinishReason::Length => true,
            FinishReason::End => self.endpoint == Endpoint::LmStudioChat,
            _ => false,
        };
        if !is_cut {
            return finish;
        }
        if self.max_tokens.is_some_and(at_limit) {
            return FinishReason::Length;
        }
        let is_context_full = self.instance.context.is_some_and(|context| {
            usage
                .prompt_tokens
                .saturating_add(usage.completion_tokens)
                .saturating_add(uncounted)
                >= context
        });
        if is_context_full {
            FinishReason::ContextFull
        } else {
            finish
        }
    }

    /// Detects a prompt that exceeds the context. LM Studio answers it with an
    /// empty success; the size of the prompt distinguishes that from a model
    /// that generates nothing.
    fn detect_silent_overflow(&self, finish: FinishReason) -> Option<ServerFault> {
        let context = self.instance.context?;
        let counted = self
            .usage
            .map(|usage| usage.prompt_tokens)
            .filter(|tokens| *tokens > 0);
        let is_studio =
            self.target.server.kind == ServerKind::LmStudio && finish == FinishReason::End;
        let tokens = match counted {
            Some(counted) => counted,
            None if is_studio => rough_token_count(&self.request.prompt),
            None => return None,
        };
        (tokens >= context).then(|| ServerFault {
            kind: FaultKind::Overflow {
                prompt_tokens: Some(tokens.into()),
                context_tokens: Some(context.into()),
            },
            message:
                "the answer is empty, which is how some servers report that a prompt exceeds the context"
                    .to_owned(),
            status: None,
            retry_after: None,
        })
    }
}

fn frame_from_line(line: String) -> sse::Frame {
    sse::Frame {
        event: String::new(),
        data: line,
    }
}

/// Approximate bytes per token of English text, enough to recognise a prompt
/// that is far too long.
const BYTES_PER_TOKEN: usize = 4;

fn rough_token_count(prompt: &Prompt) -> u32 {
    let bytes: usize = match prompt {
        Prompt::Raw(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
    };
    u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX)
}
