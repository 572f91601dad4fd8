//! `batch status`: how far a batch has come, from its journal alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::models::{print, print_json, shown, table};
use crate::args::Status;
use crate::batch::{self, Failed, Record};
use crate::environment::Env;
use crate::error::{Exit, Failure};

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
    Failed(Box<Failed>),
    Begun,
}

pub(super) fn status(args: &Status, env: &Env) -> Result<Exit, Failure> {
    let mut jobs: BTreeMap<String, (String, Last)> = BTreeMap::new();
    let mut planned: BTreeMap<String, usize> = BTreeMap::new();
    batch::visit(&args.dir, |record| match record {
        Record::Run(run) => planned = run.jobs,
        Record::Start(it) => {
            jobs.entry(it.job).or_insert((String::new(), Last::Begun));
        }
        Record::Done(it) => {
            let tokens = u64::from(it.completion_tokens.unwrap_or(0));
            jobs.insert(it.job, (it.of.model, Last::Done(tokens, it.seconds)));
        }
        Record::Failed(it) => {
            jobs.insert(it.job.clone(), (it.of.model.clone(), Last::Failed(it)));
        }
        _ => {}
    })?;
    let mut models: BTreeMap<String, OfModel> = BTreeMap::new();
    for (label, count) in &planned {
        models.entry(label.clone()).or_default().jobs = *count;
    }
    let mut failures = Vec::new();
    for (model, last) in jobs.values() {
        if matches!(last, Last::Begun) {
            continue;
        }
        // A model in a file is called by its stem, one at two engines by both.
        let label = planned.keys().find(|it| {
            *it == model
                || it.starts_with(&format!("{model}@"))
                || model.ends_with(&format!("/{it}.gguf"))
        });
        let it = models.entry(label.unwrap_or(model).clone()).or_default();
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
        it.left = it.jobs.saturating_sub(it.done + it.failed);
    }
    if args.json {
        let failures = failures.iter().map(|it| FailedJob {
            job: &it.job,
            model: &it.of.model,
            prompt: &it.of.prompt,
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
            shown(label, env),
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
    let mut text = table(&head, rows.collect());
    if !failures.is_empty() {
        let rows = failures.iter().take(SHOWN).map(|it| {
            let first = it.error.lines().next().unwrap_or_default();
            vec![shown(&it.job, env), shown(first, env)]
        });
        text.push('\n');
        text.push_str(&table(&["failed", "why"], rows.collect()));
        if failures.len() > SHOWN {
            text.push_str(&format!("and {} more\n", failures.len() - SHOWN));
        }
    }
    print(&text)?;
    Ok(Exit::Done)
}
