//! `infer`: one prompt, one model, one answer.

mod outcome;
mod request;

use std::path::Path;
use std::time::{Duration, Instant};

use super::answer_check::{Judged, judge};
use super::job::{Job, Wish};
use super::resolve_args;
use super::run_stats::Learning;
use crate::args::{Common, Infer, Output};
use crate::engine::{self, Unloader};
use crate::environment::Env;
use crate::error::{self, Exit, Failure};
use crate::inference::Event;
use crate::job::{Account, Failed, Interrupt, Sinks, ensure, perform};
use crate::report::{self, About, Instance, Report, packs_used};
use crate::sink::{
    self, Events, Messages, OutputFile, Progress, Sink, Stdout, Warnings, visible_json,
};
use outcome::{completed, keep};

/// What is said once when the demo model answers.
const DEMO_NOTICE: &str = "the answer comes from the built-in demo model, a toy that repeats a text's \
     first sentence; -m FILE.gguf runs a real model";

/// Runs `infer`.
///
/// # Errors
/// Anything that ends without a complete answer.
pub(crate) async fn infer(
    args: Infer,
    env: &Env,
    mut interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let start = Instant::now();
    let Infer {
        asked,
        model,
        sampling,
        patience,
        output,
        common,
    } = args;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    resolve_args::warn_of_unknown_variables(env, messages);
    let config = resolve_args::config(&common, env)?;
    let reasoning_tags = reasoning_tags(&output)?;
    let wish = Wish {
        asked: &asked,
        model: &model,
        sampling: &sampling,
        patience: &patience,
        strict: output.strict,
        has_stdin: env.stdin_has_text,
    };
    let Job {
        chosen,
        resolved,
        steps,
        resolver,
        mut warnings,
        chain,
        settings,
        required,
        limits,
    } = Job::open(wish, env, &config, messages, interrupt.as_mut()).await?;
    for warning in &warnings {
        messages.warning(warning);
    }

    let mut file = open_output(&output, interrupt.as_mut()).await?;
    if chosen.is_demo {
        messages.status(DEMO_NOTICE);
    }
    let about_engine = (chosen.engine(), chosen.model.clone(), chosen.quantization());
    let asked_context = chosen.asked_context();
    let mut learning = Learning::new(&chosen, &resolved.prompt);
    let mut unloader = None;
    let mut stdout = stdout_sink(&output, env, file.is_some());
    let mut progress = output
        .show_progress
        .then(|| progress_sink(&common, env, &output, file.is_some()))
        .flatten();
    if output.events
        && let Some(stdout) = &mut stdout
    {
        for warning in &warnings {
            // A reader that has gone shows again at the first event.
            let _gone = stdout.event(&Event::Warning(warning.clone()));
        }
    }
    let mut instance = Instance {
        id: None,
        context: None,
        quantization: about_engine.2,
    };
    let mut shown_warnings = Warnings::new(messages);
    let (account, result) = {
        let mut sinks: Sinks<'_> = Vec::new();
        // The file comes first: it takes the raw answer before anything else
        // can fail.
        if let Some(file) = &mut file {
            sinks.push(file);
        }
        if let Some(progress) = &mut progress {
            sinks.push(progress);
        }
        if let Some(stdout) = &mut stdout {
            sinks.push(stdout.as_mut());
        }
        // After those that draw and print: they make room for it.
        sinks.push(&mut shown_warnings);
        match ensure(chosen, &mut sinks, interrupt.as_mut(), limits, start).await {
            Err(failed) => {
                for sink in &mut sinks {
                    // Nothing was shown that would have to be rounded off.
                    let _gone = sink.end();
                }
                (Account::default(), Err(failed))
            }
            Ok(ready) => {
                instance.id = Some(ready.instance().to_owned());
                instance.context = ready.context();
                learning.loaded(ready.load_s());
                unloader = model.unload.then(|| ready.unloader());
                for warning in &ready.warnings {
                    for sink in &mut sinks {
                        let _gone = sink.event(&Event::Warning(warning.clone()));
                    }
                }
                warnings.extend(ready.warnings.iter().cloned());
                if output.show_request {
                    sinks.iter_mut().for_each(|sink| sink.interlude());
                    let shown = ready.rendered(&resolved.prompt, &settings).await;
                    messages.text(&request::shown(
                        &ready,
                        &resolved.prompt,
                        &settings,
                        shown,
                        asked_context,
                    ));
                }
                let stream = ready.infer(engine::Ask {
                    prompt: resolved.prompt.clone(),
                    settings: settings.clone(),
                    reasoning_tags,
                    required,
                });
                match stream {
                    Ok(stream) => perform(stream, chain, sinks, interrupt, limits, start).await,
                    Err(error) => (Account::default(), Err(Failed::Engine(error))),
                }
            }
        }
    };
    // Whatever it drew is gone before anything else is said.
    drop(progress);
    if let Some(unloader) = unloader {
        warnings.extend(unload(unloader, &about_engine.1, messages).await);
    }
    if let Err(error) = learning.keep(&resolve_args::store(env), &account, &result) {
        messages.warning(&format!(
            "what this run taught is lost: {}",
            error::chain(&error)
        ));
    }
    warnings.extend(account.warnings.iter().cloned());
    let mut result = judge(result, &account, output.strict);
    if let Ok(Judged {
        warning: Some(cut), ..
    }) = &result
    {
        messages.warning(cut);
        warnings.push((*cut).to_owned());
    }
    let mut kept = None;
    if let (Ok(_), Some(_)) = (&result, &file) {
        kept = file.as_ref().and_then(OutputFile::partial);
        if let Some(Err(error)) = file.take().map(OutputFile::complete) {
            result = completed(error);
        }
    }
    if output.json {
        let report = Report::new(
            &account,
            About {
                settings: &settings,
                engine: about_engine.0,
                model: &about_engine.1,
                instance,
                packs: packs_used(
                    std::iter::once(&resolver).chain(steps.iter().map(|it| &it.pack)),
                ),
                extension: resolved.extension.as_deref(),
                resolver_extra: (resolver.name(), &resolved.extra),
                warnings: &warnings,
                error: result.as_ref().err().map(|failure| failure.message.clone()),
            },
        );
        if let Err(failure) = print(&report, env.stdout_is_terminal) {
            result = result.and(Err(failure));
        }
    }
    if account.finish.is_some() {
        messages.status(&report::statistics(&account));
    }
    let failure = match result {
        Ok(_) => return Ok(Exit::Done),
        Err(failure) => failure,
    };
    if output.events {
        // A reader that has gone does not want to know.
        let mut last = Events::new(std::io::stdout(), env.stdout_is_terminal);
        let _gone = last.failed(failure.exit as u8, &failure.message);
    }
    Err(keep(failure, &account, file, kept, &env.paths.state))
}

