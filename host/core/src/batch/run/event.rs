//! The events of a batch. Progress displays and reports are observers of this stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Notice, Notices};

/// An event of a batch, in the order in which things happen.
#[derive(Clone, Copy, Debug)]
pub enum BatchEvent<'a> {
    /// A notice that is not a warning.
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
        /// The requested context length, in tokens.
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
        /// The phase of the job.
        phase: JobPhase,
        /// Tokens so far.
        tokens: u32,
    },
    /// A job ended.
    JobFinished {
        /// The job.
        job: &'a JobInfo,
        /// Done, failed or stopped.
        end: JobEnd<'a>,
        /// Tokens of the answer; 0 where unknown.
        tokens: u32,
        /// Seconds that the job took.
        seconds: f64,
    },
    /// Sent about five times a second, so that observers can update times.
    Tick,
    /// The run ended.
    RunEnded,
}

/// The number, name and labels of a job.
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

/// The phase of a running job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobPhase {
    /// Its model is being loaded; the fraction that is done, 0 to 1, where known.
    Loading(Option<f32>),
    /// The engine reads the prompt.
    Reading {
        /// The fraction that is done, 0 to 1.
        done: f32,
        /// Tokens of the whole prompt, where known.
        tokens: Option<u32>,
    },
    /// The model reasons.
    Reasoning,
    /// The answer arrives.
    Writing,
}

/// The end of a job.
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

    /// Returns a receiver of notices that passes them on as events.
    pub fn notices(&self) -> Notices {
        let observer = self.clone();
        Notices::new(move |notice| match notice {
            Notice::Status(text) => observer.status(text),
            Notice::Warning(text) => observer.warning(text),
        })
    }

    /// Passes a notice on.
    pub fn status(&self, text: &str) {
        self.event(BatchEvent::Status(text));
    }
}
