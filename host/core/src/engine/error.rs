//! Errors of engines and models. Callers map them to exit codes and hints.

use std::path::PathBuf;
use std::time::Duration;

use super::embedded_fault::{EmbeddedError, EmbeddedFault, embedded_fault};
use super::format_seconds;
use super::llama_server::{LlamaServerFailure, LlamaServerFault};
use super::server::{FaultKind, ServerFault};
use crate::quantity::format_bytes;

/// An error of an engine or a model. The field `engine` is the server's kind with
/// its address, or its address alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No engine was specified and no server was found.
    #[error("no engine found{}", no_answer_at(addresses))]
    NoEngine {
        /// The addresses that were tried.
        addresses: Vec<String>,
    },
    /// Unknown `--engine` value.
    #[error("no engine named `{0}`")]
    UnknownEngine(String),
    /// The embedded engine's models folder has no such model.
    #[error("model `{name}` not found")]
    UnknownModel {
        /// The requested model.
        name: String,
        /// Similar names.
        similar: Vec<String>,
        /// The models folder.
        models_dir: PathBuf,
    },
    /// The server has no such model.
    #[error("model `{name}` not found on {engine}")]
    UnknownServerModel {
        /// The server.
        engine: String,
        /// The requested model.
        name: String,
        /// Similar names.
        similar: Vec<String>,
        /// The server's models.
        available: Vec<String>,
    },
    /// No model was specified, and not exactly one is loaded.
    #[error(
        "no model specified (-m), and {engine} has {} loaded",
        model_count(loaded.len())
    )]
    ModelNotSpecified {
        /// The server.
        engine: String,
        /// The loaded models.
        loaded: Vec<String>,
        /// The other models.
        not_loaded: Vec<String>,
    },
    /// The requested context is not possible with this model.
    #[error("{0}")]
    InvalidContext(String),
    /// Settings that the engine does not support, under `--strict`.
    #[error("this engine does not support these settings: {0}")]
    UnsupportedSettings(String),
    /// An error of the embedded engine.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// No llama-server can be started for a model file.
    #[error("{}llama-server not found", unsupported_file(unsupported.as_ref()))]
    NoLlamaServer {
        /// The reason why the embedded engine does not run the file either.
        unsupported: Option<EmbeddedError>,
    },
    /// A llama-server that this program started failed.
    #[error(transparent)]
    LlamaServer(Box<LlamaServerFailure>),
    /// A model file cannot be read.
    #[error("cannot read model file {}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The embedded engine is not part of this build.
    #[error("this build has no embedded engine")]
    NoEmbeddedEngine,
    /// The embedded engine stopped without an error of its own.
    #[error("the engine stopped unexpectedly: {0}")]
    EngineStopped(String),
    /// The server cannot be reached.
    #[error("cannot reach {engine}: {reason}")]
    Unreachable {
        /// The server's address.
        engine: String,
        /// The error of the operating system.
        reason: String,
    },
    /// `--connect-timeout` expired.
    #[error("cannot reach {engine}: no connection within {}", format_seconds(*limit))]
    ConnectTimeout {
        /// The server's address.
        engine: String,
        /// The limit.
        limit: Duration,
    },
    /// The server did not finish loading its model in time.
    #[error("{engine} is still loading its model after {}", format_seconds(*limit))]
    StillLoading {
        /// The server's address.
        engine: String,
        /// The limit.
        limit: Duration,
    },
    /// The address answers, but not as a known kind of server.
    #[error("not a supported server at {url}: {response}")]
    NotAServer {
        /// The address.
        url: String,
        /// A description of the response.
        response: String,
    },
    /// The server requires an API key, or another one.
    #[error(
        "{engine} {}: {message}",
        if *had_key { "rejected the API key" } else { "requires an API key" }
    )]
    Unauthorised {
        /// The server.
        engine: String,
        /// True if a key was sent.
        had_key: bool,
        /// The server's message.
        message: String,
    },
    /// The server reported an error.
    #[error("{engine}{}: {}", for_model(model), fault.message)]
    Server {
        /// The server.
        engine: String,
        /// The requested model; empty if the request was not for a model.
        model: String,
        /// The reported error.
        fault: Box<ServerFault>,
    },
    /// The server could not load the model.
    #[error("{engine} cannot load model `{model}`: {}", fault.message)]
    LoadFailed {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// The reported error.
        fault: Box<ServerFault>,
    },
    /// The connection was lost during an answer.
    #[error("connection to {engine} lost: {reason}")]
    ConnectionLost {
        /// The server.
        engine: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The response ended without a finish reason, so the answer may be incomplete.
    #[error("{engine} ended its response without a finish reason")]
    IncompleteResponse {
        /// The server.
        engine: String,
    },
    /// The response does not follow the protocol.
    #[error("invalid response from {engine}: {received}")]
    InvalidResponse {
        /// The server.
        engine: String,
        /// The unexpected part of the response.
        received: String,
    },
    /// The model does not fit into memory.
    #[error(
        "model `{model}` with a context of {context} tokens needs about {}, but only {} are \
         available",
        format_bytes(*required_bytes),
        format_bytes(*available_bytes)
    )]
    InsufficientMemory {
        /// The model.
        model: String,
        /// The context, in tokens.
        context: u32,
        /// The estimated memory that is needed.
        required_bytes: u64,
        /// The memory that is available.
        available_bytes: u64,
        /// The largest context that fits, in tokens; absent if unknown or if the
        /// weights alone do not fit.
        largest_context: Option<u32>,
    },
    /// The lowest estimate of the prompt's tokens exceeds the context.
    #[error(
        "the prompt has at least {min_tokens} tokens, but model `{model}` on {engine} is loaded \
         with a context of {context} tokens"
    )]
    PromptTooLong {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// The lowest estimate of the prompt's tokens.
        min_tokens: u32,
        /// The effective context, in tokens.
        context: u32,
    },
    /// The request is not possible with this model on this server.
    #[error("{engine}, model `{model}`: {reason}")]
    Refused {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// The reason.
        reason: String,
    },
    /// The ownership records cannot be written.
    #[error("cannot write {}", path.display())]
    WriteState {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Another model than the requested one answered.
    #[error("{engine} answered with model `{actual}` instead of `{requested}`")]
    WrongModel {
        /// The server.
        engine: String,
        /// The requested model.
        requested: String,
        /// The model that answered.
        actual: String,
    },
}

