//! Progress of a batch run: bars on a terminal, lines in a log, JSON lines for
//! programs. `BatchProgress` receives what happens and only displays it.
//! Failures to write are ignored. Views receive the time as an argument, so that
//! they can be tested without waiting. A single run uses `Progress` instead.

mod format;
mod json;
mod plain;
mod screen;
mod terminal;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use json::BatchJson;
use plain::BatchLines;
use terminal::BatchTerminal;

/// Where and how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars on stderr if it is a terminal, lines otherwise.
    Terminal,
    /// Lines on stderr.
    Plain,
    /// JSON lines on stdout.
    Json,
    /// No output.
    None,
}

/// The phase of a running job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProgressJobPhase {
    /// The request was sent.
    Waiting,
    /// The model is being loaded.
    Loading,
    /// The prompt is being processed; the completed fraction, 0 to 1.
    Reading(f32),
    /// Reasoning arrives.
    Reasoning,
    /// The answer arrives.
    Writing,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressJobEnd<'a> {
    /// The job has a result.
    Done,
    /// The job failed, with the reason.
    Failed(&'a str),
    /// The run was stopped before the job had a result.
    Stopped,
}

/// The job fields that progress output contains.
#[derive(Clone, Copy, Debug)]
pub struct ProgressJob<'a> {
    /// The number of the job in this run, starting at 1.
    pub number: usize,
    /// The name of the result file.
    pub name: &'a str,
    /// The prompt name, or several separated by commas.
    pub prompt: &'a str,
    /// The model name.
    pub model: &'a str,
    /// The input name.
    pub input: Option<&'a str>,
}

/// Token count and times of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobStats {
    /// The tokens of the answer.
    pub tokens: u32,
    /// The generation speed.
    pub tokens_per_s: Option<f64>,
    /// The duration of the job.
    pub seconds: f64,
}

/// Shows the progress of a batch run.
///
/// `run_started` must be called first. After `finish` nothing is shown. A job
/// can end without having started.
pub struct BatchProgress {
    run: RunProgress,
    view: Box<dyn ProgressView + Send>,
}

impl std::fmt::Debug for BatchProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchProgress")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// Counts of a run.
#[derive(Debug)]
struct RunProgress {
    started: Instant,
    total: usize,
    skipped: usize,
    done: usize,
    failed: usize,
    stopped: usize,
    /// The estimated remaining time, and the time of the estimate.
    estimate: Option<(Duration, Instant)>,
}

impl RunProgress {
    fn new(total: usize, skipped: usize) -> Self {
        Self {
            started: Instant::now(),
            total,
            skipped,
            done: 0,
            failed: 0,
            stopped: 0,
            estimate: None,
        }
    }

    /// Returns the number of done and failed jobs. Stopped jobs still have to
    /// run.
    fn completed(&self) -> usize {
        self.done + self.failed
    }

    fn is_finished(&self) -> bool {
        self.completed() + self.stopped >= self.total
    }

    /// Returns the estimate minus the time since it was made.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let (estimate, at) = self.estimate?;
        (self.completed() < self.total)
            .then(|| estimate.saturating_sub(now.saturating_duration_since(at)))
    }
}

/// A model that is being loaded.
#[derive(Clone, Copy, Debug)]
struct LoadProgress<'a> {
    model: &'a str,
    context: Option<u32>,
    progress: Option<f32>,
}

