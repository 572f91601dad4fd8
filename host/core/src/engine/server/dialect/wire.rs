//! Requests and events, independent of the API.

use std::time::Duration;

use lmstrix_inference::{Prompt, Settings, Usage};

use super::finish::ReportedEnd;
use crate::attachment::AttachedImage;
use crate::engine::server::fault::ServerFault;
use crate::engine::server::server_kind::ServerKind;

/// An event of a response, independent of the API.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine::server) enum WireEvent {
    /// The model is loading, with the progress from 0 to 1.
    Loading(Option<f32>),
    /// The prompt is being processed.
    Prefill {
        /// From 0 to 1.
        progress: f32,
        /// The length of the prompt in tokens.
        tokens: Option<u32>,
    },
    Reasoning(String),
    Text(String),
    Usage(Usage),
    /// The model that answers, by the server's name.
    Model(String),
    Warning(String),
    Fault(ServerFault),
    /// A finish reason. Text may still follow: some servers send one with every piece.
    Finish(ReportedEnd),
    /// The end of the response.
    Done,
}

/// The contents of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::server) struct WireRequest<'a> {
    pub(in crate::engine::server) kind: ServerKind,
    pub(in crate::engine::server) model: &'a str,
    pub(in crate::engine::server) prompt: &'a Prompt,
    /// The images that the messages name.
    pub(in crate::engine::server) images: &'a [AttachedImage],
    pub(in crate::engine::server) settings: &'a Settings,
    /// The limit of output tokens; `None` is unlimited.
    pub(in crate::engine::server) max_tokens: Option<u32>,
    /// The context length in tokens; only Ollama accepts it in a request.
    pub(in crate::engine::server) context: Option<u32>,
    /// The time for which the server keeps the model loaded.
    pub(in crate::engine::server) ttl: Option<Duration>,
    pub(in crate::engine::server) stream: bool,
}

/// The framing of a streamed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::server) enum Framing {
    ServerSentEvents,
    NdjsonLines,
}
