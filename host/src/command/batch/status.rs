//! `batch status`: how far a batch has come, from its journal alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::models::{escape_for_terminal, format_count, format_table, print, print_json};
use crate::args::StatusArgs;
use crate::batch::{self, FailedRecord, JobLabels, Record};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::sink::Messages;

/// How many failures are shown.
const SHOWN: usize = 20;

#[derive(Default, Serialize)]
struct OfModel {
    jobs: usize,
    done: usize,
    failed: usize,
    left: usize,
    tokens: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    models: &'a BTreeMap<String, OfModel>,
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

/// What is known of a job in the end.
enum Last {
    Done(u64, f64),
    Failed(Box<FailedRecord>),
    Begun,
}

pub(super) fn status(args: &StatusArgs, env: &Env) -> Result<Exit, Failure> {
    let mut jobs: BTreeMap<String, (JobLabels, Last)> = BTreeMap::new();
    let mut planned: BTreeMap<String, usize> = BTreeMap::new();
    let garbage = batch::visit_records(&args.dir, |record| match record {
        Record::Run(run) => planned = run.jobs,
        Record::Start(it) => {
            jobs.entry(it.job)
                .or_insert((JobLabels::default(), Last::Begun));
        }
        Record::Done(it) => {
            let tokens = u64::from(it.completion_tokens.unwrap_or(0));
            jobs.insert(it.job, (it.labels, Last::Done(tokens, it.seconds)));
        }
        Record::Failed(it) => {
            jobs.insert(it.job.clone(), (it.labels.clone(), Last::Failed(it)));
        }
        _ => {}
    })?;
    if garbage > 0 {
        let common = &args.common;
        let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
        messages.warning(&format!(
            "{} of the journal make no sense",
            format_count(garbage, "line")
        ));
    }
    let mut models: BTreeMap<String, OfModel> = BTreeMap::new();
    for (label, count) in &planned {
        models.entry(label.clone()).or_default().jobs = *count;
    }
    let mut failures = Vec::new();
    for (name, (of, last)) in &jobs {
        let is_there = || args.dir.join(name).is_file();
        if matches!(last, Last::Begun) || (matches!(last, Last::Done(..)) && !is_there()) {
            continue;
        }
        let it = models.entry(label(of, &planned)).or_default();
        match last {
            Last::Done(tokens, seconds) => {
                it.done += 1;
                it.tokens += tokens;
                it.seconds += seconds;
            }
            Last::Failed(failed) => {
                it.failed += 1;
                failures.push(failed);
            }
            Last::Begun => {}
        }
    }
    for it in models.values_mut() {
        // More than one plan may have run here.
        it.jobs = it.jobs.max(it.done + it.failed);
        it.left = it.jobs - it.done - it.failed;
    }
    if args.json {
        let failures = failures.iter().map(|it| FailedJob {
            job: &it.job,
            model: &it.labels.model,
            prompt: &it.labels.prompt,
            exit: it.exit,
            error: &it.error,
            attempts: it.attempts,
        });
        let report = Report {
            schema: 1,
            models: &models,
            failures: failures.collect(),
        };
        print_json(&report, env)?;
        return Ok(Exit::Done);
    }
    let rows = models.iter().map(|(label, it)| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = it.tokens as f64 / it.seconds;
        vec![
            escape_for_terminal(label, env),
            it.jobs.to_string(),
            it.done.to_string(),
            it.failed.to_string(),
            it.left.to_string(),
            it.tokens.to_string(),
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
        let rows = failures.iter().take(SHOWN).map(|it| {
            let first = it.error.lines().next().unwrap_or_default();
            vec![
                escape_for_terminal(&it.job, env),
                escape_for_terminal(first, env),
            ]
        });
        text.push('\n');
        text.push_str(&format_table(&["failed", "why"], rows.collect()));
        if failures.len() > SHOWN {
            text.push_str(&format!("and {} more\n", failures.len() - SHOWN));
        }
    }
    print(&text)?;
    Ok(Exit::Done)
}

/// What the plan calls a model: one in a file by the file's name, one at two
/// engines by both.
fn label(of: &JobLabels, planned: &BTreeMap<String, usize>) -> String {
    let at_two = format!("{}@{}", of.model, of.engine);
    let stem = std::path::Path::new(&of.model).file_stem();
    let stem = stem.map(|it| it.to_string_lossy().into_owned());
    [Some(at_two), Some(of.model.clone()), stem]
        .into_iter()
        .flatten()
        .find(|it| planned.contains_key(it))
        .unwrap_or_else(|| of.model.clone())
}
