//! `load`, `unload` and `ps`.

use std::time::Instant;

use lmstrix::client::{self, TimeoutOptions};
use lmstrix::engine::{
    self, Catalog, CatalogModel, EMBEDDED, LLAMA_CPP, LoadedInstance, display_model,
};
use lmstrix::job::{self, Cancel, JobError, Sinks};
use lmstrix::sink::Sink;
use lmstrix::suggest::similar_names;
use lmstrix_inference::Event;
use serde::Serialize;

use super::{
    command_setup, escape_for_terminal, format_table, print, print_json, warn_about_problems,
};
use crate::args::{LoadArgs, ModelArgs, PsArgs, UnloadArgs};
use crate::command::notices;
use crate::command::resolve_args;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// Runs `load`.
///
/// # Errors
/// Returns an error if the model is not found, does not fit into memory, or the server
/// cannot load it.
pub(crate) async fn load(
    args: LoadArgs,
    env: &Env,
    mut interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let messages = setup.messages;
    let (timeouts, _) = client::timeouts(&TimeoutOptions::default(), env, &setup.config)?;
    let (model, mut policy) = resolve_args::model_reference(&ModelArgs {
        model: Some(args.model.clone()),
        engine: args.engines.engine,
        context: args.context,
        reload: args.reload,
        unload: false,
        ttl: args.ttl,
        force: args.force,
    });
    policy.keep_loaded = true;
    let query = client::model_query(
        &model,
        policy,
        env,
        &setup.config,
        setup.connect_timeouts,
        &notices(messages),
    )?;
    let selected = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        selected = engine::select_model(query) => selected?,
    };
    if selected.engine() == EMBEDDED {
        return Err(Failure::usage(format!(
            "`{}` runs in the embedded engine, which loads a model for each run",
            args.model
        ))
        .hint("select a server with `--engine URL`, or install llama.cpp (`doctor`)"));
    }
    for warning in &selected.warnings {
        messages.warning(warning);
    }
    let engine_name = selected.display_name();
    let is_server = selected.engine() != LLAMA_CPP;
    let mut status = LoadingStatus(messages);
    let mut sinks: Sinks<'_> = vec![&mut status];
    let start = Instant::now();
    let instance = job::load(selected, &mut sinks, interrupt, timeouts, start)
        .await
        .map_err(|error| match error {
            JobError::Expired(expired) if is_server => Failure::from(expired).hint(
                "the server may still be loading it; `ps` shows it, another `load` waits for it",
            ),
            error => error.into(),
        })?;
    for warning in &instance.warnings {
        messages.warning(warning);
    }
    let context = instance.context().map_or_else(
        || "an unknown context length".to_owned(),
        |tokens| format!("{tokens} tokens of context"),
    );
    messages.status(&match instance.load_s() {
        Some(seconds) => format!("loaded by {engine_name} in {seconds:.1} s with {context}"),
        None => format!("already loaded by {engine_name} with {context}"),
    });
    // `-m` accepts this name for exactly this instance.
    print(&format!("{}\n", escape_for_terminal(instance.id(), env)))?;
    Ok(Exit::Done)
}

/// Prints a status line when loading starts.
struct LoadingStatus(Messages);

impl Sink for LoadingStatus {
    fn event(&mut self, event: &Event) -> Result<(), lmstrix::sink::Error> {
        match event {
            Event::Loading(_) => self.0.status("loading…"),
            Event::Warning(text) => self.0.warning(text),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), lmstrix::sink::Error> {
        Ok(())
    }
}

/// Runs `unload`.
///
/// # Errors
/// Returns an error if no such model is loaded, or if another program loaded it.
pub(crate) async fn unload(
    args: UnloadArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let mut interrupt = interrupt;
    let catalog = setup.loaded(env, interrupt.as_mut()).await?;
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        result = unload_instances(&args, env, &setup, &catalog) => result,
    }
}

/// A loaded instance with its model and the address of its engine.
struct UnloadCandidate<'a> {
    engine: &'a str,
    model: &'a CatalogModel,
    instance: &'a LoadedInstance,
}

impl UnloadCandidate<'_> {
    fn is_model(&self, name: &str) -> bool {
        self.model.id == name || self.model.aliases.iter().any(|alias| alias == name)
    }
}

