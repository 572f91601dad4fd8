//! `load`, `unload` and `ps`.

use std::time::Instant;

use serde::Serialize;

use super::{
    command_setup, escape_for_terminal, format_table, print, print_json, warn_about_problems,
};
use crate::args::{LoadArgs, ModelArgs, PsArgs, UnloadArgs};
use crate::client::{self, TimeoutOptions};
use crate::command::resolve_args;
use crate::engine::{
    self, CatalogModel, EMBEDDED, EngineSelection, LoadedInstance, ServerAddress, query_catalog,
};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::Event;
use crate::job::{self, Cancel, JobError, Sinks};
use crate::sink::{Messages, Sink};
use crate::suggest::similar_names;

/// Runs `load`.
///
/// # Errors
/// The model is not known, does not fit, or the server cannot load it.
pub(crate) async fn load(
    args: LoadArgs,
    env: &Env,
    mut interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let begun = command_setup(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let (timeouts, _) = client::timeouts(&TimeoutOptions::default(), env, &begun.config)?;
    let (model, policy) = resolve_args::model_reference(&ModelArgs {
        model: Some(args.model.clone()),
        engine: args.engines.engine,
        context: args.context,
        reload: args.reload,
        unload: false,
        force: args.force,
    })?;
    let query = client::model_query(
        &model,
        policy,
        env,
        &begun.config,
        begun.connect_timeouts,
        messages,
    )?;
    let chosen = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        chosen = engine::select_model(query) => chosen?,
    };
    if chosen.engine() == EMBEDDED {
        return Err(Failure::usage(format!(
            "`{}` is run by the embedded engine, which loads a model for each run",
            args.model
        ))
        .hint("--engine names the server that shall load it"));
    }
    for warning in &chosen.warnings {
        messages.warning(warning);
    }
    let shown_engine = chosen.display_name();
    let mut said = LoadingStatus(messages);
    let mut sinks: Sinks<'_> = vec![&mut said];
    let begin = Instant::now();
    let ready = job::load(chosen, &mut sinks, interrupt, timeouts, begin)
        .await
        .map_err(|error| match error {
            JobError::Expired(expired) => Failure::from(expired).hint(
                "the server may go on loading; `ps` shows it, and a second `load` waits for it",
            ),
            error => error.into(),
        })?;
    for warning in &ready.warnings {
        messages.warning(warning);
    }
    let context = ready.context().map_or_else(
        || "an unknown context".to_owned(),
        |it| format!("{it} tokens of context"),
    );
    messages.status(&match ready.load_s() {
        Some(seconds) => format!("{shown_engine} loaded it in {seconds:.1} s with {context}"),
        None => format!("{shown_engine} has it loaded with {context}"),
    });
    // The name that `-m` takes for exactly this instance.
    print(&format!("{}\n", escape_for_terminal(ready.id(), env)))?;
    Ok(Exit::Done)
}

/// Says that loading has begun, once.
struct LoadingStatus(Messages);

impl Sink for LoadingStatus {
    fn event(&mut self, event: &Event) -> Result<(), crate::sink::Error> {
        match event {
            Event::Loading(_) => self.0.status("loading…"),
            Event::Warning(text) => self.0.warning(text),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), crate::sink::Error> {
        Ok(())
    }
}

/// Runs `unload`.
///
/// # Errors
/// Nothing of that name is loaded, or somebody else loaded it.
pub(crate) async fn unload(
    args: UnloadArgs,
    env: &Env,
    interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let begun = command_setup(&args.common, &args.engines, env)?;
    let work = unload_instances(&args, env, &begun);
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        done = work => done,
    }
}

/// An instance, and where it is.
struct UnloadCandidate<'a> {
    place: &'a str,
    offer: &'a CatalogModel,
    instance: &'a LoadedInstance,
}

impl UnloadCandidate<'_> {
    fn is_model(&self, name: &str) -> bool {
        self.offer.id == name || self.offer.aliases.iter().any(|it| it == name)
    }
}

