//! Decodes the bytes of one response into events, and decides how the answer ended. Pure,
//! except for the clock.

use std::time::{Duration, Instant};

use lmstrix_inference::{Event, FinishReason, Usage};

use super::body_decoder::{BodyDecoder, BodyRest};
use super::surrogates::SurrogateRepair;
use crate::engine::reasoning::{OutputPart, ReasoningSplitter};
use crate::engine::server::dialect::{Endpoint, ReportedEnd, WireEvent, unknown_reason_warning};
use crate::engine::server::fault::{self, FaultKind, ServerFault};
use crate::engine::server::sse;

/// Time limit for the rest of a response after its finish reason. It starts again with
/// every piece of text, since some servers send a reason with each of them.
const TRAILING_DATA_TIMEOUT: Duration = Duration::from_secs(2);

/// After text that followed a finish reason, the time limit is this multiple of the longest
/// wait for such text, so that a slow model is not cut.
const GAPS_BEFORE_END: u32 = 4;

/// The state of a response after a chunk of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decoded {
    /// The response goes on.
    Incomplete,
    /// The answer is complete.
    Finished(FinishReason),
    /// The server reported an error.
    Fault(ServerFault),
    /// The response is not a valid answer; the reason.
    Invalid(String),
}

/// Decodes the body of one response.
#[derive(Debug)]
pub(super) struct AnswerDecoder {
    endpoint: Endpoint,
    body: BodyDecoder,
    surrogates: SurrogateRepair,
    splitter: ReasoningSplitter,
    events: Vec<Event>,
    seen_warnings: Vec<String>,
    has_output: bool,
    model: Option<String>,
    usage: Option<Usage>,
    /// The last finish reason.
    end: Option<ReportedEnd>,
    /// The server marked the end of the response.
    is_done: bool,
    /// The time of the last finish reason or piece of text.
    last_progress: Instant,
    /// The longest wait for a piece of text after a finish reason; `None` if there was none.
    longest_gap: Option<Duration>,
}

impl AnswerDecoder {
    pub(super) fn new(endpoint: Endpoint, splitter: ReasoningSplitter) -> Self {
        Self {
            endpoint,
            body: BodyDecoder::new(endpoint.framing()),
            surrogates: SurrogateRepair::default(),
            splitter,
            events: Vec::new(),
            seen_warnings: Vec::new(),
            has_output: false,
            model: None,
            usage: None,
            end: None,
            is_done: false,
            last_progress: Instant::now(),
            longest_gap: None,
        }
    }

