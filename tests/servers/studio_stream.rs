//! Answers that come in pieces: what is sent when, with every fault that a
//! stream can have, and the body that carries it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use tokio::time::Sleep;

use super::studio::Fault;
use super::studio_answer::{Generation, Token};
use super::studio_state::{RequestGuard, Shared};

/// After how many tokens an answer breaks that is to break after some text.
const TOKENS_BEFORE_FAULT: usize = 2;

/// Times that tests wait for nothing in particular.
const PING_INTERVAL: Duration = Duration::from_millis(50);

/// How an endpoint puts an answer into events.
pub(crate) trait EventFormat: Send + 'static {
    /// Everything before the first token.
    fn head(&mut self) -> Vec<Piece>;
    fn token(&mut self, token: &Token) -> String;
    /// What comes after the last token; without `done` the end mark is missing.
    fn tail(&mut self, generation: &Generation, done: bool) -> String;
    /// An error in the endpoint's own way, up to the end of the stream.
    fn error(&mut self, message: &str, generation: &Generation) -> String;
}

pub(crate) enum Piece {
    Text(String),
    Token(String),
    Pause(Duration),
    /// Silence until the client leaves.
    Forever,
}

enum Phase {
    Head,
    Tokens,
    Done,
}

/// An answer as the pieces of its stream.
pub(crate) struct AnswerPieces<W> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) wire: W,
    pub(crate) generation: Generation,
    pub(crate) fault: Fault,
    pub(crate) instance: String,
    queue: VecDeque<Piece>,
    phase: Phase,
    tokens_sent: usize,
}

impl<W: EventFormat> AnswerPieces<W> {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        wire: W,
        generation: Generation,
        fault: Fault,
        instance: &str,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            wire,
            generation,
            fault,
            instance: instance.to_owned(),
            queue: VecDeque::new(),
            phase: Phase::Head,
            tokens_sent: 0,
        }
    }

    /// After how many tokens the fault strikes, if it is one of those.
    fn fault_after(&self) -> Option<usize> {
        match self.fault {
            Fault::OverflowInStream => Some(0),
            Fault::ErrorEvent
            | Fault::ErrorData
            | Fault::ErrorObject
            | Fault::ErrorField
            | Fault::NoFinish
            | Fault::HangMidStream
            | Fault::EvictedMidStream => Some(TOKENS_BEFORE_FAULT),
            _ => None,
        }
    }

    fn push_fault(&mut self) {
        let crashed = "The model has crashed without additional information.";
        let piece = match self.fault {
            Fault::OverflowInStream => {
                let text = overflow_message(self.generation.prompt_tokens, 0);
                Piece::Text(self.wire.error(&text, &self.generation))
            }
            Fault::ErrorEvent => Piece::Text(self.wire.error(crashed, &self.generation)),
            Fault::ErrorData => Piece::Text(format!(
                "data: {{\"error\":{{\"message\":\"{crashed}\",\"type\":\"internal_error\"}}}}\n\n"
            )),
            Fault::ErrorObject => Piece::Text(format!(
                "data: {{\"object\":\"error\",\"message\":\"{crashed}\",\
                 \"type\":\"InternalServerError\",\"code\":500}}\n\ndata: [DONE]\n\n"
            )),
            Fault::ErrorField => Piece::Text(format!(
                "error: {{\"code\":500,\"message\":\"{crashed}\",\"type\":\"server_error\"}}\n\n"
            )),
            Fault::HangMidStream => Piece::Forever,
            Fault::EvictedMidStream => {
                self.shared.unload(&self.instance);
                Piece::Text(self.wire.error("Model unloaded.", &self.generation))
            }
            _ => return,
        };
        self.queue.push_back(piece);
    }

    fn advance(&mut self) {
        match self.phase {
            Phase::Head => {
                self.queue.extend(self.wire.head());
                self.phase = Phase::Tokens;
            }
            Phase::Tokens => {
                let breaks = self.fault_after();
                if breaks.is_some_and(|it| self.tokens_sent >= it) {
                    self.push_fault();
                    self.phase = Phase::Done;
                } else if !self.shared.is_loaded(&self.instance) {
                    let text = self.wire.error("Model unloaded.", &self.generation);
                    self.queue.push_back(Piece::Text(text));
                    self.phase = Phase::Done;
                } else if let Some(token) = self.generation.next() {
                    self.tokens_sent += 1;
                    let text = self.wire.token(&token);
                    self.queue.push_back(Piece::Token(text));
                    let pause = self.shared.setup.token_pause;
                    self.queue.push_back(Piece::Pause(pause));
                } else {
                    // A short answer breaks at its end.
                    if breaks.is_some() {
                        self.push_fault();
                    } else {
                        let done = self.fault != Fault::NoDone;
                        let text = self.wire.tail(&self.generation, done);
                        self.queue.push_back(Piece::Text(text));
                    }
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
    }
}

impl<W: EventFormat> Iterator for AnswerPieces<W> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.fault == Fault::PingsOnly {
            // Every other piece is a pause.
            self.tokens_sent += 1;
            return Some(if self.tokens_sent % 2 == 1 {
                Piece::Text(": ping\n\n".to_owned())
            } else {
                Piece::Pause(PING_INTERVAL)
            });
        }
        loop {
            if let Some(piece) = self.queue.pop_front() {
                return Some(piece);
            }
            if matches!(self.phase, Phase::Done) {
                return None;
            }
            self.advance();
        }
    }
}