/// How long an unload may take that ends a run.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);

/// Unloads the model at the end, and says when it stays.
async fn unload(unloader: Unloader, model: &str, messages: Messages) -> Option<String> {
    let warning = match tokio::time::timeout(UNLOAD_LIMIT, unloader.unload()).await {
        Ok(Ok(Some(true) | None)) => return None,
        Ok(Ok(Some(false))) => format!(
            "`{model}` stays loaded: this program did not load it; `unload --force` does it all \
             the same"
        ),
        Ok(Err(error)) => format!("`{model}` stays loaded: {}", error::chain(&error)),
        Err(_) => format!(
            "`{model}` may stay loaded: the server did not say within {} s that it is gone",
            UNLOAD_LIMIT.as_secs()
        ),
    };
    messages.warning(&warning);
    Some(warning)
}

/// Opens the output file before any model is loaded.
async fn open_output(
    output: &Output,
    interrupt: Interrupt<'_>,
) -> Result<Option<OutputFile>, Failure> {
    // `-` is stdout, as for every other program.
    let path = output.output.clone().filter(|path| path != Path::new("-"));
    // Opening a pipe waits for its reader, perhaps for ever.
    let opening =
        tokio::task::spawn_blocking(move || path.as_deref().map(OutputFile::open).transpose());
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        opened = opening => {
            let opened = opened.map_err(|e| Failure::new(Exit::Broken, e.to_string()))?;
            Ok(opened?)
        }
    }
}

fn reasoning_tags(output: &Output) -> Result<bool, Failure> {
    match output.reasoning_tags.as_str() {
        "auto" => Ok(true),
        "none" => Ok(false),
        other => Err(Failure::usage(format!(
            "--reasoning-tags is `{other}`; it takes auto or none"
        ))),
    }
}

/// With `-o` the answer goes into the file alone; `--json` prints at the end.
fn stdout_sink(output: &Output, env: &Env, has_file: bool) -> Option<Box<dyn Sink + Send>> {
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

/// How it goes, on stderr; `-q` has the last word.
fn progress_sink(common: &Common, env: &Env, output: &Output, has_file: bool) -> Option<Progress> {
    if common.quiet {
        return None;
    }
    let answer_on_terminal = env.stdout_is_terminal && !has_file && !output.json;
    let progress = Progress::new(env.stderr_is_terminal, answer_on_terminal);
    Some(if output.show_reasoning {
        progress.with_reasoning()
    } else {
        progress
    })
}

fn print(report: &Report<'_>, terminal: bool) -> Result<(), Failure> {
    use std::io::Write;
    let text = serde_json::to_string_pretty(report)
        .map_err(|e| Failure::new(Exit::Broken, format!("the report cannot be written: {e}")))?;
    let text = if terminal { visible_json(&text) } else { text };
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(sink::Error::Stdout(e).into()),
    }
}
