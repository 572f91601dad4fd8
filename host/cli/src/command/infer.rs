//! `infer`: one prompt, one model, one answer.

mod kept_answer;
mod shown_request;

use std::path::Path;
use std::time::{Duration, Instant};

use lmstrix::Error;
use lmstrix::client::{
    self, Notices, OpenContext, Request, RunLimit, registry_store, warn_about_unknown_variables,
};
use lmstrix::engine::{UnloadResult, Unloader};
use lmstrix::error_chain::error_chain;
use lmstrix::job::{
    Cancel, Cancellation, End, Outcome, RunContext, Sinks, Warning, announce, load_for, run,
};
use lmstrix::sink::{self, AnswerFile, Events, Sink, Stdout, escape_controls_json};

use super::resolve_args::{self, model_reference, timeout_options};
use crate::args::{CommonArgs, InferArgs, OutputArgs, ReasoningTags};
use crate::command::notices;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::report::{self, Report};
use crate::ui::{InferProgress, Messages, Warnings};
use kept_answer::keep;

/// Shown once when the demo model answers.
const DEMO_NOTICE: &str = "the answer comes from the built-in demo model, a toy that repeats a text's \
     first sentence; -m FILE.gguf runs a real model";

/// Runs `infer`.
///
/// # Errors
/// Returns an error if there is no complete answer.
pub(crate) async fn infer(
    args: InferArgs,
    env: &Env,
    mut cancel: Cancel<'_>,
) -> Result<Exit, Failure> {
    let start = Instant::now();
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    let notices = notices(messages);
    warn_about_unknown_variables(env, &notices);
    let config = resolve_args::config(&args.common, env)?;
    let timeouts = timeout_options(&args.timeouts);
    let limit = RunLimit {
        limit: client::timeouts(&timeouts, env, &config)?.0.total,
        start,
    };
    let request = Request {
        timeouts,
        ..request_from_args(&args, &notices, limit, cancel.as_mut()).await?
    };
    let output = &args.output;
    let packs = client::pack_source(env, &config, &notices)?;
    let opened_with = OpenContext {
        env,
        config: &config,
        packs: &packs,
        reads_stdin: env.stdin_has_text,
        notices: &notices,
        start,
    };
    let opening = client::open(&request, opened_with, cancel.as_mut());
    let (model, mut job) = opening.await?;
    for warning in &job.warnings {
        messages.warning(&warning.to_string());
    }
    let mut file = open_output(output, cancel.as_mut()).await?;
    if model.is_demo {
        messages.status(DEMO_NOTICE);
    }
    let requested_context = model.requested_context();
    let mut stdout = stdout_sink(output, env, file.is_some());
    let mut progress = progress_sink(&args.common, env, output, file.is_some());
    let mut shown_warnings = Warnings::new(messages, args.prompt.show_pack_output);
    let mut unloader = None;
    let store = registry_store(env);
    if let (Some(stdout), true) = (&mut stdout, output.events) {
        announce(&job.warnings, &mut vec![stdout.as_mut()]);
    }
    let mut context = RunContext {
        statistics: Some(&store),
        start,
        load_s: None,
    };
    let mut outcome = {
        let mut sinks: Sinks<'_> = Vec::new();
        // The file comes first: it takes the raw answer before anything else can fail.
        if let Some(file) = &mut file {
            sinks.push(file);
        }
        if let Some(progress) = &mut progress {
            sinks.push(progress);
        }
        if let Some(stdout) = &mut stdout {
            sinks.push(stdout.as_mut());
        }
        // After the sinks that draw and print: they make room for warnings.
        sinks.push(&mut shown_warnings);
        let loading = load_for(&mut job, model, &mut sinks, cancel.as_mut(), context);
        match loading.await {
            Ok(instance) => {
                unloader = Some(instance.unloader());
                if output.show_request {
                    sinks.iter_mut().for_each(|sink| sink.suspend());
                    let rendered = instance.render_prompt(&job.prompt, &job.settings).await;
                    let shown = shown_request::shown(&job, &instance, rendered, requested_context);
                    messages.print(&shown);
                }
                context.load_s = instance.load_s();
                run(job, &instance, sinks, cancel, context).await
            }
            Err(outcome) => *outcome,
        }
    };
    // The progress line is erased before anything else is printed.
    drop(progress);
    if let Some(unloader) = unloader {
        let warning = unload(unloader, args.model.unload, &outcome.used.model, messages).await;
        outcome.answer.warnings.extend(warning);
    }
    for warning in &outcome.answer.warnings {
        if warning.is_after_the_end() {
            messages.warning(&warning.to_string());
        }
    }
    let end = std::mem::replace(&mut outcome.end, End::Done);
    let mut result = match end {
        // A reader that has gone is not an error.
        End::Done | End::Cancelled(Cancellation::ReaderGone) => Ok(()),
        End::Cancelled(Cancellation::Requested) => Err(Failure::interrupted()),
        End::Failed(error) => Err(Error::of_job(error, outcome.has_output()).into()),
    };
    let mut kept = None;
    if result.is_ok()
        && let Some(file) = file.take()
    {
        kept = file.partial_path().map(Path::to_owned);
        result = complete(file, &outcome.answer.text);
    }
    if output.json {
        let error = result.as_ref().err().map(|failure| failure.message.clone());
        let printed = print_report(&outcome, error, env.stdout_is_terminal);
        result = result.and(printed);
    }
    if outcome.answer.finish.is_some() {
        messages.status(&report::statistics_line(&outcome.answer));
    }
    let Err(failure) = result else {
        return Ok(Exit::Done);
    };
    if output.events {
        let mut last = Events::new(std::io::stdout(), env.stdout_is_terminal);
        // A reader that has gone does not need the last event.
        let _closed = last.failed(failure.exit as u8, &failure.message);
    }
    Err(keep(failure, &outcome.answer, file, kept, &env.paths.state))
}

