//! The outcome of a job.

use lmstrix_inference::{Event, FinishReason, Settings, Usage};
use lmstrix_sandbox::Pack;
use serde::Serialize;

use super::Warning;
use super::timeouts::{Expired, TimeoutPhase};
use crate::attachment::AttachmentError;
use crate::engine::{self, EmbeddedFault, FaultKind, LlamaServerFault, embedded_fault};
use crate::sink;

/// A job that has ended. It holds all text that arrived, also if the job failed.
#[derive(Debug)]
pub struct Outcome {
    /// Done, failed or cancelled.
    pub end: End,
    /// The text of the model and of the processors.
    pub answer: Answer,
    /// The settings, the model and the packs that the job used.
    pub used: JobFacts,
}

/// The settings, model and packs of a job, for reports and journals.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// The settings, each with its origin.
    pub settings: Settings,
    /// The engine's name.
    pub engine: &'static str,
    /// The model's name.
    pub model: String,
    /// The model's quantization, if known.
    pub quantization: Option<String>,
    /// The instance that was asked; absent if the model could not be loaded.
    pub instance: Option<InstanceUsed>,
    /// The resolver and the packs of the processors, each once.
    pub packs: Vec<PackUsed>,
    /// The file extension of the result, where the prompt sets one.
    pub extension: Option<String>,
    /// The resolver's name and its report entries.
    pub resolver_extra: (String, Vec<(String, String)>),
}

/// A pack that a job used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackUsed {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its file, in hex.
    pub digest: String,
}

impl PackUsed {
    /// Returns the packs of a job, each once, in order.
    pub fn list<'a>(packs: impl IntoIterator<Item = &'a Pack>) -> Vec<Self> {
        let mut used = Vec::new();
        for pack in packs {
            let pack = Self {
                name: pack.name().to_owned(),
                digest: pack.digest().to_owned(),
            };
            if !used.contains(&pack) {
                used.push(pack);
            }
        }
        used
    }
}

/// The end of a job.
#[derive(Debug)]
pub enum End {
    /// The answer is complete, or cut and `strict` is off.
    Done,
    /// There is no complete answer.
    Failed(JobError),
    /// The job was stopped before it was complete.
    Cancelled(Cancellation),
}

/// The reason of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The caller cancelled it.
    Requested,
    /// The reader of the answer closed its end of the pipe.
    ReaderGone,
}

/// The text of an answer and what is known of it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The text as the processors made it.
    pub text: String,
    /// The text as the model produced it, without reasoning.
    pub raw: String,
    /// The model's reasoning.
    pub reasoning: String,
    /// Token counts, where the engine reports them.
    pub usage: Option<Usage>,
    /// Seconds from the start of the job.
    pub timings: Timings,
    /// The finish reason; absent for an answer that did not end.
    pub finish: Option<FinishReason>,
    /// All warnings, in order.
    pub warnings: Vec<Warning>,
    /// Report entries of processors, by processor.
    pub extra: Vec<(String, Vec<(String, String)>)>,
    /// The output of the packs on stdout and stderr.
    pub pack_output: Vec<PackOutput>,
}

/// The output of a pack on stdout and stderr during a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackOutput {
    /// The pack that resolved the prompt, or a processor as `pack/processor`.
    pub from: String,
    /// The text, which may contain control characters.
    pub text: String,
}

impl PackOutput {
    /// Returns the output of a pack, or `None` if it wrote nothing.
    #[must_use]
    pub fn new(from: &str, text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self {
            from: from.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Returns the event that passes it to sinks.
    pub(super) fn event(&self) -> Event {
        Event::PackOutput {
            from: self.from.clone(),
            text: self.text.clone(),
        }
    }
}

/// Times of one job, in seconds from its start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timings {
    /// Until the engine began to read the prompt: loading, where it loads.
    pub load_s: Option<f64>,
    /// Until the first piece of text or reasoning.
    pub first_token_s: Option<f64>,
    /// Until the end.
    pub total_s: f64,
}

/// The loaded copy of a model that a job was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceUsed {
    /// Its name at the engine.
    pub id: String,
    /// Its context length in tokens, where known.
    pub context: Option<u32>,
}

