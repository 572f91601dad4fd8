//! Streamed answers: the sequence of pieces, the faults of a stream, and the response body.

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

/// The number of tokens before a fault that occurs "after some text".
const TOKENS_BEFORE_FAULT: usize = 2;

/// The interval of [`Fault::PingsOnly`].
const PING_INTERVAL: Duration = Duration::from_millis(50);

/// Formats an answer as the events of an endpoint.
pub(crate) trait EventFormat: Send + 'static {
    /// Returns everything before the first token.
    fn head(&mut self) -> Vec<Piece>;
    fn token(&mut self, token: &Token) -> String;
    /// Returns everything after the last token; without `done` the end marker is missing.
    fn tail(&mut self, generation: &Generation, done: bool) -> String;
    /// Returns an error in the format of the endpoint, up to the end of the stream.
    fn error(&mut self, message: &str, generation: &Generation) -> String;
}

pub(crate) enum Piece {
    Text(String),
    Token(String),
    Pause(Duration),
    /// Silence until the client disconnects.
    Silence,
}

enum Phase {
    Head,
    Tokens,
    Done,
}

/// Iterates over the pieces of a streamed answer.
pub(crate) struct AnswerPieces<F> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) format: F,
    pub(crate) generation: Generation,
    pub(crate) fault: Fault,
    pub(crate) instance: String,
    queue: VecDeque<Piece>,
    phase: Phase,
    tokens_sent: usize,
}

impl<F: EventFormat> AnswerPieces<F> {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        format: F,
        generation: Generation,
        fault: Fault,
        instance: &str,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            format,
            generation,
            fault,
            instance: instance.to_owned(),
            queue: VecDeque::new(),
            phase: Phase::Head,
            tokens_sent: 0,
        }
    }

    /// Returns the number of tokens after which the fault occurs, if it occurs in mid-stream.
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

    /// Queues the piece of a fault in mid-stream.
    fn push_fault(&mut self) {
        let crashed = "The model has crashed without additional information.";
        let piece = match self.fault {
            Fault::OverflowInStream => {
                let text = overflow_message(self.generation.prompt_tokens, 0);
                Piece::Text(self.format.error(&text, &self.generation))
            }
            Fault::ErrorEvent => Piece::Text(self.format.error(crashed, &self.generation)),
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
            Fault::HangMidStream => Piece::Silence,
            Fault::EvictedMidStream => {
                self.shared.unload(&self.instance);
                Piece::Text(self.format.error("Model unloaded.", &self.generation))
            }
            _ => return,
        };
        self.queue.push_back(piece);
    }

    fn advance(&mut self) {
        match self.phase {
            Phase::Head => {
                self.queue.extend(self.format.head());
                self.phase = Phase::Tokens;
            }
            Phase::Tokens => {
                let fault_after = self.fault_after();
                if fault_after.is_some_and(|tokens| self.tokens_sent >= tokens) {
                    self.push_fault();
                    self.phase = Phase::Done;
                } else if !self.shared.is_loaded(&self.instance) {
                    let text = self.format.error("Model unloaded.", &self.generation);
                    self.queue.push_back(Piece::Text(text));
                    self.phase = Phase::Done;
                } else if let Some(token) = self.generation.next() {
                    self.tokens_sent += 1;
                    let text = self.format.token(&token);
                    self.queue.push_back(Piece::Token(text));
                    let pause = self.shared.setup.token_pause;
                    self.queue.push_back(Piece::Pause(pause));
                } else {
                    // In a shorter answer the fault occurs at its end.
                    if fault_after.is_some() {
                        self.push_fault();
                    } else {
                        let done = self.fault != Fault::NoDone;
                        let text = self.format.tail(&self.generation, done);
                        self.queue.push_back(Piece::Text(text));
                    }
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
    }
}

impl<F: EventFormat> Iterator for AnswerPieces<F> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.fault == Fault::PingsOnly {
            // Pings and pauses alternate.
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

/// LM Studio's message for a prompt that does not fit into the context.
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
    guard: RequestGuard,
    /// Bytes that are sent one by one.
    single_bytes: VecDeque<u8>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Yields once, so that the server writes before it polls again.
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
                // Nothing wakes this task; the server still notices a disconnect.
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
                    this.guard.close();
                    return Poll::Ready(None);
                }
                Some(Piece::Text(text)) => text,
                Some(Piece::Token(text)) => {
                    this.guard.sent(1);
                    text
                }
                Some(Piece::Pause(time)) => {
                    this.yields = true;
                    if !time.is_zero() {
                        this.sleep = Some(Box::pin(tokio::time::sleep(time)));
                    }
                    continue;
                }
                Some(Piece::Silence) => {
                    this.is_silent = true;
                    continue;
                }
            };
            if let Some(bytes) = this.bytes(&text).filter(|bytes| !bytes.is_empty()) {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }
}

/// Returns a streamed response, which owns `guard` until its end.
pub(crate) fn stream<F: EventFormat>(pieces: AnswerPieces<F>, guard: RequestGuard) -> Response {
    let body = StreamBody {
        fault: pieces.fault.clone(),
        pieces: Box::new(pieces),
        guard,
        single_bytes: VecDeque::new(),
        sleep: None,
        yields: false,
        is_silent: false,
    };
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (head, Body::from_stream(body)).into_response()
}

/// Generates the complete answer; returns its reasoning and its text.
pub(crate) async fn collect_answer(
    shared: &Shared,
    generation: &mut Generation,
    guard: &RequestGuard,
) -> (String, String) {
    let (mut reasoning, mut text) = (String::new(), String::new());
    for token in generation.by_ref() {
        let target = if token.reasoning {
            &mut reasoning
        } else {
            &mut text
        };
        target.push_str(&token.text);
        if !shared.setup.token_pause.is_zero() {
            tokio::time::sleep(shared.setup.token_pause).await;
        }
    }
    guard.sent(generation.generated_tokens);
    (reasoning, text)
}