async fn request_from_args(
    args: &InferArgs,
    notices: &Notices,
    limit: RunLimit,
    cancel: Cancel<'_>,
) -> Result<Request, Failure> {
    let InferArgs {
        prompt,
        model,
        sampling,
        timeouts: _,
        output,
        common: _,
    } = args;
    let (model, load) = model_reference(model);
    let (prompt, sampling, notices) = (prompt.clone(), sampling.clone(), notices.clone());
    let names_files = resolve_args::names_files(&prompt, &sampling);
    let read = move || resolve_args::request_from_args(&prompt, &sampling, &notices);
    Ok(Request {
        model,
        load,
        strict: output.strict,
        keep_reasoning_tags: output.reasoning_tags == ReasoningTags::None,
        ..client::read_files(names_files, limit, cancel, read).await?
    })
}

/// The time limit of an unload at the end of a run.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);

/// Unloads the model if that is requested, or if this process was its last user. Returns a
/// warning if it stays loaded.
async fn unload(
    unloader: Unloader,
    is_requested: bool,
    model: &str,
    messages: Messages,
) -> Option<Warning> {
    let unloading = async {
        if is_requested {
            unloader.unload().await
        } else {
            unloader.release().await
        }
    };
    let warning = match tokio::time::timeout(UNLOAD_LIMIT, unloading).await {
        Ok(Ok(UnloadResult::Unloaded | UnloadResult::NothingToUnload)) => return None,
        Ok(Ok(UnloadResult::NotOwned)) => format!(
            "`{model}` stays loaded: this program did not load it; `unload --force` unloads it \
             anyway"
        ),
        Ok(Ok(UnloadResult::InUse)) => {
            format!("`{model}` stays loaded: another process uses it, and unloads it")
        }
        Ok(Err(error)) => format!("`{model}` stays loaded: {}", error_chain(&error)),
        Err(_) => format!(
            "`{model}` may stay loaded: the server did not confirm the unload within {} s",
            UNLOAD_LIMIT.as_secs()
        ),
    };
    messages.warning(&warning);
    Some(Warning::Engine(warning))
}

/// Opens the output file before any model is loaded.
async fn open_output(
    output: &OutputArgs,
    cancel: Cancel<'_>,
) -> Result<Option<AnswerFile>, Failure> {
    // `-` is stdout, as for other programs.
    let path = output.output.clone().filter(|path| path != Path::new("-"));
    let Some(path) = path else {
        return Ok(None);
    };
    // Opening a pipe blocks until it has a reader.
    let opening = tokio::task::spawn_blocking(move || AnswerFile::open(&path));
    tokio::select! {
        biased;
        () = cancel => Err(Failure::interrupted()),
        opened = opening => {
            let opened =
                opened.map_err(|error| Failure::new(Exit::Broken, error.to_string()))?;
            Ok(Some(opened?))
        }
    }
}

/// Completes the output file. A reader that closed a pipe is not an error.
fn complete(file: AnswerFile, text: &str) -> Result<(), Failure> {
    match file.complete(text) {
        Ok(()) | Err(sink::Error::BrokenPipe) => Ok(()),
        Err(error) => Err(Failure {
            exit: Exit::Broken,
            ..Failure::from(error)
        }),
    }
}

/// With `-o` the answer goes into the file only; `--json` prints at the end.
fn stdout_sink(output: &OutputArgs, env: &Env, has_file: bool) -> Option<Box<dyn Sink + Send>> {
    let terminal = env.stdout_is_terminal;
    if output.events {
        Some(Box::new(Events::new(std::io::stdout(), terminal)))
    } else if output.json || has_file {
        None
    } else {
        let stdout = Stdout::new(std::io::stdout(), terminal);
        Some(Box::new(if output.show_reasoning {
            stdout.with_reasoning()
        } else {
            stdout
        }))
    }
}

/// Progress on stderr, unless it is off or `-q` is given.
fn progress_sink(
    common: &CommonArgs,
    env: &Env,
    output: &OutputArgs,
    has_file: bool,
) -> Option<InferProgress> {
    if common.quiet || !output.show_progress {
        return None;
    }
    let answer_on_terminal = env.stdout_is_terminal && !has_file && !output.json;
    let progress = InferProgress::new(env.stderr_is_terminal, answer_on_terminal);
    Some(if output.show_reasoning {
        progress.with_reasoning()
    } else {
        progress
    })
}

fn print_report(outcome: &Outcome, error: Option<String>, terminal: bool) -> Result<(), Failure> {
    use std::io::Write;
    let report = Report::new(outcome, error);
    let text = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::new(Exit::Broken, format!("cannot write the report: {error}")))?;
    let text = if terminal {
        escape_controls_json(&text)
    } else {
        text
    };
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(sink::Error::Stdout(error).into()),
    }
}
