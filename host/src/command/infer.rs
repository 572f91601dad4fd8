//! `infer`: one prompt, one model, one answer.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;

use super::asking;
use crate::args::{Infer, Output};
use crate::engine::{self, Chosen, Context};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::{Event, Finish, Given, Layer, Origin, settle};
use crate::pack::ModelFacts;
use crate::pipeline::{Account, Chain, Failed, Interrupt, Prepared, Sinks, perform};
use crate::report::{self, About, Instance, Report, packs_used};
use crate::sink::{self, Events, Messages, OutputFile, Sink, Stdout, visible_json};

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
    let Infer {
        asked,
        model,
        sampling,
        output,
        common,
    } = args;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    asking::warn_of_unknown_variables(env, messages);
    let config = asking::config(&common, env)?;
    let [flags, environment, written] = asking::layers(&sampling, env, &config)?;
    let reasoning_tags = reasoning_tags(&output)?;

    let ask = asking::ask(&asked, env, &config)?;
    let chosen = choose(&model, env, &config)?;
    tracing::info!(
        model = chosen.model,
        architecture = chosen.architecture(),
        quantization = chosen.quantization(),
        context = chosen.context,
        "chose a model"
    );
    let facts = facts(&chosen);

    let shelf = asking::shelf(&asked, env, &config, messages)?;
    let has_stdin = env.stdin_has_text;
    let opening = async {
        let prepared = asking::prepared(shelf, ask, Some(facts), has_stdin, messages).await?;
        let chain = Chain::open(prepared.steps.clone()).await?;
        Ok::<_, Failure>((prepared, chain))
    };
    let (prepared, chain) = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        opened = opening => opened?,
    };
    let Prepared {
        resolved,
        steps,
        resolver,
        mut warnings,
    } = prepared;
    warnings.extend(chosen.warnings.iter().cloned());
    for warning in &warnings {
        messages.warning(warning);
    }

    let given = [
        flags,
        environment,
        (Origin::Prompt, resolved.settings.clone()),
        written,
    ];
    let required = if output.strict {
        names(&given)
    } else {
        Vec::new()
    };
    let [flags, environment, prompt, written] = given;
    let recommended = (Origin::ModelFile, chosen.recommended());
    let mut settings = settle(&[flags, environment, prompt, written, recommended]);
    // Drawn here and not by the engine, so that the report can name it.
    settings.seed.get_or_insert_with(|| Given {
        value: random_seed(),
        origin: Origin::Default,
    });

    let mut file = open_output(&output, interrupt.as_mut()).await?;
    if chosen.is_demo {
        messages.status(DEMO_NOTICE);
    }
    let engine_name = chosen.engine();
    let model_name = chosen.model.clone();
    let instance = Instance {
        context: chosen.context,
        quantization: chosen.quantization(),
    };
    let stream = chosen.infer(engine::Ask {
        prompt: resolved.prompt.clone(),
        settings: settings.clone(),
        reasoning_tags,
        required,
    })?;

    let mut stdout = stdout_sink(&output, env, file.is_some());
    if output.events
        && let Some(stdout) = &mut stdout
    {
        for warning in &warnings {
            // A reader that has gone shows again at the first event.
            let _gone = stdout.event(&Event::Warning(warning.clone()));
        }
    }
    let (account, result) = {
        let mut sinks: Sinks<'_> = Vec::new();
        // The file comes first: it takes the raw answer before anything else
        // can fail.
        if let Some(file) = &mut file {
            sinks.push(file);
        }
        if let Some(stdout) = &mut stdout {
            sinks.push(stdout.as_mut());
        }
        perform(stream, chain, sinks, interrupt).await
    };
    for warning in &account.warnings {
        messages.warning(warning);
    }
    warnings.extend(account.warnings.iter().cloned());
    let mut result = judge(result, &account, &output);
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
                engine: engine_name,
                model: &model_name,
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

fn choose(
    model: &crate::args::Model,
    env: &Env,
    config: &crate::config::Config,
) -> Result<Chosen, Failure> {
    let or = |flag: &Option<String>, name: &str, written: &Option<String>| {
        flag.clone()
            .or_else(|| env.own.get(name).cloned())
            .or_else(|| written.clone())
    };
    let engine = or(&model.engine, "ENGINE", &config.engine);
    let name = or(&model.model, "MODEL", &config.model);
    let context = or(&model.context, "CONTEXT", &None);
    let context = context
        .as_deref()
        .map(Context::parse)
        .transpose()
        .map_err(|why| {
            let source = if model.context.is_some() {
                "--context"
            } else {
                "LMSTRIX_HOST_CONTEXT"
            };
            Failure::usage(format!("{source}: {why}"))
        })?;
    let models = env.paths.data.join("models");
    Ok(engine::choose(
        engine.as_deref(),
        name.as_deref(),
        context,
        &models,
    )?)
}

