//! `batch status`: the progress of a batch, read from its journal.

use std::collections::BTreeMap;

use lmstrix::batch::{self, FailedRecord, JobLabels, Record};
use serde::Serialize;

use super::super::models::{escape_for_terminal, format_table, print, print_json};
use crate::args::StatusArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// The most failures in the table.
const FAILURES_SHOWN: usize = 20;

#[derive(Default, Serialize)]
struct ModelStatus {
    jobs: usize,
    done: usize,
    failed: usize,
    left: usize,
    tokens: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct StatusReport<'a> {
    schema: u32,
    models: &'a BTreeMap<String, ModelStatus>,
    failures: Vec<FailedJob<'a>>,
}

#[derive(Serialize)]
struct FailedJob<'a> {
    job: &'a str,
    model: &'a str,
    prompt: &'a str,
    exit: u8,
    error: &'a str,
    attempts: u32,
}

/// The last record of a job.
enum LastRecord {
    /// Tokens of the answer, and seconds.
    Done(u64, f64),
    Failed(Box<FailedRecord>),
    Started,
}

/// Runs `batch status`.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub(super) fn status(args: &StatusArgs, env: &Env) -> Result<Exit, Failure> {
    let mut jobs: BTreeMap<String, (JobLabels, LastRecord)> = BTreeMap::new();
    let mut planned: BTreeMap<String, usize> = BTreeMap::new();
    let skipped = batch::visit_records(&args.dir, |record| match record {
        Record::Run(run) => planned = run.jobs,
        Record::Start(start) => {
            jobs.entry(start.job)
                .or_insert((JobLabels::default(), LastRecord::Started));
        }
        Record::Done(done) => {
            let tokens = u64::from(done.completion_tokens.unwrap_or(0));
            let last = LastRecord::Done(tokens, done.seconds);
            jobs.insert(done.job, (done.labels, last));
        }
        Record::Failed(failed) => {
            let labels = failed.labels.clone();
            jobs.insert(failed.job.clone(), (labels, LastRecord::Failed(failed)));
        }
        _ => {}
    })?;
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    if let Some(warning) = skipped.warning(&args.dir) {
        messages.warning(&warning);
    }
    let mut models: BTreeMap<String, ModelStatus> = BTreeMap::new();
    for (label, jobs) in &planned {
        models.entry(label.clone()).or_default().jobs = *jobs;
    }
    let mut failures = Vec::new();
    for (name, (labels, last)) in &jobs {
        let has_file = || args.dir.join(name).is_file();
        if matches!(last, LastRecord::Started)
            || (matches!(last, LastRecord::Done(..)) && !has_file())
        {
            continue;
        }
        let model = models.entry(label(labels, &planned)).or_default();
        match last {
            LastRecord::Done(tokens, seconds) => {
                model.done += 1;
                model.tokens += tokens;
                model.seconds += seconds;
            }
            LastRecord::Failed(failed) => {
                model.failed += 1;
                failures.push(failed);
            }
            LastRecord::Started => {}
        }
    }
    for model in models.values_mut() {
        // Several plans may have run in this folder.
        model.jobs = model.jobs.max(model.done + model.failed);
        model.left = model.jobs - model.done - model.failed;
    }
    if args.json {
        let failures = failures.iter().map(|failed| FailedJob {
            job: &failed.job,
            model: &failed.labels.model,
            prompt: &failed.labels.prompt,
            exit: failed.exit,
            error: &failed.error,
            attempts: failed.attempts,
        });
        let report = StatusReport {
            schema: 1,
            models: &models,
            failures: failures.collect(),
        };
        print_json(&report, env)?;
        return Ok(Exit::Done);
    }
    let rows = models.iter().map(|(label, model)| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = model.tokens as f64 / model.seconds;
        vec![
            escape_for_terminal(label, env),
            model.jobs.to_string(),
            model.done.to_string(),
            model.failed.to_string(),
            model.left.to_string(),
            model.tokens.to_string(),
            if rate.is_finite() {
                format!("{rate:.1}")
            } else {
                "-".to_owned()
            },
        ]
    });
    let head = [
        "model", "jobs", "done", "failed", "left", "tokens", "tokens/s",
    ];
    let mut text = format_table(&head, rows.collect());
    if !failures.is_empty() {
        let rows = failures.iter().take(FAILURES_SHOWN).map(|failed| {
            let first = failed.error.lines().next().unwrap_or_default();
            vec![
                escape_for_terminal(&failed.job, env),
                escape_for_terminal(first, env),
            ]
        });
        text.push('\n');
        text.push_str(&format_table(&["failed", "why"], rows.collect()));
        if failures.len() > FAILURES_SHOWN {
            text.push_str(&format!("and {} more\n", failures.len() - FAILURES_SHOWN));
        }
    }
    print(&text)?;
    Ok(Exit::Done)
}

/// Returns the plan's label of a model: a model in a file is named by the file, a model
/// that two engines have by name and engine.
fn label(labels: &JobLabels, planned: &BTreeMap<String, usize>) -> String {
    let with_engine = format!("{}@{}", labels.model, labels.engine);
    let stem = std::path::Path::new(&labels.model).file_stem();
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
    [Some(with_engine), Some(labels.model.clone()), stem]
        .into_iter()
        .flatten()
        .find(|label| planned.contains_key(label))
        .unwrap_or_else(|| labels.model.clone())
}
