//! The board as lines, for a log: no escapes, one line for each finished job,
//! and no more of them than a person reads. A job that failed always has one.

use std::io::Write;
use std::time::{Duration, Instant};

use super::super::visible;
use super::{Ended, JobName, Load, Run, Tally, View, words};

/// Jobs that get a line of their own within a second; when more end than that,
/// one line speaks for all.
const LINES_PER_S: usize = 10;
/// Between two lines that speak for many.
const EVERY_MANY: Duration = Duration::from_secs(5);
/// Between two lines on the load of a model.
const EVERY_LOADING: Duration = Duration::from_secs(10);
/// Between two mentions of what is left, unless the run has come on.
const EVERY_LEFT: Duration = Duration::from_secs(30);
/// Parts of the run after each of which what is left is mentioned.
const PARTS: usize = 20;

/// Writes lines.
pub(super) struct Plain {
    out: Box<dyn Write + Send>,
    is_terminal: bool,
    pace: Pace,
    /// When what is left was mentioned, and in which part of the run.
    mentioned: Option<(Instant, usize)>,
    /// The model last said to be loading, and when.
    load: Option<(String, Instant)>,
}

impl Plain {
    /// A terminal on which nothing can be drawn is still one.
    pub(super) fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            pace: Pace::default(),
            mentioned: None,
            load: None,
        }
    }

    fn line(&mut self, text: &str) {
        // In one piece, so that lines of other programs do not get into it.
        let _unwritable = self.out.write_all(format!("{text}\n").as_bytes());
    }

    /// `, about 12 min left` where that is due.
    fn left(&mut self, run: &Run, now: Instant) -> String {
        let Some(left) = run.left(now) else {
            return String::new();
        };
        let part = run.over().saturating_mul(PARTS) / run.total.max(1);
        let is_due = self
            .mentioned
            .is_none_or(|(at, last)| part > last || now.duration_since(at) >= EVERY_LEFT);
        if !is_due {
            return String::new();
        }
        self.mentioned = Some((now, part));
        format!(", {}", words::left(left))
    }

    /// Speaks for the jobs that had no line.
    fn many(&mut self, run: &Run, now: Instant) {
        self.pace.said_many(now);
        self.mentioned = None;
        let mut text = format!("{}/{} done", run.over(), run.total);
        if run.failed > 0 {
            text += &format!(", {} failed", run.failed);
        }
        text += &self.left(run, now);
        self.line(&text);
    }
}

impl View for Plain {
    fn begin(&mut self, run: &Run, _now: Instant) {
        if run.skipped > 0 {
            self.line(&words::skipped(run));
        }
    }

    fn loading(&mut self, load: Load<'_>, now: Instant) {
        let is_said = self.load.as_ref().is_some_and(|(model, at)| {
            model == load.model && now.duration_since(*at) < EVERY_LOADING
        });
        if !is_said {
            self.load = Some((load.model.to_owned(), now));
            self.line(&words::loading(load, self.is_terminal));
        }
    }

    fn loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.load = None;
        let mut text = format!("loaded {}", words::name(model, self.is_terminal));
        if let Some(seconds) = seconds {
            text += &format!(" in {seconds:.1} s");
        }
        if let Some(context) = context {
            text += &format!(", context {context}");
        }
        self.line(&text);
    }

    fn unloaded(&mut self, model: &str) {
        self.load = None;
        let text = format!("unloaded {}", words::name(model, self.is_terminal));
        self.line(&text);
    }

    fn tick(&mut self, run: &Run, now: Instant) {
        if self.pace.is_many_due(now) {
            self.many(run, now);
        }
    }

    fn end(&mut self, run: &Run, job: &JobName<'_>, ended: Ended<'_>, tally: &Tally, now: Instant) {
        let is_failed = matches!(ended, Ended::Failed(_));
        if !is_failed && !self.pace.has_line(now) {
            if self.pace.is_many_due(now) || run.is_over() {
                self.many(run, now);
            }
            return;
        }
        let at = format!("{}/{}", run.over(), run.total);
        let label = words::label(job, self.is_terminal);
        let tokens = words::tokens(tally.tokens);
        let seconds = tally.seconds;
        let text = match ended {
            Ended::Failed(reason) => {
                let reason = words::reason(reason, self.is_terminal);
                format!("{at} {label} failed: {reason}")
            }
            Ended::Stopped => format!("{at} {label} stopped: {tokens}, {seconds:.1} s"),
            Ended::Done => {
                let rate = tally.tokens_per_s.filter(|it| it.is_finite());
                let rate = rate.map_or_else(String::new, |it| format!(", {it:.1} tokens/s"));
                let left = self.left(run, now);
                format!("{at} {label}: {tokens}{rate}, {seconds:.1} s{left}")
            }
        };
        self.line(&text);
    }

    fn say(&mut self, _run: &Run, text: &str, is_warning: bool, _now: Instant) {
        let shown = if self.is_terminal {
            visible(text)
        } else {
            text.to_owned()
        };
        let front = if is_warning { "warning: " } else { "" };
        self.line(&format!("{front}{}", shown.trim_end()));
    }

    fn finish(&mut self, run: &Run, now: Instant) {
        if self.pace.unsaid > 0 {
            self.many(run, now);
        }
    }
}

/// Which of the jobs that end get a line of their own.
#[derive(Debug, Default)]
struct Pace {
    /// Since when jobs are counted; a second at least.
    since: Option<Instant>,
    ended: usize,
    /// More ended in the second before than get lines.
    is_fast: bool,
    /// How many had no line since one spoke for them.
    unsaid: usize,
    /// When the last line spoke for many, or the first of them was left out.
    at: Option<Instant>,
}

impl Pace {
    fn has_line(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.ended += 1;
        self.is_fast |= self.ended > LINES_PER_S;
        // Where some have none yet, the line that speaks for them is due, and
        // speaks for this one, too.
        let has_line = !self.is_fast && self.unsaid == 0;
        if !has_line {
            self.unsaid += 1;
            self.at.get_or_insert(now);
        }
        has_line
    }

    /// Begins to count anew when a second is over.
    fn turn(&mut self, now: Instant) {
        let second = Duration::from_secs(1);
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= second {
            self.is_fast = self.ended > LINES_PER_S && passed < 2 * second;
            self.ended = 0;
            self.since = Some(now);
        }
    }

    fn is_many_due(&mut self, now: Instant) -> bool {
        self.turn(now);
        let is_time = |at| now.saturating_duration_since(at) >= EVERY_MANY;
        self.unsaid > 0 && (!self.is_fast || self.at.is_none_or(is_time))
    }

    fn said_many(&mut self, now: Instant) {
        self.unsaid = 0;
        self.at = self.is_fast.then_some(now);
    }
}