fn facts(chosen: &Chosen) -> ModelFacts {
    ModelFacts {
        id: chosen.model.clone(),
        architecture: Some(chosen.architecture().to_owned()),
        context_length: Some(chosen.context),
        extra: vec![
            ("engine".to_owned(), chosen.engine().to_owned()),
            ("format".to_owned(), "gguf".to_owned()),
            ("quantization".to_owned(), chosen.quantization()),
        ],
    }
}

/// The names of all settings that somebody gave.
fn names(layers: &[(Origin, Layer)]) -> Vec<String> {
    let mut names: Vec<String> = layers
        .iter()
        .flat_map(|(_, layer)| layer.names())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The standard library's hash maps are seeded by the system; 32 bits are what
/// every server takes.
fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() & u64::from(u32::MAX)
}

/// With `-o` the answer goes into the file alone; `--json` prints at the end.
fn stdout_sink(output: &Output, env: &Env, has_file: bool) -> Option<Box<dyn Sink + Send>> {
    let terminal = env.stdout_is_terminal;
    if output.events {
        Some(Box::new(Events::new(std::io::stdout(), terminal)))
    } else if output.json || has_file {
        None
    } else {
        Some(Box::new(Stdout::new(std::io::stdout(), terminal)))
    }
}

/// An answer that counts, with what is to be said of it.
struct Judged {
    warning: Option<&'static str>,
}

/// A cut answer is an answer, with a warning; under `--strict` it is none.
fn judge(
    result: Result<Finish, Failed>,
    account: &Account,
    output: &Output,
) -> Result<Judged, Failure> {
    let finish = match result {
        Ok(finish) => finish,
        Err(Failed::Sink(sink::Error::BrokenPipe)) => return Ok(Judged { warning: None }),
        Err(failed) => {
            let failure = Failure::from(failed);
            let has_text = !account.raw.is_empty() || !account.reasoning.is_empty();
            // Lost before the first byte is another thing than broken after it.
            return Err(match failure.exit {
                Exit::Engine if has_text => Failure {
                    exit: Exit::Broken,
                    ..failure
                },
                Exit::Broken if !has_text => Failure {
                    exit: Exit::Engine,
                    ..failure
                },
                _ => failure,
            });
        }
    };
    let cut = match finish {
        Finish::Length => "the answer was cut at the limit of tokens (--max-tokens)",
        Finish::ContextFull => "the answer was cut because the model's context is full (--context)",
        Finish::End | Finish::Enough | Finish::Cancelled => return Ok(Judged { warning: None }),
    };
    if output.strict {
        return Err(Failure::new(Exit::Empty, cut));
    }
    Ok(Judged { warning: Some(cut) })
}

/// What it means that the output file cannot be completed.
fn completed(error: sink::Error) -> Result<Judged, Failure> {
    match error {
        // Whoever reads the other end of a pipe has had enough.
        sink::Error::BrokenPipe => Ok(Judged { warning: None }),
        other => Err(Failure {
            exit: Exit::Broken,
            ..Failure::from(other)
        }),
    }
}

/// Keeps what the model said when the answer failed, and says where. `kept` is
/// where a file that could not be completed left it.
fn keep(
    failure: Failure,
    account: &Account,
    file: Option<OutputFile>,
    kept: Option<PathBuf>,
    state: &Path,
) -> Failure {
    let mut failure = failure;
    let mut kept = kept.filter(|path| path.exists());
    if let Some(file) = file {
        let reason: Vec<&str> = std::iter::once(&failure.message)
            .chain(&failure.hints)
            .map(String::as_str)
            .collect();
        kept = file.partial().filter(|_| !account.raw.is_empty());
        if let Err(e) = file.fail(&reason.join("\n")) {
            failure = failure.hint(crate::error::chain(&e));
        }
    }
    // What went to stdout is there. But processors may have kept text back,
    // and stdout itself may be what failed.
    let is_on_stdout = account.raw == account.text && failure.exit != Exit::Broken;
    if account.raw.is_empty() || (kept.is_none() && is_on_stdout) {
        return failure;
    }
    match kept.map_or_else(|| keep_raw(state, &account.raw), Ok) {
        Ok(path) => failure.hint(format!("what the model said is kept in {}", path.display())),
        Err(e) => failure.hint(format!("what the model said cannot be kept: {e}")),
    }
}

fn keep_raw(state: &Path, raw: &str) -> std::io::Result<PathBuf> {
    let folder = state.join("answers");
    fs::create_dir_all(&folder)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let path = folder.join(format!("{}-{}.txt", now.as_millis(), std::process::id()));
    fs::write(&path, raw)?;
    Ok(path)
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