    /// Returns the time limit for the next chunk. `None` leaves it to the timeouts of the
    /// job.
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.end.as_ref()?;
        let limit = match self.longest_gap {
            None => TRAILING_DATA_TIMEOUT,
            Some(gap) => TRAILING_DATA_TIMEOUT.max(gap * GAPS_BEFORE_END),
        };
        Some(limit.saturating_sub(self.last_progress.elapsed()))
    }

    /// Returns `true` if a disconnect does not matter: the answer has a finish reason, and the
    /// server does not send one with every piece.
    pub(super) fn may_be_disconnected(&self) -> bool {
        self.end.is_some() && self.longest_gap.is_none()
    }

    /// Returns `true` once any part of an answer has been decoded.
    pub(super) fn has_output(&self) -> bool {
        self.has_output
    }

    /// Returns the first model that the response names.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Emits text that was held back because it could have become a reasoning tag.
    pub(super) fn flush_held_text(&mut self) {
        if let Some(rest) = self.surrogates.finish() {
            self.push_text(&rest);
        }
        let is_complete = matches!(&self.end, Some(ReportedEnd::Finished(end)) if !end.is_cut());
        let parts = self.splitter.finish(is_complete);
        self.push_parts(parts);
    }

    /// Emits a warning, unless the same was emitted before for this response.
    pub(super) fn warn_once(&mut self, warning: String) {
        if !self.seen_warnings.contains(&warning) {
            self.seen_warnings.push(warning.clone());
            self.events.push(Event::Warning(warning));
        }
    }

    /// Handles the next bytes of the response.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Decoded {
        let mut frames = Vec::new();
        let decoded = self.body.push(bytes, &mut frames);
        let state = self.read_frames(frames, false);
        match decoded {
            Err(reason) if state == Decoded::Incomplete => self.invalid(reason),
            _ => state,
        }
    }

    /// Handles the end of the response, or the end of the wait for it.
    pub(super) fn end(&mut self) -> Decoded {
        let state = match self.body.finish() {
            BodyRest::Frames(frames) => self.read_frames(frames, true),
            BodyRest::SingleBody(body) => self.read_single_body(&body),
        };
        match state {
            Decoded::Incomplete => self.finish(),
            state => state,
        }
    }

    fn read_single_body(&mut self, body: &[u8]) -> Decoded {
        let text = String::from_utf8_lossy(body);
        let mut events = Vec::new();
        let read = self
            .surrogates
            .read(text.trim_start_matches('\u{feff}'), |text| {
                self.endpoint.read_response(text, &mut events)
            });
        match read {
            Ok(()) => self.handle_events(events),
            // This is an error page with a success status.
            Err(_) => Decoded::Fault(fault::from_text(&text)),
        }
    }

    fn read_frames(&mut self, frames: Vec<sse::Frame>, at_end: bool) -> Decoded {
        for frame in frames {
            let events = match self.parse_frame(&frame) {
                Ok(events) => events,
                // The stream was cut in the middle of its last line.
                Err(_) if at_end => return Decoded::Incomplete,
                Err(reason) => return self.invalid(reason),
            };
            match self.handle_events(events) {
                Decoded::Incomplete => {}
                state => return state,
            }
        }
        Decoded::Incomplete
    }

    /// Parses one frame of a stream.
    ///
    /// # Errors
    /// Returns a description if the frame is not JSON.
    fn parse_frame(&mut self, frame: &sse::Frame) -> Result<Vec<WireEvent>, String> {
        let data = frame.data.trim();
        let is_error = frame.event == "error";
        if data.is_empty() {
            return Ok(Vec::new());
        }
        if data == "[DONE]" {
            return Ok(vec![WireEvent::Done]);
        }
        let mut events = Vec::new();
        let read = self.surrogates.read(data, |frame| {
            self.endpoint.read_frame(is_error, frame, &mut events)
        });
        match read {
            Ok(()) => {}
            Err(_) if is_error => events.push(WireEvent::Fault(fault::from_text(data))),
            Err(error) => return Err(format!("{error} in {} bytes", data.len())),
        }
        Ok(events)
    }

    fn invalid(&mut self, reason: String) -> Decoded {
        self.flush_held_text();
        Decoded::Invalid(reason)
    }

    fn handle_events(&mut self, events: Vec<WireEvent>) -> Decoded {
        for event in events {
            match event {
                WireEvent::Loading(progress) => self.events.push(Event::Loading(progress)),
                WireEvent::Prefill { progress, tokens } => {
                    self.events.push(Event::Prefill { progress, tokens });
                }
                WireEvent::Reasoning(text) => {
                    self.splitter.reasoning_is_separate();
                    self.push_parts(vec![OutputPart::Reasoning(text)]);
                }
                WireEvent::Text(text) => self.push_text(&text),
                WireEvent::Usage(usage) => {
                    self.usage = Some(usage);
                    self.events.push(Event::Usage(usage));
                }
                WireEvent::Warning(warning) => self.warn_once(warning),
                WireEvent::Model(model) => {
                    self.model = Some(model);
                }
                WireEvent::Fault(fault) => {
                    self.flush_held_text();
                    return Decoded::Fault(fault);
                }
                WireEvent::Finish(end) => {
                    self.last_progress = Instant::now();
                    self.end = Some(end);
                }
                WireEvent::Done => {
                    self.is_done = true;
                    return self.finish();
                }
            }
        }
        Decoded::Incomplete
    }

    fn push_text(&mut self, text: &str) {
        if self.end.is_some() {
            self.longest_gap = self.longest_gap.max(Some(self.last_progress.elapsed()));
        }
        // Text that the splitter holds back is progress, too.
        self.last_progress = Instant::now();
        let parts = self.splitter.push(text);
        self.push_parts(parts);
    }

    fn push_parts(&mut self, parts: Vec<OutputPart>) {
        for part in parts {
            self.last_progress = Instant::now();
            self.has_output = true;
            self.events.push(part.into());
        }
    }

    /// Ends the response. It is an answer if the server gave a finish reason or marked the
    /// end.
    fn finish(&mut self) -> Decoded {
        self.flush_held_text();
        let finish = match self.end.take() {
            Some(ReportedEnd::Finished(finish)) => finish,
            Some(ReportedEnd::Failed(reason)) => return Decoded::Fault(failed_answer(&reason)),
            None if self.is_done => FinishReason::Unreported,
            None => return Decoded::Incomplete,
        };
        if let Some(warning) = unknown_reason_warning(&finish) {
            self.warn_once(warning);
        }
        Decoded::Finished(finish)
    }
}

