//! What can go wrong with an engine or a model. What people are told of it,
//! and what to type next, is the border's affair.

use std::path::PathBuf;
use std::time::Duration;

use super::memory::gigabytes;
use super::server::{Fault, FaultKind};
use super::{embedded, seconds};

/// Something went wrong with an engine or a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No engine was asked for, and none was found.
    #[error("no engine was found{}", nobody_at(tried))]
    NoEngine {
        /// The addresses that were asked.
        tried: Vec<String>,
    },
    /// An engine that this program does not know.
    #[error("no engine named `{0}`")]
    UnknownEngine(String),
    /// The folder of models has no such model.
    #[error("no model named `{name}`")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names like it.
        close: Vec<String>,
        /// The folder where models are looked for.
        folder: PathBuf,
    },
    /// No server has such a model.
    #[error("{engine} has no model named `{name}`")]
    UnknownServerModel {
        /// Who was asked.
        engine: String,
        /// What was asked for.
        name: String,
        /// Names like it.
        close: Vec<String>,
        /// Names that there are.
        known: Vec<String>,
    },
    /// Nobody said which model, and there is more than one to choose from.
    #[error("which model? {engine} has {} loaded, and -m names none", how_many(loaded.len()))]
    NoModel {
        /// Who was asked.
        engine: String,
        /// Models that are loaded.
        loaded: Vec<String>,
        /// Models that are not.
        others: Vec<String>,
    },
    /// The context asked for makes no sense for this model.
    #[error("{0}")]
    Context(String),
    /// Settings that were given, and would be lost, under `--strict`.
    #[error("this engine does not honour: {0}")]
    Settings(String),
    /// The embedded engine's own.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The engine broke off without saying why.
    #[error("the engine stopped without a word: {0}")]
    Stopped(String),
    /// A server cannot be reached.
    #[error("{engine} cannot be reached: {why}")]
    Unreachable {
        /// The address.
        engine: String,
        /// What the system says.
        why: String,
    },
    /// No connection within `--connect-timeout`.
    #[error("{engine} cannot be reached: no connection within {}", seconds(*limit))]
    ConnectTimeout {
        /// The address.
        engine: String,
        /// The limit.
        limit: Duration,
    },
    /// A server that is loading did not come to its end.
    #[error("{engine} was still loading its model after {}", seconds(*limit))]
    StillLoading {
        /// The address.
        engine: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Something answers that is no server we know.
    #[error("what answers at {url} is no server that this program knows: {what}")]
    NotAServer {
        /// The address.
        url: String,
        /// What it said.
        what: String,
    },
    /// The server wants a key, or another one.
    #[error("{engine} {}: {message}", if *had_key { "does not accept the key" } else { "wants a key" })]
    Unauthorised {
        /// The server.
        engine: String,
        /// Whether a key was sent.
        had_key: bool,
        /// The server's words.
        message: String,
    },
    /// The server says that it failed.
    #[error("{engine}{}: {}", for_model(model), fault.message)]
    Server {
        /// The server.
        engine: String,
        /// The model that was asked.
        model: String,
        /// What it said.
        fault: Box<Fault>,
    },
    /// The server could not load the model.
    #[error("{engine} cannot load `{model}`: {}", fault.message)]
    NotLoaded {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// What it said.
        fault: Box<Fault>,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to {engine} broke: {why}")]
    Lost {
        /// The server.
        engine: String,
        /// What the system says.
        why: String,
    },
    /// The response ended without a reason, so that something is missing.
    #[error("{engine} ended its response without saying that the answer is complete")]
    Cut {
        /// The server.
        engine: String,
    },
    /// What came is not of the protocol.
    #[error("{engine} sent something that is no part of an answer: {what}")]
    Garbage {
        /// The server.
        engine: String,
        /// What it was.
        what: String,
    },
    /// It does not fit into memory.
    #[error(
        "`{model}` with {context} tokens of context takes about {}, and there are {}",
        gigabytes(*need),
        gigabytes(*have)
    )]
    Memory {
        /// The model.
        model: String,
        /// Tokens of context.
        context: u32,
        /// Bytes that it would take.
        need: u64,
        /// Bytes that there are.
        have: u64,
        /// The largest context that fits; absent when it is not known, or when
        /// not even the weights fit.
        largest: Option<u32>,
    },
    /// Even the lowest estimate of the prompt is more than the context.
    #[error(
        "the prompt has at least {least} tokens, and `{model}` at {engine} is loaded with a \
         context of {context}"
    )]
    TooLong {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// Tokens that the prompt has at least.
        least: u32,
        /// Tokens of context.
        context: u32,
    },
    /// It cannot be done with this model as it is.
    #[error("{engine}, model `{model}`: {why}")]
    Refused {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// Why.
        why: String,
    },
    /// What must survive a kill cannot be written.
    #[error("cannot write {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another model answered than the one that was asked.
    #[error("{engine} was asked for `{asked}`, and `{answered}` answers")]
    WrongModel {
        /// The server.
        engine: String,
        /// The model that was meant.
        asked: String,
        /// The model that it was.
        answered: String,
    },
}

impl Error {
    /// Whether the answer broke off for no reason that anybody gave.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Stopped(_)
                | Self::Lost { .. }
                | Self::Cut { .. }
                | Self::Garbage { .. }
                | Self::Embedded(embedded::Error::Compute(_))
        )
    }
}

impl Error {
    /// Whether it says nothing of the model or its server: what was asked for
    /// was too much, or this machine is in the way.
    #[must_use]
    pub fn is_askers(&self) -> bool {
        match self {
            Self::TooLong { .. }
            | Self::Settings(_)
            | Self::Context(_)
            | Self::Memory { .. }
            | Self::State { .. }
            | Self::Embedded(embedded::Error::TooLong { .. } | embedded::Error::Refused { .. }) => {
                true
            }
            Self::Server { fault, .. } => matches!(fault.kind, FaultKind::Overflow { .. }),
            _ => false,
        }
    }

    /// Whether there is no connection (any more).
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn nobody_at(tried: &[String]) -> String {
    match tried {
        [] => String::new(),
        some => format!("; nothing answers at {}", some.join(", ")),
    }
}

fn how_many(count: usize) -> String {
    match count {
        0 => "none".to_owned(),
        count => format!("{count} models"),
    }
}

fn for_model(model: &str) -> String {
    match model {
        "" => String::new(),
        model => format!(", model `{model}`"),
    }
}
