//! `--dry-run`: jobs, loads, contexts, time, disk, and what is left alone.

use std::path::Path;

use super::super::models::{count, print, shown, span, table};
use super::before::ModelContext;
use super::intent::Manner;
use super::planning::Planning;
use super::stuff::Stuff;
use crate::batch::{Decision, Reason, remaining};
use crate::engine::{EMBEDDED, gigabytes};
use crate::environment::Env;
use crate::error::{Exit, Failure};

/// Bytes of an answer's token, about.
const TOKEN_BYTES: u64 = 4;
/// The answer that is thought of, where nobody limited it.
const ANSWER_TOKENS: u64 = 500;

pub(super) fn show(
    stuff: &Stuff,
    planning: &Planning,
    contexts: &[ModelContext],
    manner: &Manner,
    out: &Path,
    env: &Env,
) -> Result<Exit, Failure> {
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut whole = std::time::Duration::ZERO;
    let mut unknown = 0;
    let mut to_run = 0;
    let mut disk = 0;
    for (index, (model, context)) in stuff.models.iter().zip(contexts).enumerate() {
        let loads = matches!(
            model.kind,
            EMBEDDED | "lmstudio" | "ollama" | "llama-router"
        );
        let own = || planning.jobs.iter().filter(|it| it.cell.model == index);
        let run = own().filter(|it| it.runs()).count();
        to_run += run;
        let tokens: u64 = own()
            .filter(|it| it.runs())
            .map(|it| u64::from(it.need.prompt))
            .sum();
        let at_once = manner.jobs.or(model.jobs).unwrap_or(1);
        let limit = own().filter_map(|it| it.need.limit).max();
        let time = remaining(model.speed, run, tokens, limit, at_once, model.is_loaded());
        disk +=
            run as u64 * limit.map_or(ANSWER_TOKENS, u64::from).min(ANSWER_TOKENS) * TOKEN_BYTES;
        match time {
            Some(time) => whole = whole.saturating_add(time),
            None => unknown += 1,
        }
        rows.push(vec![
            shown(&model.label, env),
            model.place.clone(),
            run.to_string(),
            (own().count() - run).to_string(),
            // Others are loaded with what they were started with.
            context
                .tokens
                .filter(|_| loads)
                .map_or_else(|| "-".to_owned(), |it| it.to_string()),
            if run == 0 || !loads {
                "no"
            } else if model.is_loaded() {
                "is loaded"
            } else {
                "yes"
            }
            .to_owned(),
            time.map_or_else(|| "unknown".to_owned(), span),
        ]);
    }
    let head = [
        "model", "engine", "to run", "skipped", "context", "load", "time",
    ];
    text.push_str(&table(&head, rows));
    text.push('\n');
    let is_too_long = |model: usize, prompt: u32| {
        let context = contexts.get(model).and_then(|it| it.tokens);
        context.is_some_and(|it| prompt >= it)
    };
    let mut rows = Vec::new();
    let mut jobs: Vec<_> = planning.jobs.iter().collect();
    // As they will run.
    jobs.sort_by_key(|it| (it.cell.model, it.prompt_bytes));
    for job in jobs {
        let what = match &job.decision {
            Decision::Run { .. } if is_too_long(job.cell.model, job.need.prompt) => {
                "run, though it will hardly fit the context"
            }
            Decision::Run { why, .. } => match why {
                Reason::New => "run",
                Reason::Unfinished => "run: it was not finished",
                Reason::Failed => "run: it failed",
                Reason::Gone => "run: its file has gone",
                Reason::Altered => "run: its file is empty or was changed",
                Reason::Changed => "run: it is another job now",
            },
            Decision::Skip => "skip: done",
            Decision::Adopt(..) => "its answer is complete",
            Decision::KeepChanged => "skip: done, though it is another job now",
            Decision::KeepAltered => "skip: done, though its file was changed",
            Decision::Foreign => "skip: a file is there that no run wrote",
        };
        let tokens = match job.need.prompt {
            0 => "-".to_owned(),
            tokens => format!("~{tokens}"),
        };
        rows.push(vec![shown(&job.name, env), tokens, what.to_owned()]);
    }
    text.push_str(&table(&["job", "prompt tokens", "what"], rows));
    let time = match (unknown, whole.is_zero()) {
        (0, _) => format!("about {}", span(whole)),
        (_, true) => "an unknown time".to_owned(),
        (count_unknown, false) => format!(
            "about {}, and an unknown time for {}",
            span(whole),
            count(count_unknown, "model")
        ),
    };
    text.push_str(&format!(
        "\n{} in {}: {}, and about {} of disk\n",
        count(to_run, "job"),
        out.display(),
        time,
        gigabytes(disk),
    ));
    if planning.elsewhere > 0 {
        text.push_str(&format!(
            "{} jobs are other parts' (--shard)\n",
            planning.elsewhere
        ));
    }
    print(&text)?;
    Ok(Exit::Done)
}