/// A kind of progress output. `run` has the counts after the reported event.
trait ProgressView {
    fn run_started(&mut self, _run: &RunProgress, _now: Instant) {}
    fn estimate(&mut self, _estimate: Option<Duration>) {}
    fn model_loading(&mut self, _load: LoadProgress<'_>, _now: Instant) {}
    fn model_loaded(&mut self, _model: &str, _seconds: Option<f64>, _context: Option<u32>) {}
    fn model_unloaded(&mut self, _model: &str) {}
    fn job_started(&mut self, _job: &ProgressJob<'_>, _now: Instant) {}
    /// Called for every token, so implementations must be cheap.
    fn job_progress(
        &mut self,
        _number: usize,
        _phase: ProgressJobPhase,
        _tokens: u32,
        _now: Instant,
    ) {
    }
    fn tick(&mut self, _run: &RunProgress, _now: Instant) {}
    fn job_ended(
        &mut self,
        _run: &RunProgress,
        _job: &ProgressJob<'_>,
        _end: ProgressJobEnd<'_>,
        _stats: &JobStats,
        _now: Instant,
    ) {
    }
    fn message(&mut self, _run: &RunProgress, _text: &str, _is_warning: bool, _now: Instant) {}
    fn finish(&mut self, _run: &RunProgress, _now: Instant) {}
}

/// Shows nothing.
struct NoProgress;

impl ProgressView for NoProgress {}

impl BatchProgress {
    /// Creates the output for a mode. `quiet` suppresses everything but JSON.
    #[must_use]
    pub fn new(mode: ProgressMode, quiet: bool) -> Self {
        let lines = || {
            let stderr = std::io::stderr();
            let is_terminal = stderr.is_terminal();
            BatchLines::new(Box::new(stderr), is_terminal)
        };
        Self::with_view(match mode {
            ProgressMode::Json => {
                let stdout = std::io::stdout();
                let is_terminal = stdout.is_terminal();
                Box::new(BatchJson::new(Box::new(stdout), is_terminal))
            }
            ProgressMode::None => Box::new(NoProgress),
            _ if quiet => Box::new(NoProgress),
            ProgressMode::Plain => Box::new(lines()),
            ProgressMode::Terminal => match BatchTerminal::stderr() {
                Some(terminal) => Box::new(terminal),
                None => Box::new(lines()),
            },
        })
    }

    /// Like `new`, but writes to `out`, which is not a terminal.
    #[must_use]
    pub fn with_output(mode: ProgressMode, quiet: bool, out: Box<dyn Write + Send>) -> Self {
        Self::with_view(match mode {
            ProgressMode::Json => Box::new(BatchJson::new(out, false)),
            ProgressMode::Plain | ProgressMode::Terminal if !quiet => {
                Box::new(BatchLines::new(out, false))
            }
            _ => Box::new(NoProgress),
        })
    }

    fn with_view(view: Box<dyn ProgressView + Send>) -> Self {
        Self {
            run: RunProgress::new(0, 0),
            view,
        }
    }

    /// Starts a run of `total` jobs, besides `skipped` jobs that are already
    /// done.
    pub fn run_started(&mut self, total: usize, skipped: usize) {
        self.run = RunProgress::new(total, skipped);
        self.view.run_started(&self.run, self.run.started);
    }

    /// Sets the estimated remaining time, or `None` if unknown. Called after each
    /// job.
    pub fn remaining_time(&mut self, estimate: Option<Duration>) {
        self.run.estimate = estimate.map(|remaining| (remaining, Instant::now()));
        self.view.estimate(estimate);
    }

    /// Shows that a model is being loaded, until `model_loaded`,
    /// `model_unloaded`, or the failure of a job of that model.
    pub fn model_loading(&mut self, model: &str, context: Option<u32>, progress: Option<f32>) {
        let load = LoadProgress {
            model,
            context,
            progress,
        };
        self.view.model_loading(load, Instant::now());
    }

    /// Shows that a model was loaded, with the duration in seconds.
    pub fn model_loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.view.model_loaded(model, seconds, context);
    }

    /// Shows that a model was unloaded.
    pub fn model_unloaded(&mut self, model: &str) {
        self.view.model_unloaded(model);
    }

    /// Shows that a job is running.
    pub fn job_started(&mut self, job: &ProgressJob<'_>) {
        self.view.job_started(job, Instant::now());
    }

    /// Updates the phase of a job and its number of tokens so far.
    pub fn job_progress(&mut self, number: usize, phase: ProgressJobPhase, tokens: u32) {
        self.view
            .job_progress(number, phase, tokens, Instant::now());
    }

    /// Updates spinners and times; to be called about every 200 ms. A terminal is
    /// drawn only here and when a message is printed.
    pub fn tick(&mut self) {
        self.view.tick(&self.run, Instant::now());
    }

    /// Shows the end of a job.
    pub fn job_ended(&mut self, job: &ProgressJob<'_>, end: ProgressJobEnd<'_>, stats: &JobStats) {
        self.job_ended_at(job, end, stats, Instant::now());
    }

    fn job_ended_at(
        &mut self,
        job: &ProgressJob<'_>,
        end: ProgressJobEnd<'_>,
        stats: &JobStats,
        now: Instant,
    ) {
        match end {
            ProgressJobEnd::Done => self.run.done += 1,
            ProgressJobEnd::Failed(_) => self.run.failed += 1,
            ProgressJobEnd::Stopped => self.run.stopped += 1,
        }
        self.view.job_ended(&self.run, job, end, stats, now);
    }

    /// Prints a message or a warning above the bars.
    pub fn message(&mut self, text: &str, is_warning: bool) {
        self.view
            .message(&self.run, text, is_warning, Instant::now());
    }

    /// Ends the output.
    pub fn finish(&mut self) {
        self.view.finish(&self.run, Instant::now());
        self.view = Box::new(NoProgress);
    }
}

impl Drop for BatchProgress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