/// The words of LM Studio for a prompt that does not fit.
pub(crate) fn overflow_message(prompt: usize, context: u32) -> String {
    format!(
        "Trying to keep the first {prompt} tokens when context the overflows. However, the model \
         is loaded with context length of only {context} tokens, which is not enough. Try to load \
         the model with a larger context length, or provide a shorter input"
    )
}

/// The body of a streamed answer.
struct StreamBody {
    pieces: Box<dyn Iterator<Item = Piece> + Send>,
    fault: Fault,
    ticket: RequestGuard,
    /// Bytes that go out one by one.
    single_bytes: VecDeque<u8>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Lets the server write before it asks for more.
    yields: bool,
    is_silent: bool,
}

impl StreamBody {
    fn bytes(&mut self, text: &str) -> Option<Bytes> {
        match self.fault {
            Fault::Split => {
                self.single_bytes.extend(text.replace('\n', "\r\n").bytes());
                None
            }
            Fault::Crlf => Some(text.replace('\n', "\r\n").into()),
            _ => Some(text.to_owned().into()),
        }
    }
}

impl Stream for StreamBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_silent {
                // Nothing wakes this; the server still sees the client leave.
                return Poll::Pending;
            }
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            if std::mem::take(&mut this.yields) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(byte) = this.single_bytes.pop_front() {
                this.yields = true;
                return Poll::Ready(Some(Ok(vec![byte].into())));
            }
            let text = match this.pieces.next() {
                None => {
                    this.ticket.close();
                    return Poll::Ready(None);
                }
                Some(Piece::Text(text)) => text,
                Some(Piece::Token(text)) => {
                    this.ticket.sent(1);
                    text
                }
                Some(Piece::Pause(time)) => {
                    this.yields = true;
                    if !time.is_zero() {
                        this.sleep = Some(Box::pin(tokio::time::sleep(time)));
                    }
                    continue;
                }
                Some(Piece::Forever) => {
                    this.is_silent = true;
                    continue;
                }
            };
            if let Some(bytes) = this.bytes(&text).filter(|it| !it.is_empty()) {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }
}

/// The streamed answer; `ticket` stays with it to its end.
pub(crate) fn stream<W: EventFormat>(pieces: AnswerPieces<W>, ticket: RequestGuard) -> Response {
    let feed = StreamBody {
        fault: pieces.fault.clone(),
        pieces: Box::new(pieces),
        ticket,
        single_bytes: VecDeque::new(),
        sleep: None,
        yields: false,
        is_silent: false,
    };
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (head, Body::from_stream(feed)).into_response()
}

/// Lets the model talk to the end and gives what it said: reasoning and text.
pub(crate) async fn collect_answer(
    shared: &Shared,
    generation: &mut Generation,
    ticket: &RequestGuard,
) -> (String, String) {
    let (mut reasoning, mut text) = (String::new(), String::new());
    for token in generation.by_ref() {
        let to = if token.reasoning {
            &mut reasoning
        } else {
            &mut text
        };
        to.push_str(&token.text);
        if !shared.setup.token_pause.is_zero() {
            tokio::time::sleep(shared.setup.token_pause).await;
        }
    }
    ticket.sent(generation.generated_tokens);
    (reasoning, text)
}