/// Returns the fault of an answer that the server gave up.
fn failed_answer(reason: &str) -> ServerFault {
    ServerFault {
        kind: FaultKind::Other,
        message: format!("the server ended the answer with the reason `{reason}`"),
        status: None,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What a decoder made of a response.
    #[derive(Debug, PartialEq)]
    struct Answer {
        text: String,
        reasoning: String,
        end: Decoded,
    }

    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Answer {
        let splitter = ReasoningSplitter::new(true);
        let mut decoder = AnswerDecoder::new(Endpoint::OpenAiChat, splitter);
        let mut end = Decoded::Incomplete;
        for chunk in chunks {
            end = decoder.push(chunk);
            if end != Decoded::Incomplete {
                break;
            }
        }
        if end == Decoded::Incomplete {
            end = decoder.end();
        }
        let (mut text, mut reasoning) = (String::new(), String::new());
        for event in decoder.take_events() {
            match event {
                Event::Text(piece) => text.push_str(&piece),
                Event::Reasoning(piece) => reasoning.push_str(&piece),
                Event::TextWasReasoning => reasoning.push_str(&std::mem::take(&mut text)),
                _ => {}
            }
        }
        Answer {
            text,
            reasoning,
            end,
        }
    }

    fn frame(delta: &Value, reason: &Value) -> String {
        let chunk = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        format!("data: {chunk}\n\n")
    }

    fn text_frame(text: &str, reason: &Value) -> String {
        frame(&json!({ "content": text }), reason)
    }

    #[test]
    fn the_end_of_a_stream_decides() {
        use FinishReason::{ContentFilter, End, Length, Other, Unreported};
        let finished = |finish: &FinishReason| Decoded::Finished(finish.clone());
        let other = Other("model_length".to_owned());
        let null = Value::Null;
        for (frames, end) in [
            // The reason of the last chunk, `[DONE]` or not.
            (
                vec![text_frame("a", &null), text_frame("b", &json!("stop"))],
                finished(&End),
            ),
            (
                vec![text_frame("ab", &null), frame(&json!({}), &json!("length"))],
                finished(&Length),
            ),
            // A reason in every chunk.
            (
                vec![
                    text_frame("a", &json!("stop")),
                    text_frame("b", &json!("stop")),
                ],
                finished(&End),
            ),
            (
                vec![
                    text_frame("a", &json!("stop")),
                    text_frame("b", &json!("length")),
                ],
                finished(&Length),
            ),
            // No reasons.
            (
                vec![text_frame("a", &json!("null")), text_frame("b", &json!(""))],
                Decoded::Incomplete,
            ),
            (
                vec![text_frame("ab", &null), "data: [DONE]\n\n".to_owned()],
                finished(&Unreported),
            ),
            (
                vec![
                    text_frame("ab", &json!("null")),
                    "data: [DONE]\n\n".to_owned(),
                ],
                finished(&Unreported),
            ),
            // Others.
            (
                vec![text_frame("ab", &json!("model_length"))],
                finished(&other),
            ),
            (
                vec![text_frame("ab", &json!("content_filter"))],
                finished(&ContentFilter),
            ),
        ] {
            let bytes = frames.concat();
            let answer = decode([bytes.as_bytes()]);
            assert_eq!((answer.text.as_str(), &answer.end), ("ab", &end), "{bytes}");
        }
        for reason in ["error", "abort"] {
            let bytes = text_frame("ab", &json!(reason)) + "data: [DONE]\n\n";
            let answer = decode([bytes.as_bytes()]);
            let Decoded::Fault(fault) = answer.end else {
                panic!("{reason}: {:?}", answer.end);
            };
            assert!(fault.message.contains(reason), "{fault:?}");
        }
    }

    #[test]
    fn a_reason_with_every_piece_is_not_an_end() {
        let splitter = ReasoningSplitter::new(true);
        let mut decoder = AnswerDecoder::new(Endpoint::OpenAiChat, splitter);
        assert_eq!(decoder.read_timeout(), None);
        decoder.push(text_frame("a", &json!("stop")).as_bytes());
        // It may be the end: the connection may be lost now.
        assert!(decoder.may_be_disconnected());
        assert!(decoder.read_timeout().unwrap() <= TRAILING_DATA_TIMEOUT);
        decoder.push(text_frame("b", &json!("stop")).as_bytes());
        assert!(!decoder.may_be_disconnected());
        decoder.longest_gap = Some(Duration::from_secs(3));
        assert!(decoder.read_timeout().unwrap() > Duration::from_secs(10));
    }

    /// How a stream marks its reasoning.
    #[derive(Clone, Copy, Debug)]
    enum Marks {
        Nothing,
        Field,
        Tags(&'static str, &'static str),
    }

    fn marks() -> impl Strategy<Value = Marks> {
        prop_oneof![
            Just(Marks::Nothing),
            Just(Marks::Field),
            Just(Marks::Tags("<think>", "</think>\n")),
            Just(Marks::Tags("<THINK>", "</THINK>")),
            Just(Marks::Tags("[THINK]", "[/THINK]")),
            Just(Marks::Tags("<seed:think>", "</seed:think>")),
            // The template has the opening tag.
            Just(Marks::Tags("", "</think>\n\n")),
            Just(Marks::Tags(
                "<|channel|>analysis<|message|>",
                "<|end|><|start|>assistant<|channel|>final<|message|>",
            )),
        ]
    }

    /// Pieces of an answer, some of which look like the beginning of a tag.
    fn pieces(min: usize) -> impl Strategy<Value = Vec<String>> {
        let piece = prop_oneof![
            "[a-z]{1,6}",
            Just("ä😀 ".to_owned()),
            Just(" <th".to_owned())
        ];
        prop::collection::vec(piece, min..5)
    }

    /// Lines between two frames that mean nothing.
    fn noise() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            Just(""),
            Just(": keep-alive\n\n"),
            Just("\r\n"),
            Just("data: {\"choices\":[]}\n\n"),
            Just("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"null\"}]}\n\n"),
            Just(
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n"
            ),
        ]
    }

    /// Splits a frame's text into two escapes of half characters.
    fn split_characters(text: &str) -> Vec<String> {
        let escape = |unit: u16| format!("\\u{unit:04x}");
        let mut contents = vec![String::new()];
        for c in text.chars() {
            let mut units = [0; 2];
            if let [high, low] = *c.encode_utf16(&mut units) {
                let last = contents.len() - 1;
                contents[last].push_str(&escape(high));
                contents.push(escape(low));
            } else {
                let last = contents.len() - 1;
                contents[last].push(c);
            }
        }
        contents
    }

    proptest! {
        #[test]
        fn quirks_and_cuts_change_nothing(
            marks in marks(),
            thought in pieces(1),
            answer in pieces(1),
            noise in noise(),
            repeated_reason in prop_oneof![Just(Value::Null), Just(json!("null")), Just(json!("")), Just(json!("stop"))],
            last_reason in prop_oneof![Just(Value::Null), Just(json!("stop")), Just(json!("length")), Just(json!("eos_token"))],
            is_done in any::<bool>(),
            splits_characters in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut stream = String::new();
            let mut push = |key: &str, text: &str| {
                let contents = if splits_characters { split_characters(text) } else { vec![text.to_owned()] };
                for content in contents {
                    let value = json!({"choices": [{"index": 0, "delta": {key: "CONTENT"}, "finish_reason": repeated_reason}]});
                    let chunk = value.to_string().replace("CONTENT", &content.replace('\n', "\\n"));
                    stream.push_str(&format!("data: {chunk}\n\n{noise}"));
                }
            };
            match marks {
                Marks::Nothing => {}
                Marks::Field => thought.iter().for_each(|piece| push("reasoning_content", piece)),
                Marks::Tags(open, close) => {
                    push("content", open);
                    thought.iter().for_each(|piece| push("content", piece));
                    push("content", close);
                }
            }
            answer.iter().for_each(|piece| push("content", piece));
            if !last_reason.is_null() {
                stream.push_str(&frame(&json!({}), &last_reason));
            }
            if is_done {
                stream.push_str("data: [DONE]\n\n");
            }
            let reasoning = match marks {
                Marks::Nothing => String::new(),
                Marks::Field | Marks::Tags(..) => thought.concat(),
            };
            // Whitespace between the reasoning and the answer is dropped.
            let text = answer.concat();
            let text = match marks {
                Marks::Tags(_, close) if !close.contains("message") => text.trim_start(),
                _ => &text,
            };
            let reason = if last_reason.is_null() { &repeated_reason } else { &last_reason };
            let end = match reason.as_str() {
                Some("stop") => Decoded::Finished(FinishReason::End),
                Some("length") => Decoded::Finished(FinishReason::Length),
                Some("eos_token") => Decoded::Finished(FinishReason::Other("eos_token".to_owned())),
                _ if is_done => Decoded::Finished(FinishReason::Unreported),
                _ => Decoded::Incomplete,
            };
            let expected = Answer { text: text.to_owned(), reasoning, end };
            let bytes = stream.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks = at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
            prop_assert_eq!(decode(chunks), expected, "{}", stream);
        }
    }
}
