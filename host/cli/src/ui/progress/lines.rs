//! Batch progress as lines, for logs: one line per finished job without escape
//! sequences. If many jobs end at once, one line summarizes them; failed jobs
//! always have their own line.

use std::io::Write;
use std::time::{Duration, Instant};

use lmstrix::batch::{BatchEvent, JobEnd, JobInfo};
use lmstrix::quantity::count;

use super::format;
use super::view::{BatchView, RunCounts, write_line};

/// The number of jobs per second up to which each job has its own line.
const MAX_LINES_PER_S: usize = 10;
/// Minimum time between two summary lines.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum time between two lines about the load of a model.
const LOADING_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which the remaining time is printed again.
const ESTIMATE_INTERVAL: Duration = Duration::from_secs(30);
/// The remaining time is also printed after each such part of the run.
const ESTIMATES_PER_RUN: usize = 20;

/// Prints batch progress as lines.
pub(super) struct LinesView {
    out: Box<dyn Write + Send>,
    is_terminal: bool,
    throttle: LineThrottle,
    /// The time and the part of the run of the last printed estimate.
    estimate_printed: Option<(Instant, usize)>,
    /// The last model printed as loading, and the time.
    load: Option<(String, Instant)>,
}

impl LinesView {
    /// Creates the view. `is_terminal` makes control characters visible; a
    /// terminal that does not support drawing uses this view, too.
    pub(super) fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            throttle: LineThrottle::default(),
            estimate_printed: None,
            load: None,
        }
    }

    fn print(&mut self, line: &str) {
        let _ignored = write_line(self.out.as_mut(), line);
    }

    /// Returns for example `, about 12 min left` if an estimate is due.
    fn estimate_suffix(&mut self, run: &RunCounts, now: Instant) -> String {
        let Some(left) = run.remaining(now) else {
            return String::new();
        };
        let part = run.completed().saturating_mul(ESTIMATES_PER_RUN) / run.total.max(1);
        let is_due = self
            .estimate_printed
            .is_none_or(|(at, last)| part > last || now.duration_since(at) >= ESTIMATE_INTERVAL);
        if !is_due {
            return String::new();
        }
        self.estimate_printed = Some((now, part));
        format!(", {}", format::time_left(left))
    }

    /// Prints one line for all jobs that had no line of their own.
    fn print_summary(&mut self, run: &RunCounts, now: Instant) {
        self.throttle.summary_printed(now);
        self.estimate_printed = None;
        let (completed, total, failed) = (run.completed(), run.total, format::failed(run));
        let estimate = self.estimate_suffix(run, now);
        self.print(&format!("{completed}/{total} done{failed}{estimate}"));
    }

    /// Returns true if the load of this model has not been printed recently.
    fn is_load_due(&mut self, model: &str, now: Instant) -> bool {
        let is_recent = self
            .load
            .as_ref()
            .is_some_and(|(last, at)| last == model && now.duration_since(*at) < LOADING_INTERVAL);
        if !is_recent {
            self.load = Some((model.to_owned(), now));
        }
        !is_recent
    }

    fn job_finished(
        &mut self,
        run: &RunCounts,
        job: &JobInfo,
        end: JobEnd<'_>,
        (tokens, seconds): (u32, f64),
        now: Instant,
    ) {
        let is_failed = matches!(end, JobEnd::Failed(_));
        if !is_failed && !self.throttle.allow_line(now) {
            if self.throttle.is_summary_due(now) || run.is_finished() {
                self.print_summary(run, now);
            }
            return;
        }
        let end = match end {
            JobEnd::Failed(reason) => {
                format!(" failed: {}", format::reason(reason, self.is_terminal))
            }
            JobEnd::Stopped => " stopped".to_owned(),
            JobEnd::Done => {
                let mut counts = count(tokens as usize, "token");
                if let Some(rate) = format::tokens_per_s(tokens, seconds) {
                    counts += &format!(", {}", format::rate(rate));
                }
                let estimate = self.estimate_suffix(run, now);
                format!(": {counts}, {seconds:.1} s{estimate}")
            }
        };
        let label = format::label(job, self.is_terminal);
        self.print(&format!("{}/{} {label}{end}", run.completed(), run.total));
    }
}

impl BatchView for LinesView {
    fn event(&mut self, run: &RunCounts, event: BatchEvent<'_>, now: Instant) {
        let is_terminal = self.is_terminal;
        match event {
            BatchEvent::RunStarted { .. } if run.skipped > 0 => self.print(&format::skipped(run)),
            BatchEvent::ModelLoading {
                model,
                context,
                progress,
            } if self.is_load_due(model, now) => {
                self.print(&format::loading(model, context, progress, is_terminal));
            }
            BatchEvent::ModelLoaded {
                model,
                seconds,
                context,
            } => {
                self.load = None;
                let model = format::name(model, is_terminal);
                let context =
                    context.map_or_else(String::new, |tokens| format!(", context {tokens}"));
                self.print(&format!("loaded {model} in {seconds:.1} s{context}"));
            }
            BatchEvent::ModelUnloaded { model } => {
                self.load = None;
                self.print(&format!("unloaded {}", format::name(model, is_terminal)));
            }
            BatchEvent::JobFinished {
                job,
                end,
                tokens,
                seconds,
            } => self.job_finished(run, job, end, (tokens, seconds), now),
            BatchEvent::Tick if self.throttle.is_summary_due(now) => self.print_summary(run, now),
            BatchEvent::RunEnded if self.throttle.withheld > 0 => self.print_summary(run, now),
            BatchEvent::Status(text) => self.print(&format::message(text, false, is_terminal)),
            BatchEvent::Warning(text) => self.print(&format::message(text, true, is_terminal)),
            _ => {}
        }
    }
}

/// Decides which ended jobs have their own line.
#[derive(Debug, Default)]
struct LineThrottle {
    /// Start of the current window of at least one second.
    window_start: Option<Instant>,
    /// Jobs that ended in the current window.
    ended: usize,
    /// More than `MAX_LINES_PER_S` jobs ended in this or the previous window.
    is_fast: bool,
    /// Jobs without a line since the last summary.
    withheld: usize,
    /// Time of the last summary or of the first withheld job after it.
    summary_from: Option<Instant>,
}

impl LineThrottle {
    fn allow_line(&mut self, now: Instant) -> bool {
        self.start_window(now);
        self.ended += 1;
        self.is_fast |= self.ended > MAX_LINES_PER_S;
        // If other jobs are withheld, the next summary includes this one.
        let has_line = !self.is_fast && self.withheld == 0;
        if !has_line {
            self.withheld += 1;
            self.summary_from.get_or_insert(now);
        }
        has_line
    }

    /// Starts a new window if the current one has lasted a second.
    fn start_window(&mut self, now: Instant) {
        let second = Duration::from_secs(1);
        let start = *self.window_start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start);
        if elapsed >= second {
            self.is_fast = self.ended > MAX_LINES_PER_S && elapsed < 2 * second;
            self.ended = 0;
            self.window_start = Some(now);
        }
    }

    fn is_summary_due(&mut self, now: Instant) -> bool {
        self.start_window(now);
        let is_time = |at| now.saturating_duration_since(at) >= SUMMARY_INTERVAL;
        self.withheld > 0 && (!self.is_fast || self.summary_from.is_none_or(is_time))
    }

    fn summary_printed(&mut self, now: Instant) {
        self.withheld = 0;
        self.summary_from = self.is_fast.then_some(now);
    }
}
