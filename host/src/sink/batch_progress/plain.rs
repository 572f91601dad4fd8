//! Batch progress as lines, for logs: one line per finished job without escape
//! sequences. If many jobs end at once, one line summarizes them; failed jobs
//! always have their own line.

use std::io::Write;
use std::time::{Duration, Instant};

use super::super::escape_controls;
use super::{
    JobStats, LoadProgress, ProgressJob, ProgressJobEnd, ProgressView, RunProgress, format,
};

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
pub(super) struct BatchLines {
    out: Box<dyn Write + Send>,
    is_terminal: bool,
    throttle: LineThrottle,
    /// The time and the part of the run of the last printed estimate.
    estimate_printed: Option<(Instant, usize)>,
    /// The last model printed as loading, and the time.
    load: Option<(String, Instant)>,
}

impl BatchLines {
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

    fn print(&mut self, text: &str) {
        // One write, so that the lines of other processes are not mixed in.
        let _ignored = self.out.write_all(format!("{text}\n").as_bytes());
    }

    /// Returns for example `, about 12 min left` if an estimate is due.
    fn estimate_suffix(&mut self, run: &RunProgress, now: Instant) -> String {
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
    fn print_summary(&mut self, run: &RunProgress, now: Instant) {
        self.throttle.summary_printed(now);
        self.estimate_printed = None;
        let mut text = format!("{}/{} done", run.completed(), run.total);
        if run.failed > 0 {
            text += &format!(", {} failed", run.failed);
        }
        text += &self.estimate_suffix(run, now);
        self.print(&text);
    }
}

impl ProgressView for BatchLines {
    fn run_started(&mut self, run: &RunProgress, _now: Instant) {
        if run.skipped > 0 {
            self.print(&format::skipped(run));
        }
    }

    fn model_loading(&mut self, load: LoadProgress<'_>, now: Instant) {
        let is_recent = self.load.as_ref().is_some_and(|(model, at)| {
            model == load.model && now.duration_since(*at) < LOADING_INTERVAL
        });
        if !is_recent {
            self.load = Some((load.model.to_owned(), now));
            self.print(&format::loading(load, self.is_terminal));
        }
    }

    fn model_loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.load = None;
        let mut text = format!("loaded {}", format::name(model, self.is_terminal));
        if let Some(seconds) = seconds {
            text += &format!(" in {seconds:.1} s");
        }
        if let Some(context) = context {
            text += &format!(", context {context}");
        }
        self.print(&text);
    }

    fn model_unloaded(&mut self, model: &str) {
        self.load = None;
        let text = format!("unloaded {}", format::name(model, self.is_terminal));
        self.print(&text);
    }

    fn tick(&mut self, run: &RunProgress, now: Instant) {
        if self.throttle.is_summary_due(now) {
            self.print_summary(run, now);
        }
    }

    fn job_ended(
        &mut self,
        run: &RunProgress,
        job: &ProgressJob<'_>,
        end: ProgressJobEnd<'_>,
        stats: &JobStats,
        now: Instant,
    ) {
        let is_failed = matches!(end, ProgressJobEnd::Failed(_));
        if !is_failed && !self.throttle.allow_line(now) {
            if self.throttle.is_summary_due(now) || run.is_finished() {
                self.print_summary(run, now);
            }
            return;
        }
        let count = format!("{}/{}", run.completed(), run.total);
        let label = format::label(job, self.is_terminal);
        let tokens = format::tokens(stats.tokens);
        let seconds = stats.seconds;
        let text = match end {
            ProgressJobEnd::Failed(reason) => {
                let reason = format::reason(reason, self.is_terminal);
                format!("{count} {label} failed: {reason}")
            }
            ProgressJobEnd::Stopped => format!("{count} {label} stopped"),
            ProgressJobEnd::Done => {
                let rate = stats.tokens_per_s.filter(|rate| rate.is_finite());
                let rate = rate.map_or_else(String::new, |rate| format!(", {rate:.1} tokens/s"));
                let estimate = self.estimate_suffix(run, now);
                format!("{count} {label}: {tokens}{rate}, {seconds:.1} s{estimate}")
            }
        };
        self.print(&text);
    }

    fn message(&mut self, _run: &RunProgress, text: &str, is_warning: bool, _now: Instant) {
        let text = if self.is_terminal {
            escape_controls(text)
        } else {
            text.to_owned()
        };
        let prefix = if is_warning { "warning: " } else { "" };
        self.print(&format!("{prefix}{}", text.trim_end()));
    }

    fn finish(&mut self, run: &RunProgress, now: Instant) {
        if self.throttle.withheld > 0 {
            self.print_summary(run, now);
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
