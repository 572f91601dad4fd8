//! Batch progress for programs: one JSON object per line of stdout, with a `kind`. All
//! events are written except those for every token.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use lmstrix::batch::{BatchEvent, JobEnd, JobInfo};
use lmstrix::sink::escape_controls_json;
use serde_json::{Value, json};

use super::format;
use super::view::{BatchView, RunCounts, write_line};

/// The schema version of all lines. New fields do not change it.
const SCHEMA: u32 = 1;

/// The first error of a write to stdout. A closed pipe is not an error.
pub(crate) type WriteError = Arc<OnceLock<std::io::Error>>;

/// Writes batch progress as JSON lines.
pub(super) struct JsonView {
    /// `None` after a write has failed, for example because the reader closed the pipe.
    out: Option<Box<dyn Write + Send>>,
    write_error: WriteError,
    is_terminal: bool,
    /// The last written `loading` line; servers report the same progress more than once.
    last_load: Option<Value>,
}

impl JsonView {
    /// Creates the view. On a terminal, control characters are written as JSON escapes.
    pub(super) fn new(
        out: Box<dyn Write + Send>,
        is_terminal: bool,
        write_error: WriteError,
    ) -> Self {
        Self {
            out: Some(out),
            write_error,
            is_terminal,
            last_load: None,
        }
    }
}

impl BatchView for JsonView {
    fn event(&mut self, run: &RunCounts, event: BatchEvent<'_>, now: Instant) {
        let Some(line) = line(run, event, now) else {
            return;
        };
        match event {
            BatchEvent::ModelLoading { .. } => {
                if self.last_load.as_ref() == Some(&line) {
                    return;
                }
                self.last_load = Some(line.clone());
            }
            BatchEvent::ModelLoaded { .. } | BatchEvent::ModelUnloaded { .. } => {
                self.last_load = None;
            }
            _ => {}
        }
        let mut text = line.to_string();
        if self.is_terminal {
            text = escape_controls_json(&text);
        }
        if let Some(out) = &mut self.out
            && let Err(error) = write_line(out.as_mut(), &text)
        {
            self.out = None;
            if error.kind() != ErrorKind::BrokenPipe {
                let _first = self.write_error.set(error);
            }
        }
    }
}

/// Returns the line of an event, if it has one.
fn line(run: &RunCounts, event: BatchEvent<'_>, now: Instant) -> Option<Value> {
    Some(match event {
        BatchEvent::RunStarted { jobs, skipped } => json!({
            "kind": "begin",
            "schema": SCHEMA,
            "total": jobs,
            "skipped": skipped,
        }),
        BatchEvent::TimeLeft(estimate) => json!({
            "kind": "left",
            "seconds": estimate.map(|estimate| round(estimate.as_secs_f64())),
        }),
        BatchEvent::ModelLoading {
            model,
            context,
            progress,
        } => json!({
            "kind": "loading",
            "model": model,
            "context": context,
            // Hundredths, so that a load has at most about 100 lines.
            "progress": progress.map(|progress| (f64::from(progress) * 100.0).round() / 100.0),
        }),
        BatchEvent::ModelLoaded {
            model,
            seconds,
            context,
        } => json!({
            "kind": "loaded",
            "model": model,
            "seconds": round(seconds),
            "context": context,
        }),
        BatchEvent::ModelUnloaded { model } => json!({ "kind": "unloaded", "model": model }),
        BatchEvent::JobStarted(job) => job_line(job, "started", None, None),
        BatchEvent::JobFinished {
            job,
            end,
            tokens,
            seconds,
        } => {
            let (state, error) = match end {
                JobEnd::Done => ("done", None),
                JobEnd::Failed(reason) => ("failed", Some(reason)),
                JobEnd::Stopped => ("stopped", None),
            };
            job_line(job, state, Some((tokens, seconds)), error)
        }
        BatchEvent::Warning(text) => json!({ "kind": "warning", "text": text }),
        BatchEvent::Status(text) => json!({ "kind": "status", "text": text }),
        BatchEvent::RunEnded => json!({
            "kind": "end",
            "done": run.done,
            "failed": run.failed,
            "stopped": run.stopped,
            "seconds": round(run.elapsed(now).as_secs_f64()),
        }),
        BatchEvent::JobQueued(_) | BatchEvent::JobProgressed { .. } | BatchEvent::Tick => {
            return None;
        }
    })
}

/// `counts` are the tokens and seconds of a job that ended.
fn job_line(job: &JobInfo, state: &str, counts: Option<(u32, f64)>, error: Option<&str>) -> Value {
    let rate = counts.and_then(|(tokens, seconds)| format::tokens_per_s(tokens, seconds));
    json!({
        "kind": "job",
        "state": state,
        "number": job.number,
        "name": job.name,
        "prompt": job.prompt,
        "model": job.model,
        "input": job.input,
        "tokens": counts.map(|(tokens, _)| tokens),
        "tokens_per_s": rate.map(round),
        "seconds": counts.map(|(_, seconds)| round(seconds)),
        "error": error,
    })
}

/// Rounds to three decimals; more digits are noise.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
