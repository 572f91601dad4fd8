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
use crate::inference::{Finish, Given, Layer, Origin, settle};
use crate::pack::ModelFacts;
use crate::pipeline::{
    Account, Chain, Failed, Interrupt, Prepared, on_pack_thread, perform, prepare,
};
use crate::report::{self, About, Instance, Report, packs_used};
use crate::sink::{self, Events, Messages, OutputFile, Sink, Stdout};

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
    let config = asking::config(&common, env)?;
    let [flags, environment, written] = asking::layers(&sampling, env, &config)?;
    let reasoning_tags = reasoning_tags(&output)?;

    let ask = asking::ask(&asked, env, &config)?;
    let chosen = choose(&model, env, &config)?;
    let facts = facts(&chosen);

    let mut shelf = asking::shelf(&asked, env, &config, messages)?;
    let has_stdin = env.stdin_has_text;
    let opening = async {
        let prepared = on_pack_thread(move || {
            prepare(&mut shelf, &ask, Some(&facts), &mut || {
                asking::stdin_if(has_stdin)
            })
        })
        .await??;
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
    resolved
        .settings
        .check()
        .map_err(|(name, why)| Failure::usage(format!("the prompt's setting {name} {why}")))?;
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

    let mut file = output.output.as_deref().map(OutputFile::open).transpose()?;
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
    let (account, result) = {
        let mut sinks: Vec<&mut (dyn Sink + Send)> = Vec::new();
        // The file comes first: it takes the raw answer before anything else
        // can fail.
        if let Some(file) = &mut file {
            sinks.push(file);
        }
        if let Some(stdout) = &mut stdout {
            sinks.push(stdout.as_mut());
        }
        perform(stream, chain, &mut sinks, interrupt).await
    };
    for warning in &account.warnings {
        messages.warning(warning);
    }
    let result = settle_end(result, &output, messages);
    let result = keep(
        result,
        &account,
        file,
        env,
        output.output.as_deref(),
        messages,
    );
    warnings.extend(account.warnings.iter().cloned());
    let printed = if output.json {
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
        print(&report)
    } else {
        Ok(())
    };
    if account.finish.is_some() {
        messages.status(&report::statistics(&account));
    }
    result.and_then(|exit| printed.map(|()| exit))
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
        .map_err(|why| Failure::usage(format!("--context: {why}")))?;
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
    if output.events {
        Some(Box::new(Events(std::io::stdout())))
    } else if output.json || has_file {
        None
    } else {
        Some(Box::new(Stdout::new(
            std::io::stdout(),
            env.stdout_is_terminal,
        )))
    }
}

/// A cut answer is an answer, with a warning; under `--strict` it is none.
fn settle_end(
    result: Result<Finish, Failed>,
    output: &Output,
    messages: Messages,
) -> Result<Exit, Failure> {
    let finish = match result {
        Ok(finish) => finish,
        Err(Failed::Sink(sink::Error::BrokenPipe)) => return Ok(Exit::Done),
        Err(failed) => return Err(failed.into()),
    };
    let cut = match finish {
        Finish::Length => "the answer was cut at the limit of tokens (--max-tokens)",
        Finish::ContextFull => "the answer was cut because the model's context is full (--context)",
        Finish::End | Finish::Enough | Finish::Cancelled => return Ok(Exit::Done),
    };
    if output.strict {
        return Err(Failure::new(Exit::Empty, cut));
    }
    messages.warning(cut);
    Ok(Exit::Done)
}

/// Completes the output file, or keeps what there is and says where.
fn keep(
    result: Result<Exit, Failure>,
    account: &Account,
    file: Option<OutputFile>,
    env: &Env,
    path: Option<&Path>,
    messages: Messages,
) -> Result<Exit, Failure> {
    match (result, file) {
        (Ok(exit), Some(file)) => {
            file.complete().map_err(|e| {
                let kept = path
                    .map(|it| format!("{}.partial", it.display()))
                    .unwrap_or_default();
                let failure: Failure = e.into();
                Failure {
                    exit: Exit::Broken,
                    ..failure
                }
                .hint(format!("the model's answer is kept in {kept}"))
            })?;
            Ok(exit)
        }
        (Err(failure), Some(file)) => {
            let reason = std::iter::once(&failure.message).chain(&failure.hints);
            let reason: Vec<&str> = reason.map(String::as_str).collect();
            match file.fail(&reason.join("\n")) {
                Ok(Some(partial)) => Err(failure.hint(format!(
                    "what the model said is kept in {}",
                    partial.display()
                ))),
                Ok(None) => Err(failure),
                Err(e) => {
                    messages.warning(&e.to_string());
                    Err(failure)
                }
            }
        }
        // What went to stdout is there; but processors may have kept text back,
        // and what was paid for must not go with them.
        (Err(failure), None) if account.raw != account.text => {
            match keep_raw(&env.paths.state, &account.raw) {
                Ok(path) => {
                    Err(failure.hint(format!("what the model said is kept in {}", path.display())))
                }
                Err(e) => {
                    messages.warning(&format!("what the model said cannot be kept: {e}"));
                    Err(failure)
                }
            }
        }
        (result, None) => result,
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

fn print(report: &Report<'_>) -> Result<(), Failure> {
    use std::io::Write;
    let text = serde_json::to_string_pretty(report)
        .map_err(|e| Failure::new(Exit::Broken, format!("the report cannot be written: {e}")))?;
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(sink::Error::Stdout(e).into()),
    }
}