async fn unload_instances(
    args: &UnloadArgs,
    env: &Env,
    begun: &super::CommandSetup,
) -> Result<Exit, Failure> {
    let messages = begun.messages;
    let state = client::ownership_folder(env);
    let endpoints: &[ServerAddress] = match &begun.selection {
        EngineSelection::Embedded => &[],
        EngineSelection::Servers(it) | EngineSelection::Auto(it) => it,
    };
    let servers = EngineSelection::Servers(endpoints.to_vec());
    let models = env.paths.data.join("models");
    let mut asked = query_catalog(
        &servers,
        &models,
        &state,
        begun.connect_timeouts,
        &mut |_| {},
    )
    .await;
    if let Some(refused) = asked.server_error.take() {
        return Err(refused.into());
    }
    warn_about_problems(&asked, messages);
    let mut loaded: Vec<UnloadCandidate<'_>> = Vec::new();
    for place in &asked.engines {
        for offer in place.models.iter().flatten() {
            loaded.extend(offer.instances.iter().map(|instance| UnloadCandidate {
                place: &place.address,
                offer,
                instance,
            }));
        }
    }
    let mut meant: Vec<&UnloadCandidate<'_>> = Vec::new();
    for name in &args.models {
        // An instance's own name goes before a model's.
        let mut by_name: Vec<_> = loaded.iter().filter(|it| it.instance.id == *name).collect();
        if by_name.is_empty() {
            by_name = loaded.iter().filter(|it| it.is_model(name)).collect();
        }
        if by_name.is_empty() {
            let names = loaded
                .iter()
                .flat_map(|it| [it.offer.id.as_str(), it.instance.id.as_str()]);
            let close = similar_names(name, names);
            let failure = Failure::new(Exit::Model, format!("no model named `{name}` is loaded"));
            return Err(match close.first() {
                Some(close) => failure.hint(format!("did you mean `{close}`?")),
                None => failure.hint("`ps` shows what is loaded"),
            });
        }
        for it in by_name {
            // One that is named twice is unloaded once.
            if !meant.iter().any(|other| std::ptr::eq(*other, it)) {
                meant.push(it);
            }
        }
    }
    if args.all {
        meant = loaded
            .iter()
            .filter(|it| args.force || it.instance.is_owned)
            .collect();
    }
    let mut left = Vec::new();
    for place in &asked.engines {
        let here: Vec<(String, LoadedInstance)> = meant
            .iter()
            .filter(|it| it.place == place.address)
            .map(|it| (it.offer.id.clone(), it.instance.clone()))
            .collect();
        let endpoint = endpoints.iter().find(|it| it.base_url() == place.address);
        let (Some(endpoint), false) = (endpoint, here.is_empty()) else {
            continue;
        };
        let lms = client::lms_program(env);
        let stay = engine::unload(
            endpoint,
            &here,
            args.force,
            &state,
            lms.as_deref(),
            begun.connect_timeouts,
        )
        .await?;
        for (_, instance) in &here {
            if !stay.contains(&instance.id) {
                messages.status(&format!("{} unloaded {}", place.display_name, instance.id));
            }
        }
        left.extend(stay);
    }
    if left.is_empty() {
        if meant.is_empty() {
            messages.status("nothing is loaded that this program loaded");
        }
        return Ok(Exit::Done);
    }
    Err(Failure::new(
        Exit::Model,
        format!(
            "this program did not load {}, and left it as it is",
            left.iter()
                .map(|it| format!("`{it}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    )
    .hint("--force unloads it all the same"))
}

/// What `ps --json` prints.
#[derive(Serialize)]
struct PsReport {
    schema: u32,
    instances: Vec<PsInstance>,
}

#[derive(Serialize)]
struct PsInstance {
    id: String,
    model: String,
    engine: String,
    kind: &'static str,
    context: Option<u32>,
    size_bytes: Option<u64>,
    ours: bool,
}

/// Runs `ps`.
///
/// # Errors
/// No server answers.
pub(crate) async fn ps(args: PsArgs, env: &Env, interrupt: Cancel<'_>) -> Result<Exit, Failure> {
    let begun = command_setup(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let state = client::ownership_folder(env);
    let servers = match &begun.selection {
        EngineSelection::Embedded => EngineSelection::Servers(Vec::new()),
        EngineSelection::Servers(it) | EngineSelection::Auto(it) => {
            EngineSelection::Servers(it.clone())
        }
    };
    let models = env.paths.data.join("models");
    let mut ignore = |_: &std::path::Path| {};
    let mut asked = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        it = query_catalog(&servers, &models, &state, begun.connect_timeouts, &mut ignore) => it,
    };
    if let Some(refused) = asked.server_error.take() {
        return Err(refused.into());
    }
    warn_about_problems(&asked, messages);
    let mut instances = Vec::new();
    for place in &asked.engines {
        for offer in place.models.iter().flatten() {
            for it in &offer.instances {
                instances.push(PsInstance {
                    id: it.id.clone(),
                    model: offer.id.clone(),
                    engine: place.address.clone(),
                    kind: place.kind,
                    context: it.context,
                    size_bytes: offer.size_bytes,
                    ours: it.is_owned,
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
        messages.status("nothing is loaded");
        return Ok(Exit::Done);
    }
    let rows = instances.iter().map(|it| {
        vec![
            escape_for_terminal(&it.id, env),
            it.engine.clone(),
            it.context
                .map_or_else(|| "-".to_owned(), |it| it.to_string()),
            it.size_bytes
                .map_or_else(|| "-".to_owned(), engine::format_bytes),
            if it.ours {
                "this program"
            } else {
                "somebody else"
            }
            .to_owned(),
        ]
    });
    let head = ["instance", "engine", "context", "size", "loaded by"];
    print(&format_table(&head, rows.collect()))?;
    Ok(Exit::Done)
}
