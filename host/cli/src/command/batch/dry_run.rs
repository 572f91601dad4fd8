//! `--dry-run`: jobs, loads, contexts, time, disk space, and what stays as it is.

use std::time::Duration;

use lmstrix::batch::{PlannedJob, PreparedBatch, ResumeDecision, RunReason, estimate_remaining};
use lmstrix::engine::{EMBEDDED, LLAMA_CPP, format_bytes};
use lmstrix::quantity::count;

use super::super::models::{escape_for_terminal, format_duration, format_table, print};
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Bytes of one token of an answer, roughly.
const TOKEN_BYTES: u64 = 4;
/// Tokens of an answer without a limit, roughly.
const ANSWER_TOKENS: u64 = 500;

/// Totals of all models.
#[derive(Default)]
struct Total {
    jobs: usize,
    time: Duration,
    /// Models whose speed is unknown.
    unknown: usize,
    disk_bytes: u64,
}

/// Prints what a run would do.
///
/// # Errors
/// Returns an error if stdout cannot be written, or if the packs of some jobs fail.
pub(super) fn show(batch: &PreparedBatch<'_>, env: &Env) -> Result<Exit, Failure> {
    let mut total = Total::default();
    let mut text = model_table(batch, env, &mut total);
    text.push('\n');
    text.push_str(&job_table(batch, env));
    let time = match (total.unknown, total.time.is_zero()) {
        (0, _) => format!("about {}", format_duration(total.time)),
        (_, true) => "an unknown time".to_owned(),
        (unknown, false) => format!(
            "about {}, and an unknown time for {}",
            format_duration(total.time),
            count(unknown, "model")
        ),
    };
    text.push_str(&format!(
        "\n{} in {}: {}, and about {} of disk\n",
        count(total.jobs, "job"),
        batch.setup().out.display(),
        time,
        format_bytes(total.disk_bytes),
    ));
    if batch.jobs_elsewhere() > 0 {
        text.push_str(&format!(
            "{} belong to other parts (--shard)\n",
            count(batch.jobs_elsewhere(), "job")
        ));
    }
    print(&text)?;
    let is_failing = |job: &&PlannedJob| job.runs() && job.failure.is_some();
    match batch.jobs().iter().filter(is_failing).count() {
        0 => Ok(Exit::Done),
        failing => Err(Failure::new(
            Exit::Broken,
            format!(
                "the packs of {} of {} fail",
                failing,
                count(total.jobs, "job")
            ),
        )),
    }
}

fn model_table(batch: &PreparedBatch<'_>, env: &Env, total: &mut Total) -> String {
    let mut rows = Vec::new();
    for (index, (model, context)) in batch.models().iter().zip(batch.contexts()).enumerate() {
        // Other engines load a model with what they were started with.
        let loads = matches!(
            model.kind,
            EMBEDDED | LLAMA_CPP | "lmstudio" | "ollama" | "llama-router"
        );
        let jobs: Vec<&PlannedJob> = batch
            .jobs()
            .iter()
            .filter(|job| job.coordinates.model == index)
            .collect();
        let runs: Vec<&&PlannedJob> = jobs.iter().filter(|job| job.runs()).collect();
        let prompt_tokens: u64 = runs.iter().map(|job| u64::from(job.need.prompt)).sum();
        let at_once = batch.setup().options.jobs.or(model.jobs).unwrap_or(1);
        let limit = jobs.iter().filter_map(|job| job.need.limit).max();
        let time = estimate_remaining(
            model.speed,
            runs.len(),
            prompt_tokens,
            limit,
            at_once,
            model.is_loaded(),
        );
        total.jobs += runs.len();
        let answer_tokens = limit.map_or(ANSWER_TOKENS, u64::from).min(ANSWER_TOKENS);
        total.disk_bytes += runs.len() as u64 * answer_tokens * TOKEN_BYTES;
        match time {
            Some(time) => total.time = total.time.saturating_add(time),
            None => total.unknown += 1,
        }
        let load = if runs.is_empty() || !loads {
            "no"
        } else if model.is_loaded() {
            "is loaded"
        } else {
            "yes"
        };
        rows.push(vec![
            escape_for_terminal(&model.label, env),
            model.place.clone(),
            runs.len().to_string(),
            (jobs.len() - runs.len()).to_string(),
            context
                .tokens
                .filter(|_| loads)
                .map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
            load.to_owned(),
            time.map_or_else(|| "unknown".to_owned(), format_duration),
        ]);
    }
    let head = [
        "model", "engine", "to run", "skipped", "context", "load", "time",
    ];
    format_table(&head, rows)
}

fn job_table(batch: &PreparedBatch<'_>, env: &Env) -> String {
    let mut jobs: Vec<&PlannedJob> = batch.jobs().iter().collect();
    // In the order in which they run.
    jobs.sort_by_key(|job| (job.coordinates.model, job.prompt_bytes));
    let rows = jobs.into_iter().map(|job| {
        let context = batch
            .contexts()
            .get(job.coordinates.model)
            .and_then(|context| context.tokens);
        let is_too_long = context.is_some_and(|context| job.need.prompt >= context);
        let tokens = match job.need.prompt {
            0 => "-".to_owned(),
            tokens => format!("~{tokens}"),
        };
        let decision = match (&job.failure, job.runs()) {
            (Some(failure), true) => format!("fail: {}", escape_for_terminal(failure, env)),
            _ => described(&job.decision, is_too_long).to_owned(),
        };
        vec![escape_for_terminal(&job.name, env), tokens, decision]
    });
    format_table(&["job", "prompt tokens", "what"], rows.collect())
}

fn described(decision: &ResumeDecision, is_too_long: bool) -> &'static str {
    match decision {
        ResumeDecision::Run(_) if is_too_long => "run, though it may not fit the context",
        ResumeDecision::Run(reason) => match reason {
            RunReason::New => "run",
            RunReason::Unfinished => "run: it was not finished",
            RunReason::Failed => "run: it failed",
            RunReason::Missing => "run: its file is missing",
            RunReason::Modified => "run: its file is empty or was changed",
            RunReason::Changed => "run: its prompt, pack, setting or input has changed",
        },
        ResumeDecision::Skip => "skip: done",
        ResumeDecision::Adopt(..) => "adopt: its answer is complete",
        ResumeDecision::KeepChanged => "skip: done, though the job has changed since",
        ResumeDecision::KeepModified => "skip: done, though its file was changed",
        ResumeDecision::Foreign => "skip: a file exists that no run wrote",
    }
}