async fn unload_instances(
    args: &UnloadArgs,
    env: &Env,
    setup: &super::CommandSetup,
    catalog: &Catalog,
) -> Result<Exit, Failure> {
    let messages = setup.messages;
    warn_about_problems(catalog, messages);
    let mut candidates: Vec<UnloadCandidate<'_>> = Vec::new();
    for engine in &catalog.engines {
        for model in engine.models.iter().flatten() {
            candidates.extend(model.instances.iter().map(|instance| UnloadCandidate {
                engine: &engine.address,
                model,
                instance,
            }));
        }
    }
    let mut to_unload: Vec<&UnloadCandidate<'_>> = Vec::new();
    for name in &args.models {
        // Instance names take precedence over model names.
        let mut matches: Vec<_> = candidates
            .iter()
            .filter(|candidate| candidate.instance.id == *name)
            .collect();
        if matches.is_empty() {
            matches = candidates
                .iter()
                .filter(|candidate| candidate.is_model(name))
                .collect();
        }
        if matches.is_empty() {
            let names = candidates
                .iter()
                .flat_map(|it| [it.model.id.as_str(), it.instance.id.as_str()]);
            let similar = similar_names(name, names);
            let failure = Failure::new(Exit::Model, format!("no model named `{name}` is loaded"));
            return Err(match similar.first() {
                Some(similar) => failure.hint(format!("did you mean `{similar}`?")),
                None => failure.hint("`ps` prints the loaded models"),
            });
        }
        for candidate in matches {
            // The same instance may match several names.
            if !to_unload
                .iter()
                .any(|other| std::ptr::eq(*other, candidate))
            {
                to_unload.push(candidate);
            }
        }
    }
    if args.all {
        to_unload = candidates
            .iter()
            .filter(|candidate| args.force || candidate.instance.is_owned)
            .collect();
    }
    let mut all_skipped = Vec::new();
    let mut ends_with_user = false;
    for engine in &catalog.engines {
        let instances: Vec<(String, LoadedInstance)> = to_unload
            .iter()
            .filter(|candidate| candidate.engine == engine.address)
            .map(|candidate| (candidate.model.id.clone(), candidate.instance.clone()))
            .collect();
        if instances.is_empty() {
            continue;
        }
        let skipped = unload_at(&engine.address, &instances, args.force, env, setup).await?;
        for (_, instance) in &instances {
            if !skipped.contains(&instance.id) {
                messages.status(&format!(
                    "unloaded `{}` from {}",
                    instance.id, engine.display_name
                ));
            }
        }
        ends_with_user |= engine.address == LLAMA_CPP && !skipped.is_empty();
        all_skipped.extend(skipped);
    }
    if all_skipped.is_empty() {
        if to_unload.is_empty() {
            messages.status("no instance is loaded by this program");
        }
        return Ok(Exit::Done);
    }
    Err(Failure::new(
        Exit::Model,
        format!(
            "not unloaded, because this program did not load it, or another process uses it: {}",
            all_skipped
                .iter()
                .map(|id| format!("`{id}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    )
    .hint(if ends_with_user {
        "a llama-server that is used ends with its last user; `--force` ends it now"
    } else {
        "unload it anyway with `--force`"
    }))
}

/// Unloads instances of one engine. Returns the names of those that were not unloaded.
async fn unload_at(
    engine: &str,
    instances: &[(String, LoadedInstance)],
    force: bool,
    env: &Env,
    setup: &super::CommandSetup,
) -> Result<Vec<String>, Failure> {
    let ownership_folder = client::ownership_folder(env);
    if engine == LLAMA_CPP {
        let models: Vec<String> = instances.iter().map(|(model, _)| model.clone()).collect();
        return Ok(engine::stop_servers(&ownership_folder, &models, force).await?);
    }
    let mut addresses = setup.selection.servers().iter();
    let Some(address) = addresses.find(|address| address.base_url() == engine) else {
        return Ok(Vec::new());
    };
    let lms = client::lms_program(env);
    let timeouts = setup.connect_timeouts;
    let folder = &ownership_folder;
    Ok(engine::unload(address, instances, force, folder, lms.as_deref(), timeouts).await?)
}

/// Output of `ps --json`.
#[derive(Serialize)]
struct PsReport {
    schema: u32,
    instances: Vec<PsInstance>,
}

/// One instance of a [`PsReport`].
#[derive(Serialize)]
struct PsInstance {
    id: String,
    model: String,
    engine: String,
    kind: &'static str,
    context: Option<u32>,
    size_bytes: Option<u64>,
    #[serde(rename = "ours")]
    is_owned: bool,
}

/// Runs `ps`.
///
/// # Errors
/// Returns an error if no server responds.
pub(crate) async fn ps(args: PsArgs, env: &Env, interrupt: Cancel<'_>) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let messages = setup.messages;
    let catalog = setup.loaded(env, interrupt).await?;
    warn_about_problems(&catalog, messages);
    let mut instances = Vec::new();
    for engine in &catalog.engines {
        for model in engine.models.iter().flatten() {
            for instance in &model.instances {
                instances.push(PsInstance {
                    id: instance.id.clone(),
                    model: model.id.clone(),
                    engine: engine.address.clone(),
                    kind: engine.kind,
                    context: instance.context,
                    size_bytes: model.size_bytes,
                    is_owned: instance.is_owned,
                });
            }
        }
    }
    if args.json {
        print_json(
            &PsReport {
                schema: 1,
                instances,
            },
            env,
        )?;
        return Ok(Exit::Done);
    }
    if instances.is_empty() {
        messages.status("no instance is loaded");
        return Ok(Exit::Done);
    }
    let rows = instances.iter().map(|instance| {
        vec![
            escape_for_terminal(display_model(&instance.id), env),
            instance.engine.clone(),
            instance
                .context
                .map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
            instance
                .size_bytes
                .map_or_else(|| "-".to_owned(), engine::format_bytes),
            if instance.is_owned {
                "this program"
            } else {
                "other"
            }
            .to_owned(),
        ]
    });
    let head = ["instance", "engine", "context", "size", "loaded by"];
    print(&format_table(&head, rows.collect()))?;
    Ok(Exit::Done)
}
