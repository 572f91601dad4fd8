//! What came of a run: a table per model, and the exit code.

use std::path::Path;

use super::super::models::{count, print, shown, table};
use super::run::Stop;
use super::stuff::Stuff;
use super::tell::Totals;
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Why a run ended early, for the journal.
pub(super) fn why(stop: &Stop) -> &str {
    match stop {
        Stop::Interrupted => "interrupted",
        Stop::Failures => "too many failures",
        Stop::Fatal(failure) => &failure.message,
    }
}

/// The table on stdout; nothing when nothing was to be run.
pub(super) fn show(
    stuff: &Stuff,
    totals: &[Totals],
    to_run: usize,
    env: &Env,
) -> Result<(), Failure> {
    if to_run == 0 {
        return Ok(());
    }
    let rows = stuff.models.iter().zip(totals).map(|(model, it)| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = it.tokens as f64 / it.seconds;
        let left = it.left();
        vec![
            shown(&model.label, env),
            it.done.to_string(),
            it.failed.to_string(),
            left.to_string(),
            it.tokens.to_string(),
            if rate.is_finite() {
                format!("{rate:.1}")
            } else {
                "-".to_owned()
            },
            if it.loads > 0 {
                format!("{:.1} s", it.load_s)
            } else {
                "-".to_owned()
            },
            it.aside.as_ref().map_or("", |_| "set aside").to_owned(),
        ]
    });
    let head = [
        "model", "done", "failed", "left", "tokens", "tokens/s", "loading", "",
    ];
    print(&table(&head, rows.collect()))
}

/// How the command ends.
pub(super) fn exit(
    stop: Option<&Stop>,
    done: usize,
    failed: usize,
    to_run: usize,
    out: &Path,
) -> Result<Exit, Failure> {
    let left = to_run.saturating_sub(done + failed);
    let out = out.display();
    match stop {
        Some(Stop::Interrupted) => Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted; {done} done, {left} left"),
        )
        .hint("the same command goes on")),
        Some(Stop::Failures) => Err(Failure::new(
            Exit::Broken,
            format!(
                "ended early, since {} failed; {left} left",
                count(failed, "job")
            ),
        )
        .hint(format!(
            "`batch status {out}` shows why; the same command goes on"
        ))),
        Some(Stop::Fatal(failure)) => Err(Failure::new(failure.exit, failure.message.clone())),
        None if failed > 0 => Err(Failure::new(
            Exit::Broken,
            format!("{failed} of {} failed", count(to_run, "job")),
        )
        .hint(format!(
            "`batch status {out}` shows why, `batch retry {out}` runs them again"
        ))),
        None => Ok(Exit::Done),
    }
}