impl Error {
    /// Creates the error for a context that exceeds the declared one. Beyond it, models
    /// answer nonsense, or the server allocates memory until the machine swaps.
    pub(super) fn exceeds_declared(tokens: u32, declared: u32) -> Self {
        Self::InvalidContext(format!(
            "context of {tokens} tokens exceeds the model's declared context of {declared} tokens"
        ))
    }

    /// Returns whether the answer ended early without a reported reason.
    #[must_use]
    pub fn is_response_lost(&self) -> bool {
        match self {
            Self::EngineStopped(_)
            | Self::ConnectionLost { .. }
            | Self::IncompleteResponse { .. }
            | Self::InvalidResponse { .. } => true,
            Self::LlamaServer(failure) => failure.fault == LlamaServerFault::Crashed,
            Self::Embedded(error) => embedded_fault(error) == EmbeddedFault::Compute,
            _ => false,
        }
    }

    /// Returns whether the request or this machine caused the error, so that it is not
    /// counted as a failure of the model or its server.
    #[must_use]
    pub fn is_caller_error(&self) -> bool {
        match self {
            Self::PromptTooLong { .. }
            | Self::UnsupportedSettings(_)
            | Self::InvalidContext(_)
            | Self::InsufficientMemory { .. }
            | Self::WriteState { .. } => true,
            Self::Embedded(error) => matches!(
                embedded_fault(error),
                EmbeddedFault::PromptTooLong { .. } | EmbeddedFault::TemplateRejected
            ),
            Self::Server { fault, .. } => matches!(fault.kind, FaultKind::Overflow { .. }),
            _ => false,
        }
    }

    /// Returns whether there is no connection to the server.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<LlamaServerFailure> for Error {
    fn from(failure: LlamaServerFailure) -> Self {
        Self::LlamaServer(Box::new(failure))
    }
}

fn unsupported_file(error: Option<&EmbeddedError>) -> String {
    error.map_or_else(String::new, |error| format!("{error}, and "))
}

fn no_answer_at(addresses: &[String]) -> String {
    match addresses {
        [] => String::new(),
        addresses => format!("; no server answers at {}", addresses.join(", ")),
    }
}

fn model_count(count: usize) -> String {
    match count {
        0 => "no model".to_owned(),
        count => format!("{count} models"),
    }
}

fn for_model(model: &str) -> String {
    match model {
        "" => String::new(),
        model => format!(", model `{model}`"),
    }
}