/// The error of a job without a complete answer.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A processor failed or rejected the answer.
    #[error(transparent)]
    Pack(#[from] lmstrix_sandbox::Error),
    /// An image cannot be read.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// The prompt has images, and the model is known to take none.
    #[error("model `{model}` has no vision, and the prompt has images")]
    NoVision {
        /// The model's name.
        model: String,
    },
    /// The answer could not be written.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// The answer has no text.
    #[error("the answer has no text")]
    Empty,
    /// The model produced reasoning but no answer; the tokens of it, where known.
    #[error("the model produced only reasoning{} and no answer", token_count(*.0))]
    OnlyReasoning(Option<u32>),
    /// The server read only a part of the prompt, and `strict` is on.
    #[error("{}", super::warning::truncated_reason(*counted, *sent))]
    PromptTruncated {
        /// The tokens of the prompt that the server counted.
        counted: u32,
        /// A lower bound of the tokens of the prompt that was sent.
        sent: u32,
    },
    /// The answer is cut, and `strict` is on.
    #[error("{}", super::warning::cut_reason(.0))]
    Cut(FinishReason),
    /// A time limit was reached.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The caller cancelled the job.
    #[error("interrupted")]
    Cancelled,
}

fn token_count(tokens: Option<u32>) -> String {
    tokens.map_or_else(String::new, |tokens| format!(" ({tokens} tokens)"))
}

/// The class of a failure, by its cause. A batch decides by it whether to retry, to
/// reload the model, or to wait for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The job itself: it would fail again.
    Job,
    /// The model hung or its answer broke off: a retry may work.
    Model,
    /// The server is busy.
    Busy,
    /// No server answers at the address.
    Server,
    /// Results cannot be written: no job can be completed.
    Disk,
}

impl Outcome {
    /// Returns whether the model produced any text or reasoning.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.answer.raw.is_empty() || !self.answer.reasoning.is_empty()
    }
}

impl End {
    /// Returns the end for an error. A cancellation is not a failure, and neither is a
    /// closed pipe.
    pub(super) fn of_error(error: JobError) -> Self {
        match error {
            JobError::Cancelled => Self::Cancelled(Cancellation::Requested),
            JobError::Sink(sink::Error::BrokenPipe) => Self::Cancelled(Cancellation::ReaderGone),
            error => Self::Failed(error),
        }
    }
}

impl JobError {
    /// Returns the class of the failure.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Engine(error) => FailureClass::of_engine(error),
            // The limit of the whole job would be reached again.
            Self::Expired(expired) if expired.phase == TimeoutPhase::Total => FailureClass::Job,
            Self::Expired(_) => FailureClass::Model,
            Self::Sink(error) if error.is_of_disk() => FailureClass::Disk,
            Self::Sink(_)
            | Self::Pack(_)
            | Self::Attachment(_)
            | Self::NoVision { .. }
            | Self::Empty
            | Self::OnlyReasoning(_)
            | Self::PromptTruncated { .. }
            | Self::Cut(_)
            | Self::Cancelled => FailureClass::Job,
        }
    }
}

impl FailureClass {
    /// Returns the class of an engine's error.
    #[must_use]
    pub fn of_engine(error: &engine::Error) -> Self {
        use engine::Error;
        match error {
            Error::Unreachable { .. } | Error::ConnectTimeout { .. } | Error::NoEngine { .. } => {
                Self::Server
            }
            Error::LlamaServer(failure) if failure.fault == LlamaServerFault::Crashed => {
                Self::Server
            }
            Error::ConnectionLost { .. }
            | Error::IncompleteResponse { .. }
            | Error::InvalidResponse { .. }
            | Error::EngineStopped(_)
            | Error::StillLoading { .. }
            | Error::LoadFailed { .. }
            | Error::NotAServer { .. }
            | Error::LlamaServer(_)
            | Error::WrongModel { .. } => Self::Model,
            Error::Server { fault, .. } => match fault.kind {
                FaultKind::Busy | FaultKind::Loading => Self::Busy,
                FaultKind::Unloaded | FaultKind::OutOfMemory => Self::Model,
                FaultKind::Other if fault.status.is_none_or(|status| status >= 500) => Self::Model,
                _ => Self::Job,
            },
            Error::Embedded(error) => match embedded_fault(error) {
                EmbeddedFault::Compute => Self::Model,
                _ => Self::Job,
            },
            Error::WriteState { .. } => Self::Disk,
            Error::Unauthorised { .. }
            | Error::UnknownEngine(_)
            | Error::UnknownModel { .. }
            | Error::UnknownServerModel { .. }
            | Error::ModelNotSpecified { .. }
            | Error::InvalidContext(_)
            | Error::UnsupportedSettings(_)
            | Error::NoEmbeddedEngine
            | Error::NoLlamaServer { .. }
            | Error::ModelFile { .. }
            | Error::InsufficientMemory { .. }
            | Error::PromptTooLong { .. }
            | Error::Refused { .. } => Self::Job,
        }
    }
}
