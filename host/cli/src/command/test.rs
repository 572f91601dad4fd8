//! `test`: finds the largest context length that works in practice.

mod messages;

use std::time::Duration;

use lmstrix::client::{self, LoadPolicy};
use lmstrix::context_probe::{
    ModelFilter, ProbeError, ProbeOptions, ProbeOutcome, ProbeReport, ProbedModel, model_queries,
    probe_model,
};
use lmstrix::engine::{ModelQuery, display_model};
use lmstrix::job::{Cancel, ModelReference};
use lmstrix::registry::TestLevel;
use serde::Serialize;

use super::models::{
    CommandSetup, command_setup, escape_for_terminal, format_table, print, print_json,
};
use crate::args::TestArgs;
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use messages::{MessageObserver, lowered_text};

/// Time limit of a probe without `--probe-timeout`.
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Output of `test --json`.
#[derive(Serialize)]
struct TestReport<'a> {
    schema: u32,
    results: Vec<ModelReport<'a>>,
}

/// One model of a [`TestReport`].
#[derive(Serialize)]
struct ModelReport<'a> {
    model: &'a str,
    engine: &'a str,
    level: TestLevel,
    context: Option<u32>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    probes: Vec<JsonProbe>,
}

/// One probe of a [`ModelReport`].
#[derive(Serialize)]
struct JsonProbe {
    context: u32,
    level: TestLevel,
    outcome: &'static str,
    text: String,
    prompt_tokens: Option<u32>,
    seconds: f64,
}

/// The result of one model of several.
enum TestedModel {
    Probed(ProbedModel),
    /// The model could not be probed.
    Failed {
        model: String,
        message: String,
    },
}

/// Runs `test`.
///
/// # Errors
/// Returns an error if a flag is invalid, the model is not found, the engine is
/// unreachable, or a model passes with no context length.
pub(crate) async fn test(
    args: TestArgs,
    env: &Env,
    mut interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let messages = setup.messages;
    if args.prompt.is_some() || args.file_prompt.is_some() || args.fast {
        messages.warning(
            "--prompt, --file_prompt and --fast have no effect: `test` uses its own prompts",
        );
    }
    let options = probe_options(&args);
    let queries = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        queries = queries(&args, &setup, env) => queries?,
    };
    let store = client::registry_store(env);
    let observer = MessageObserver(messages);
    let has_several = queries.len() > 1;
    let mut results = Vec::new();
    for query in queries {
        let model = query.model.clone().unwrap_or_default();
        let probing = probe_model(query, &options, &store, &observer, interrupt.as_mut());
        results.push(match probing.await {
            Ok(result) => TestedModel::Probed(result),
            Err(error) if has_several && !matches!(error, ProbeError::Cancelled) => {
                let message = failure(error).message;
                messages.error(&format!("{model}: {message}"));
                TestedModel::Failed { model, message }
            }
            Err(error) => return Err(failure(error)),
        });
    }
    finish(&args, &results, options.level, env)
}

/// Returns the options that the arguments select.
fn probe_options(args: &TestArgs) -> ProbeOptions {
    let timeout = args
        .probe_timeout
        .map_or(Some(DEFAULT_PROBE_TIMEOUT), |limit| limit.0);
    ProbeOptions {
        level: args.level,
        context: args.context,
        max_context: args.max_context,
        timeout,
        reset: args.reset,
        dry_run: args.dry_run,
        force: args.force,
    }
}

/// Returns the query of each model to test.
async fn queries(
    args: &TestArgs,
    setup: &CommandSetup,
    env: &Env,
) -> Result<Vec<ModelQuery>, Failure> {
    let policy = LoadPolicy {
        force: args.force,
        ..LoadPolicy::default()
    };
    let reference = ModelReference {
        model: args.model.clone(),
        engine: args.engines.engine.clone(),
        context: None,
    };
    let timeouts = setup.connect_timeouts;
    let notices = notices(setup.messages);
    let query = client::model_query(&reference, policy, env, &setup.config, timeouts, &notices)?;
    if !args.all {
        return Ok(vec![query]);
    }
    let (sort_by, is_reversed) = args.sort;
    let keywords = args.key.iter().flat_map(|list| list.split(','));
    let filter = ModelFilter {
        keywords: keywords.map(|keyword| keyword.trim().to_owned()).collect(),
        sort_by,
        is_reversed,
    };
    let folders = client::selected_folders(env, &setup.selection);
    let catalog = setup
        .catalog(&setup.selection, &folders, env, &mut |_| {})
        .await;
    let registry = client::read_registry(env, &notices);
    model_queries(&query, catalog, &registry, &filter).map_err(failure)
}

