//! The board for programs: one object on each line of stdout, with a `kind`.
//! Nothing is left out for the sake of the eye, except what happens for every
//! token.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::visible_json;
use super::{Ended, JobName, Load, Run, Tally, View};

/// Of the lines as a whole; a new field does not change it.
const SCHEMA: u32 = 1;

/// Writes lines of JSON.
pub(super) struct Json {
    /// `None` once it cannot be written: whoever reads has had enough.
    out: Option<Box<dyn Write + Send>>,
    is_terminal: bool,
    has_begun: bool,
    /// The load that was written last; servers tell more often than it changes.
    load: Option<Value>,
}

impl Json {
    /// On a terminal, characters that act are written as escapes.
    pub(super) fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self {
            out: Some(out),
            is_terminal,
            has_begun: false,
            load: None,
        }
    }

    fn line(&mut self, value: &Value) {
        let Some(out) = &mut self.out else {
            return;
        };
        let mut text = value.to_string();
        if self.is_terminal {
            text = visible_json(&text);
        }
        text.push('\n');
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.is_err() {
            self.out = None;
        }
    }

    fn job(&mut self, job: &JobName<'_>, state: &str, tally: Option<&Tally>, error: Option<&str>) {
        self.line(&json!({
            "kind": "job",
            "state": state,
            "number": job.number,
            "name": job.name,
            "prompt": job.prompt,
            "model": job.model,
            "input": job.input,
            "tokens": tally.map(|it| it.tokens),
            "tokens_per_s": tally.and_then(|it| it.tokens_per_s).map(thousandths),
            "seconds": tally.map(|it| thousandths(it.seconds)),
            "error": error,
        }));
    }
}

/// More digits than that are noise.
fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl View for Json {
    fn begin(&mut self, run: &Run, _now: Instant) {
        self.has_begun = true;
        self.line(&json!({
            "kind": "begin",
            "schema": SCHEMA,
            "total": run.total,
            "skipped": run.skipped,
        }));
    }

    fn left(&mut self, estimate: Option<Duration>) {
        let seconds = estimate.map(|it| thousandths(it.as_secs_f64()));
        self.line(&json!({ "kind": "left", "seconds": seconds }));
    }

    fn loading(&mut self, load: Load<'_>, _now: Instant) {
        // To the hundredth, so that a load is a hundred lines at most.
        let progress = load
            .progress
            .map(|it| (f64::from(it) * 100.0).round() / 100.0);
        let value = json!({
            "kind": "loading",
            "model": load.model,
            "context": load.context,
            "progress": progress,
        });
        if self.load.as_ref() != Some(&value) {
            self.line(&value);
            self.load = Some(value);
        }
    }

    fn loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.load = None;
        self.line(&json!({
            "kind": "loaded",
            "model": model,
            "seconds": seconds.map(thousandths),
            "context": context,
        }));
    }

    fn unloaded(&mut self, model: &str) {
        self.load = None;
        self.line(&json!({ "kind": "unloaded", "model": model }));
    }

    fn start(&mut self, job: &JobName<'_>, _now: Instant) {
        self.job(job, "started", None, None);
    }

    fn end(
        &mut self,
        _run: &Run,
        job: &JobName<'_>,
        ended: Ended<'_>,
        tally: &Tally,
        _now: Instant,
    ) {
        let (state, error) = match ended {
            Ended::Done => ("done", None),
            Ended::Failed(reason) => ("failed", Some(reason)),
            Ended::Stopped => ("stopped", None),
        };
        self.job(job, state, Some(tally), error);
    }

    fn say(&mut self, _run: &Run, text: &str, is_warning: bool, _now: Instant) {
        let kind = if is_warning { "warning" } else { "status" };
        self.line(&json!({ "kind": kind, "text": text }));
    }

    fn finish(&mut self, run: &Run, now: Instant) {
        if !self.has_begun {
            return;
        }
        let seconds = now.saturating_duration_since(run.began).as_secs_f64();
        self.line(&json!({
            "kind": "end",
            "done": run.done,
            "failed": run.failed,
            "stopped": run.stopped,
            "seconds": thousandths(seconds),
        }));
    }
}
