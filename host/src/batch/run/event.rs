//! What happens during a batch, as values. Progress displays and reports are observers
//! of this stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Notice, Notices};

/// An event of a batch, in the order in which things happen.
#[derive(Clone, Copy, Debug)]
pub enum BatchEvent<'a> {
    /// A remark that is no warning.
    Status(&'a str),
    /// A warning: a retry, a model that is set aside, a setting that is lost.
    Warning(&'a str),
    /// The run begins.
    RunStarted {
        /// Jobs to run.
        jobs: usize,
        /// Jobs that were done before.
        skipped: usize,
    },
    /// The time that is left, from loads and medians; `None` is unknown.
    TimeLeft(Option<Duration>),
    /// A model is being loaded.
    ModelLoading {
        /// The model's label.
        model: &'a str,
        /// The context length that was asked for, in tokens.
        context: Option<u32>,
        /// The fraction that is done, 0 to 1, where known.
        progress: Option<f32>,
    },
    /// A model is loaded.
    ModelLoaded {
        /// The model's label.
        model: &'a str,
        /// Seconds of loading.
        seconds: f64,
        /// Its context length in tokens, where known.
        context: Option<u32>,
    },
    /// A model that this run loaded is unloaded.
    ModelUnloaded {
        /// The model's label.
        model: &'a str,
    },
    /// A job was queued.
    JobQueued(&'a JobInfo),
    /// A job was sent.
    JobStarted(&'a JobInfo),
    /// A running job made progress; sent for every token.
    JobProgressed {
        /// The job's number in this run, starting at 1.
        number: usize,
        /// What the job is doing.
        phase: JobPhase,
        /// Tokens so far.
        tokens: u32,
    },
    /// A job ended.
    JobFinished {
        /// The job.
        job: &'a JobInfo,
        /// How it ended.
        end: JobEnd<'a>,
        /// Tokens of the answer; 0 where unknown.
        tokens: u32,
        /// Seconds that the job took.
        seconds: f64,
    },
    /// Some time has passed; sent about five times a second.
    Tick,
    /// The run ended.
    RunEnded,
}

/// How a job is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// The job's number in this run, starting at 1.
    pub number: usize,
    /// The name of its result file.
    pub name: String,
    /// The prompt's label.
    pub prompt: String,
    /// The model's label.
    pub model: String,
    /// The input and the values of axes.
    pub input: Option<String>,
}

/// What a running job is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobPhase {
    /// Its model is being loaded.
    Loading,
    /// The engine reads the prompt; the fraction that is done, 0 to 1.
    Reading(f32),
    /// The model reasons.
    Reasoning,
    /// The answer arrives.
    Writing,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd<'a> {
    /// Its result is written.
    Done,
    /// It failed, with the reason.
    Failed(&'a str),
    /// It was stopped, or will be retried.
    Stopped,
}

/// Receives the events of a batch.
pub trait BatchObserver: Send {
    /// Takes an event. It must not block for long: jobs wait until it returns.
    fn event(&mut self, event: BatchEvent<'_>);
}

/// An observer that several jobs share.
#[derive(Clone)]
pub struct SharedObserver(Arc<Mutex<dyn BatchObserver>>);

impl SharedObserver {
    /// Shares an observer.
    pub fn new(observer: impl BatchObserver + 'static) -> Self {
        Self(Arc::new(Mutex::new(observer)))
    }

    /// Passes an event on.
    pub fn event(&self, event: BatchEvent<'_>) {
        // A panic of the observer must not end the run.
        let mut observer = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        observer.event(event);
    }

    /// Passes a warning on.
    pub fn warning(&self, text: &str) {
        self.event(BatchEvent::Warning(text));
    }

    /// Returns a receiver of remarks that passes them on as events.
    pub(crate) fn notices(&self) -> Notices {
        let observer = self.clone();
        Notices::new(move |notice| match notice {
            Notice::Status(text) => observer.status(text),
            Notice::Warning(text) => observer.warning(text),
        })
    }

    /// Passes a remark on.
    pub fn status(&self, text: &str) {
        self.event(BatchEvent::Status(text));
    }
}