/// Prints the results, and returns the exit code.
fn finish(
    args: &TestArgs,
    results: &[TestedModel],
    level: TestLevel,
    env: &Env,
) -> Result<Exit, Failure> {
    let results: Vec<ModelReport<'_>> = results
        .iter()
        .map(|result| model_report(result, level))
        .collect();
    let failed: Vec<&str> = results
        .iter()
        .filter(|result| result.context.is_none() && !args.dry_run)
        .map(|result| result.model)
        .collect();
    let outcome = match failed.as_slice() {
        [] => Ok(Exit::Done),
        [model] if results.len() == 1 => Err(Failure::new(
            Exit::Model,
            format!("`{model}` passed with no context length"),
        )
        .hint("-v prints more; `--level accepts` requires less")),
        models => Err(Failure::new(
            Exit::Broken,
            format!(
                "{} models passed with no context length: {}",
                models.len(),
                models.join(", ")
            ),
        )),
    };
    if args.json {
        print_json(&TestReport { schema: 1, results }, env)?;
    } else if !args.dry_run {
        print(&results_table(&results, env))?;
    }
    outcome
}

fn results_table(results: &[ModelReport<'_>], env: &Env) -> String {
    let rows = results.iter().map(|result| {
        vec![
            escape_for_terminal(display_model(result.model), env),
            result
                .context
                .map_or_else(|| "-".to_owned(), |context| context.to_string()),
            result.level.as_str().to_owned(),
            if result.complete { "" } else { "incomplete" }.to_owned(),
        ]
    });
    format_table(&["model", "context", "level", ""], rows.collect())
}

/// Converts a result to its JSON form. `level` is the requested one.
fn model_report(result: &TestedModel, level: TestLevel) -> ModelReport<'_> {
    match result {
        TestedModel::Probed(result) => ModelReport {
            model: &result.model,
            engine: &result.engine,
            level: result.level,
            context: result.context,
            complete: result.complete,
            note: result
                .lowered
                .as_ref()
                .map(|lowered| lowered_text(&result.model, lowered)),
            error: None,
            probes: result.probes.iter().map(json_probe).collect(),
        },
        TestedModel::Failed { model, message } => ModelReport {
            model,
            engine: "",
            level,
            context: None,
            complete: false,
            note: None,
            error: Some(message),
            probes: Vec::new(),
        },
    }
}

fn json_probe(probe: &ProbeReport) -> JsonProbe {
    JsonProbe {
        context: probe.context,
        level: probe.level,
        outcome: match probe.outcome {
            ProbeOutcome::Passed => "works",
            ProbeOutcome::NotLoaded(_) => "did-not-load",
            ProbeOutcome::LoadedWithLess(_) => "loaded-with-less",
            ProbeOutcome::Refused(_) => "refused",
            ProbeOutcome::WrongAnswer(_) => "wrong-answer",
            ProbeOutcome::TimedOut(_) => "timed-out",
        },
        text: probe.outcome.to_string(),
        prompt_tokens: probe.prompt_tokens,
        seconds: probe.elapsed.as_secs_f64(),
    }
}

/// Converts an error to its exit code, message and hints.
fn failure(error: ProbeError) -> Failure {
    let message = error.to_string();
    match error {
        ProbeError::Engine(error) => error.into(),
        ProbeError::Registry(error) => error.into(),
        ProbeError::UnknownContext { .. } => {
            Failure::usage(message).hint("set an upper limit with `--max-context N`")
        }
        ProbeError::ContextTooLarge {
            model,
            requested,
            declared,
        } => Failure::usage(format!(
            "--context {requested} is more than the {declared} tokens that `{model}` declares"
        ))
        .hint("test it anyway with `--force`"),
        ProbeError::FailedEarlier { .. } => Failure::new(Exit::Model, message)
            .hint("probe it anyway with `--force`, or clear the result with `reset`"),
        ProbeError::Cancelled => Failure::interrupted(),
    }
}
