//! The summary of a run: a table with a row for each model, and the exit code.

use std::path::Path;

use lmstrix::batch::{BatchSummary, RunStop};
use lmstrix::quantity::count;

use super::super::models::{escape_for_terminal, format_table, print};
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Prints the table to stdout; nothing if there was nothing to run.
pub(super) fn show(summary: &BatchSummary, env: &Env) -> Result<(), Failure> {
    if summary.jobs == 0 {
        return Ok(());
    }
    let rows = summary.models.iter().map(|(label, totals)| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = totals.tokens as f64 / totals.seconds;
        vec![
            escape_for_terminal(label, env),
            totals.done.to_string(),
            totals.failed.to_string(),
            totals.left.to_string(),
            totals.tokens.to_string(),
            if rate.is_finite() {
                format!("{rate:.1}")
            } else {
                "-".to_owned()
            },
            if totals.loads > 0 {
                format!("{:.1} s", totals.load_s)
            } else {
                "-".to_owned()
            },
            totals.aside.as_ref().map_or("", |_| "set aside").to_owned(),
        ]
    });
    let head = [
        "model", "done", "failed", "left", "tokens", "tokens/s", "loading", "",
    ];
    print(&format_table(&head, rows.collect()))
}

/// Returns how the command ends.
///
/// # Errors
/// Returns an error if jobs failed or the run was interrupted.
pub(super) fn exit(summary: BatchSummary, out: &Path) -> Result<Exit, Failure> {
    let (done, failed) = (summary.done(), summary.failed());
    let left = summary.jobs.saturating_sub(done + failed);
    let out = out.display();
    match summary.stop {
        Some(RunStop::Interrupted) => Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted; {done} done, {left} left"),
        )
        .hint("run the same command to continue")),
        Some(RunStop::Failures) => Err(Failure::new(
            Exit::Broken,
            format!(
                "stopped early: {} failed; {left} left",
                count(failed, "job")
            ),
        )
        .hint(format!(
            "`batch status {out}` shows why; run the same command to continue"
        ))),
        Some(RunStop::Fatal(error)) => Err(error.into()),
        None if failed > 0 => Err(Failure::new(
            Exit::Broken,
            format!("{failed} of {} failed", count(summary.jobs, "job")),
        )
        .hint(format!(
            "`batch status {out}` shows why, `batch retry {out}` runs them again"
        ))),
        None => Ok(Exit::Done),
    }
}
