//! What the jobs of a run share: totals, the journal's records of jobs, signals, and the
//! reason to stop.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;

use super::backend::Backend;
use super::event::{BatchEvent, JobEnd, JobInfo, SharedObserver};
use super::queue::Queue;
use super::totals::{ModelTotals, time_left};
use crate::batch::{ModelSpeed, Record, TokenNeed};
use crate::error::Error;
use crate::job::Cancel;

/// The interval of `BatchEvent::Tick`.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// A model of the run.
#[derive(Clone, Debug, Default)]
pub(super) struct ScheduledModel {
    pub(super) label: String,
    /// A server's address, or `embedded`.
    pub(super) place: String,
    /// The model's name at its engine.
    pub(super) id: String,
    pub(super) speed: ModelSpeed,
    /// The most jobs at once, where the plan limits them.
    pub(super) jobs: Option<usize>,
    /// True if it was loaded before the run.
    pub(super) is_loaded: bool,
}

/// A job of the run.
#[derive(Clone, Debug)]
pub(super) struct ScheduledJob {
    pub(super) info: JobInfo,
    pub(super) model: usize,
    pub(super) prompt_bytes: u64,
    pub(super) need: TokenNeed,
    /// False for a job that is skipped.
    pub(super) runs: bool,
}

/// Options of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SchedulerOptions {
    /// The most jobs at once for every model.
    pub(super) jobs: Option<usize>,
    /// More failures than this end the run.
    pub(super) failure_limit: Option<FailureLimit>,
    /// The time limit for a server that went away to answer again.
    pub(super) reconnect_timeout: Duration,
}

/// A number of jobs, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureLimit {
    /// This many jobs.
    Count(usize),
    /// This percentage of all jobs.
    Percent(u8),
}

impl FromStr for FailureLimit {
    type Err = String;

    /// Parses a number of jobs, or `0%` to `100%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let limit = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok();
                percent.filter(|percent| *percent <= 100).map(Self::Percent)
            }
            None => text.parse().ok().map(Self::Count),
        };
        limit.ok_or_else(|| "expected a number, or `0%` to `100%`".to_owned())
    }
}

impl FailureLimit {
    /// Returns whether `failures` of `jobs` exceed the limit.
    #[must_use]
    pub fn is_exceeded(self, failures: usize, jobs: usize) -> bool {
        match self {
            Self::Count(most) => failures > most,
            Self::Percent(percent) => failures * 100 > jobs * usize::from(percent),
        }
    }
}

/// The signals that interrupt a batch: the first lets the running jobs end, the second
/// cancels them, too.
pub struct Interrupts<'a> {
    /// The first signal.
    pub first: Cancel<'a>,
    /// The second signal.
    pub second: Cancel<'a>,
}

/// The reason that a run ends early.
#[derive(Debug)]
pub enum RunStop {
    /// The first signal: the running jobs end first.
    Interrupted,
    /// Too many jobs failed.
    Failures,
    /// Nothing can be written.
    Fatal(Error),
}

/// The state of a run.
pub(super) struct RunState<'a, 'i, B> {
    pub(super) backend: &'a B,
    pub(super) observer: &'a SharedObserver,
    pub(super) options: SchedulerOptions,
    pub(super) models: &'a [ScheduledModel],
    pub(super) jobs: &'a [ScheduledJob],
    pub(super) interrupts: Interrupts<'i>,
    /// Cancels the running jobs.
    pub(super) cancel: watch::Sender<bool>,
    pub(super) stop: Option<RunStop>,
    pub(super) totals: Vec<ModelTotals>,
    has_first_signal: bool,
    has_second_signal: bool,
    shown: BTreeSet<String>,
}

impl ScheduledModel {
    pub(super) fn key(&self) -> (String, String) {
        (self.place.clone(), self.id.clone())
    }
}

impl<'a, 'i, B: Backend> RunState<'a, 'i, B> {
    pub(super) fn new(
        backend: &'a B,
        observer: &'a SharedObserver,
        options: SchedulerOptions,
        models: &'a [ScheduledModel],
        jobs: &'a [ScheduledJob],
        interrupts: Interrupts<'i>,
        cancel: watch::Sender<bool>,
    ) -> Self {
        Self {
            backend,
            observer,
            options,
            models,
            jobs,
            interrupts,
            cancel,
            stop: None,
            totals: vec![ModelTotals::default(); models.len()],
            has_first_signal: false,
            has_second_signal: false,
            shown: BTreeSet::new(),
        }
    }

