//! `load`, `unload` and `ps`.

use std::time::Instant;

use serde::Serialize;

use super::{print, print_json, problems, shown, start, table};
use crate::args::{Load, Model, Ps, Unload};
use crate::command::resolve_args;
use crate::engine::{self, EMBEDDED, Endpoint, Offer, Offered, Wanted, survey};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::Event;
use crate::job::{Failed, Interrupt, Sinks, ensure};
use crate::sink::{Messages, Sink};
use crate::suggest::closest;

/// Runs `load`.
///
/// # Errors
/// The model is not known, does not fit, or the server cannot load it.
pub(crate) async fn load(
    args: Load,
    env: &Env,
    mut interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let begun = start(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let (_, limits) = resolve_args::reach(env, &begun.config)?;
    let model = Model {
        model: Some(args.model.clone()),
        engine: args.engines.engine,
        context: args.context,
        reload: args.reload,
        unload: false,
        force: args.force,
    };
    let choice = resolve_args::choice(&model, env, &begun.config, begun.reach, messages)?;
    let chosen = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        chosen = engine::choose(choice) => chosen?,
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
    let shown_engine = chosen.shown();
    let mut said = Said(messages);
    let mut sinks: Sinks<'_> = vec![&mut said];
    let begin = Instant::now();
    let ready = ensure(chosen, &mut sinks, interrupt, limits, begin)
        .await
        .map_err(|failed| match failed {
            Failed::Expired(expired) => Failure::from(expired).hint(
                "the server may go on loading; `ps` shows it, and a second `load` waits for it",
            ),
            failed => failed.into(),
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
    print(&format!("{}\n", shown(ready.instance(), env)))?;
    Ok(Exit::Done)
}

/// Says that loading has begun, once.
struct Said(Messages);

impl Sink for Said {
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
    args: Unload,
    env: &Env,
    interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let begun = start(&args.common, &args.engines, env)?;
    let work = unload_now(&args, env, &begun);
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        done = work => done,
    }
}

/// An instance, and where it is.
struct Loaded<'a> {
    place: &'a str,
    offer: &'a Offer,
    instance: &'a Offered,
}

impl Loaded<'_> {
    fn is_model(&self, name: &str) -> bool {
        self.offer.id == name || self.offer.aliases.iter().any(|it| it == name)
    }
}

async fn unload_now(args: &Unload, env: &Env, begun: &super::Start) -> Result<Exit, Failure> {
    let messages = begun.messages;
    let state = resolve_args::claims(env);
    let endpoints: &[Endpoint] = match &begun.wanted {
        Wanted::Embedded => &[],
        Wanted::Servers(it) | Wanted::Auto(it) => it,
    };
    let servers = Wanted::Servers(endpoints.to_vec());
    let models = env.paths.data.join("models");
    let mut asked = survey(&servers, &models, &state, begun.reach, &mut |_| {}).await;
    if let Some(refused) = asked.refused.take() {
        return Err(refused.into());
    }
    problems(&asked, messages);
    let mut loaded: Vec<Loaded<'_>> = Vec::new();
    for place in &asked.places {
        for offer in place.models.iter().flatten() {
            loaded.extend(offer.instances.iter().map(|instance| Loaded {
                place: &place.place,
                offer,
                instance,
            }));
        }
    }
    let mut meant: Vec<&Loaded<'_>> = Vec::new();
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
            let close = closest(name, names);
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
            .filter(|it| args.force || it.instance.is_ours)
            .collect();
    }
    let mut left = Vec::new();
    for place in &asked.places {
        let here: Vec<(String, Offered)> = meant
            .iter()
            .filter(|it| it.place == place.place)
            .map(|it| (it.offer.id.clone(), it.instance.clone()))
            .collect();
        let endpoint = endpoints.iter().find(|it| it.base() == place.place);
        let (Some(endpoint), false) = (endpoint, here.is_empty()) else {
            continue;
        };
        let lms = resolve_args::lms(env);
        let stay = engine::unload(
            endpoint,
            &here,
            args.force,
            &state,
            lms.as_deref(),
            begun.reach,
        )
        .await?;
        for (_, instance) in &here {
            if !stay.contains(&instance.id) {
                messages.status(&format!("{} unloaded {}", place.shown, instance.id));
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
struct Running {
    schema: u32,
    instances: Vec<RunningInstance>,
}

#[derive(Serialize)]
struct RunningInstance {
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
pub(crate) async fn ps(args: Ps, env: &Env, interrupt: Interrupt<'_>) -> Result<Exit, Failure> {
    let begun = start(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    let state = resolve_args::claims(env);
    let servers = match &begun.wanted {
        Wanted::Embedded => Wanted::Servers(Vec::new()),
        Wanted::Servers(it) | Wanted::Auto(it) => Wanted::Servers(it.clone()),
    };
    let models = env.paths.data.join("models");
    let mut ignore = |_: &std::path::Path| {};
    let mut asked = tokio::select! {
        biased;
        () = interrupt => return Err(Failure::interrupted()),
        it = survey(&servers, &models, &state, begun.reach, &mut ignore) => it,
    };
    if let Some(refused) = asked.refused.take() {
        return Err(refused.into());
    }
    problems(&asked, messages);
    let mut instances = Vec::new();
    for place in &asked.places {
        for offer in place.models.iter().flatten() {
            for it in &offer.instances {
                instances.push(RunningInstance {
                    id: it.id.clone(),
                    model: offer.id.clone(),
                    engine: place.place.clone(),
                    kind: place.kind,
                    context: it.context,
                    size_bytes: offer.size_bytes,
                    ours: it.is_ours,
                });
            }
        }
    }
    if args.json {
        print_json(
            &Running {
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
            shown(&it.id, env),
            it.engine.clone(),
            it.context
                .map_or_else(|| "-".to_owned(), |it| it.to_string()),
            it.size_bytes
                .map_or_else(|| "-".to_owned(), engine::gigabytes),
            if it.ours {
                "this program"
            } else {
                "somebody else"
            }
            .to_owned(),
        ]
    });
    let head = ["instance", "engine", "context", "size", "loaded by"];
    print(&table(&head, rows.collect()))?;
    Ok(Exit::Done)
}
