//! Batch progress for programs: one JSON object per line of stdout, with a
//! `kind`. All events are written except the per-token updates of a phase.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::escape_controls_json;
use super::{JobStats, LoadProgress, ProgressJob, ProgressJobEnd, ProgressView, RunProgress};

/// The schema version of all lines. New fields do not change it.
const SCHEMA: u32 = 1;

/// Writes batch progress as JSON lines.
pub(super) struct BatchJson {
    /// `None` after a write has failed, for example because the reader closed
    /// the pipe.
    out: Option<Box<dyn Write + Send>>,
    is_terminal: bool,
    started: bool,
    /// The last written `loading` line; servers report the same progress more
    /// than once.
    last_load: Option<Value>,
}

impl BatchJson {
    /// Creates the view. On a terminal, control characters are written as JSON
    /// escapes.
    pub(super) fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self {
            out: Some(out),
            is_terminal,
            started: false,
            last_load: None,
        }
    }

    fn write(&mut self, value: &Value) {
        let Some(out) = &mut self.out else {
            return;
        };
        let mut text = value.to_string();
        if self.is_terminal {
            text = escape_controls_json(&text);
        }
        text.push('\n');
        let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if result.is_err() {
            self.out = None;
        }
    }

    fn write_job(
        &mut self,
        job: &ProgressJob<'_>,
        state: &str,
        stats: Option<&JobStats>,
        error: Option<&str>,
    ) {
        self.write(&json!({
            "kind": "job",
            "state": state,
            "number": job.number,
            "name": job.name,
            "prompt": job.prompt,
            "model": job.model,
            "input": job.input,
            "tokens": stats.map(|stats| stats.tokens),
            "tokens_per_s": stats.and_then(|stats| stats.tokens_per_s).map(round_to_thousandths),
            "seconds": stats.map(|stats| round_to_thousandths(stats.seconds)),
            "error": error,
        }));
    }
}

/// Rounds to three decimals; more digits are noise.
fn round_to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl ProgressView for BatchJson {
    fn run_started(&mut self, run: &RunProgress, _now: Instant) {
        self.started = true;
        self.write(&json!({
            "kind": "begin",
            "schema": SCHEMA,
            "total": run.total,
            "skipped": run.skipped,
        }));
    }

    fn estimate(&mut self, estimate: Option<Duration>) {
        let seconds = estimate.map(|estimate| round_to_thousandths(estimate.as_secs_f64()));
        self.write(&json!({ "kind": "left", "seconds": seconds }));
    }

    fn model_loading(&mut self, load: LoadProgress<'_>, _now: Instant) {
        // Rounded to hundredths, so that a load has at most about 100 lines.
        let progress = load
            .progress
            .map(|progress| (f64::from(progress) * 100.0).round() / 100.0);
        let value = json!({
            "kind": "loading",
            "model": load.model,
            "context": load.context,
            "progress": progress,
        });
        if self.last_load.as_ref() != Some(&value) {
            self.write(&value);
            self.last_load = Some(value);
        }
    }

    fn model_loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.last_load = None;
        self.write(&json!({
            "kind": "loaded",
            "model": model,
            "seconds": seconds.map(round_to_thousandths),
            "context": context,
        }));
    }

    fn model_unloaded(&mut self, model: &str) {
        self.last_load = None;
        self.write(&json!({ "kind": "unloaded", "model": model }));
    }

    fn job_started(&mut self, job: &ProgressJob<'_>, _now: Instant) {
        self.write_job(job, "started", None, None);
    }

    fn job_ended(
        &mut self,
        _run: &RunProgress,
        job: &ProgressJob<'_>,
        end: ProgressJobEnd<'_>,
        stats: &JobStats,
        _now: Instant,
    ) {
        let (state, error) = match end {
            ProgressJobEnd::Done => ("done", None),
            ProgressJobEnd::Failed(reason) => ("failed", Some(reason)),
            ProgressJobEnd::Stopped => ("stopped", None),
        };
        self.write_job(job, state, Some(stats), error);
    }

    fn message(&mut self, _run: &RunProgress, text: &str, is_warning: bool, _now: Instant) {
        let kind = if is_warning { "warning" } else { "status" };
        self.write(&json!({ "kind": kind, "text": text }));
    }

    fn finish(&mut self, run: &RunProgress, now: Instant) {
        if !self.started {
            return;
        }
        let seconds = now.saturating_duration_since(run.started).as_secs_f64();
        self.write(&json!({
            "kind": "end",
            "done": run.done,
            "failed": run.failed,
            "stopped": run.stopped,
            "seconds": round_to_thousandths(seconds),
        }));
    }
}