    pub(super) fn job_done(&mut self, index: usize, tokens: Option<u32>, seconds: f64) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        self.finish(job, JobEnd::Done, tokens, seconds);
        if let Some(totals) = self.totals.get_mut(job.model) {
            totals.job_done(tokens, seconds);
        }
        self.show_time_left();
    }

    pub(super) fn job_stopped(&self, index: usize) {
        if let Some(job) = self.jobs.get(index) {
            self.finish(job, JobEnd::Stopped, None, 0.0);
        }
    }

    pub(super) fn job_retried(&self, index: usize, cause: &str) {
        self.job_stopped(index);
        if let Some(job) = self.jobs.get(index) {
            self.observer
                .warning(&format!("retrying {}: {cause}", job.info.name));
        }
    }

    pub(super) fn job_failed(
        &mut self,
        index: usize,
        failure: &Error,
        partial: Option<B::Partial>,
        attempts: u32,
        seconds: f64,
    ) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let recorded = self
            .backend
            .record_failure(index, failure, partial, attempts, seconds);
        if let Err(fatal) = recorded {
            return self.stop(RunStop::Fatal(fatal));
        }
        self.finish(job, JobEnd::Failed(&failure.message), None, seconds);
        if let Some(totals) = self.totals.get_mut(job.model) {
            totals.job_failed();
        }
        self.show_time_left();
        let failed: usize = self.totals.iter().map(|totals| totals.failed).sum();
        let all = self.jobs.iter().filter(|job| job.runs).count();
        let limit = self.options.failure_limit;
        if limit.is_some_and(|limit| limit.is_exceeded(failed, all)) {
            self.stop(RunStop::Failures);
        }
    }

    /// Fails all jobs of a queue, since their model cannot be run.
    pub(super) fn fail_all(&mut self, queue: &mut Queue, failure: &Error) {
        while let Some(job) = queue.pop() {
            // A job that was sent shows its own failure first.
            let message = match queue.last_failure(job) {
                Some(own) => format!("{own} ({})", failure.message),
                None => failure.message.clone(),
            };
            let failure = Error {
                hints: failure.hints.clone(),
                ..Error::new(failure.kind, message)
            };
            self.job_failed(job, &failure, None, queue.attempts(job), 0.0);
            if self.stop.is_some() {
                return;
            }
        }
    }

    fn finish(&self, job: &ScheduledJob, end: JobEnd<'_>, tokens: Option<u32>, seconds: f64) {
        self.observer.event(BatchEvent::JobFinished {
            job: &job.info,
            end,
            tokens: tokens.unwrap_or(0),
            seconds,
        });
    }

    pub(super) fn show_time_left(&self) {
        let models = self
            .totals
            .iter()
            .zip(self.models.iter().map(|model| model.speed));
        self.observer.event(BatchEvent::TimeLeft(time_left(models)));
    }

    pub(super) fn label(&self, model: usize) -> String {
        self.models
            .get(model)
            .map(|model| model.label.clone())
            .unwrap_or_default()
    }

    pub(super) fn warn_once(&mut self, text: &str) {
        if self.shown.insert(text.to_owned()) {
            self.observer.warning(text);
        }
    }

    /// Appends to the journal; a journal that cannot be written ends the run.
    pub(super) fn record(&mut self, record: &Record) {
        if let Err(failure) = self.backend.record(record) {
            self.stop(RunStop::Fatal(failure));
        }
    }

    /// Waits, unless the run is to stop.
    pub(super) async fn pause(&mut self, duration: Duration) {
        let mut rest = std::pin::pin!(tokio::time::sleep(duration));
        while self.stop.is_none() {
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                () = &mut rest => return,
            }
        }
    }

    /// Completes at the next signal, after having acted on it.
    pub(super) async fn interrupted(&mut self) {
        tokio::select! {
            biased;
            () = &mut self.interrupts.second, if !self.has_second_signal => {
                self.has_second_signal = true;
                self.has_first_signal = true;
                self.stop.get_or_insert(RunStop::Interrupted);
                let _no_job_runs = self.cancel.send(true);
            }
            () = &mut self.interrupts.first, if !self.has_first_signal => {
                self.has_first_signal = true;
                if self.stop.is_none() {
                    self.stop = Some(RunStop::Interrupted);
                    self.observer.warning(
                        "waiting for the running jobs to end; press Ctrl-C again to cancel them",
                    );
                }
            }
            else => std::future::pending().await,
        }
    }

    /// Acts on a signal that has arrived; returns whether the run is to stop.
    pub(super) async fn poll_interrupts(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.interrupted() => {}
            () = std::future::ready(()) => {}
        }
        self.stop.is_some()
    }

    /// Stops the run. A fatal failure also cancels the running jobs, and wins over
    /// other reasons.
    pub(super) fn stop(&mut self, reason: RunStop) {
        if matches!(reason, RunStop::Fatal(_)) {
            let _no_job_runs = self.cancel.send(true);
            if !matches!(self.stop, Some(RunStop::Fatal(_))) {
                self.stop = Some(reason);
            }
            return;
        }
        self.stop.get_or_insert(reason);
    }
}
