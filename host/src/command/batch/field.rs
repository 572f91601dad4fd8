//! Which models take part: what the engines have, and what the plan means of it,
//! in the order in which they run.

use std::path::Path;

use jiff::Timestamp;

use super::super::models::{fits, record};
use super::super::resolve_args;
use crate::args::Model as ModelFlags;
use crate::batch::{Plan, Speed, Wish, is_pattern, means};
use crate::config::Config;
use crate::engine::{
    self, DEMO, EMBEDDED, Endpoint, Memory, Offer, Offered, Reach, Survey, Wanted, survey,
};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::Layer;
use crate::job::Interrupt;
use crate::pack::ModelFacts;
use crate::registry::{ModelRecord, Registry, Row, Sort, sort};
use crate::sink::Messages;
use crate::suggest::closest;

/// The word for all models.
const ALL: &str = "all";

/// A model that takes part.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// A server's address, or `embedded`.
    pub(super) place: String,
    /// `lmstudio`, `ollama`, …
    pub(super) kind: &'static str,
    /// The server, for models that are not in this process.
    pub(super) endpoint: Option<Endpoint>,
    /// What the engine calls it.
    pub(super) id: String,
    /// What files and tables call it.
    pub(super) label: String,
    pub(super) aliases: Vec<String>,
    pub(super) quantization: Option<String>,
    pub(super) architecture: Option<String>,
    /// The most context that works: what was tested, else what it was made for.
    pub(super) most_context: Option<u32>,
    pub(super) instances: Vec<Offered>,
    pub(super) tokens_per_byte: Option<f64>,
    pub(super) speed: Speed,
    /// What the plan wants of it.
    pub(super) wish: Wish,
    pub(super) jobs: Option<usize>,
    pub(super) settings: Layer,
}

impl Model {
    /// What packs are told of it. The same in every run, so that what they make
    /// of it is, too.
    pub(super) fn facts(&self) -> ModelFacts {
        let mut extra = vec![("engine".to_owned(), self.kind.to_owned())];
        if self.kind == EMBEDDED {
            extra.push(("format".to_owned(), "gguf".to_owned()));
        }
        extra.extend(
            self.quantization
                .clone()
                .map(|it| ("quantization".to_owned(), it)),
        );
        ModelFacts {
            id: self.id.clone(),
            architecture: self.architecture.clone(),
            context_length: match self.wish {
                Wish::Tokens(tokens) => Some(tokens),
                Wish::Fit | Wish::Percent(_) => self.most_context,
            },
            extra,
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        !self.instances.is_empty()
    }

    /// The name by which a plan means exactly this model.
    pub(super) fn exact(&self) -> String {
        let at_place = format!("{}@{}", self.id, self.place);
        if self.label == at_place {
            at_place
        } else {
            self.id.clone()
        }
    }

    /// Whether a name or a pattern of the plan means it.
    pub(super) fn is_meant(&self, pattern: &str) -> bool {
        pattern == ALL || pattern == self.label || means(pattern, &self.id, &self.aliases)
    }
}

/// A model that an engine has, with what is known of it.
struct Found<'a> {
    place: &'a str,
    kind: &'static str,
    offer: &'a Offer,
}

/// Asks the engines, and finds the models of the plan.
pub(super) async fn models(
    plan: &Plan,
    force: bool,
    env: &Env,
    config: &Config,
    messages: Messages,
    mut interrupt: Interrupt<'_>,
) -> Result<Vec<Model>, Failure> {
    let (reach, _) = resolve_args::reach(env, config)?;
    let wanted = resolve_args::wanted(plan.engine.as_deref(), env, config, messages)?;
    let names = match plan.models.as_slice() {
        [] => vec![
            usual(
                plan,
                force,
                env,
                config,
                reach,
                messages,
                interrupt.as_mut(),
            )
            .await?,
        ],
        names => names.to_vec(),
    };
    let folder = env.paths.data.join("models");
    let state = resolve_args::claims(env);
    let mut seen = |_: &Path| {};
    let mut asked = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        it = survey(&wanted, &folder, &state, reach, &mut seen) => it,
    };
    for place in &asked.places {
        if let Err(why) = &place.models {
            messages.warning(&format!("{}: {why}", place.shown));
        }
    }
    let files = file_offers(&names)?;
    let refused = asked.refused.take();
    let found = chosen(&names, &asked, &files, &wanted);
    let found = match (found, refused) {
        (Ok(found), _) => found,
        // Nothing was found because nobody answered: that is what to say.
        (Err(_), Some(refused)) => return Err(refused.into()),
        (Err(failure), None) => return Err(failure),
    };
    let mut registry = resolve_args::known(env, messages);
    for place in &asked.places {
        let records: Vec<(String, ModelRecord)> = place
            .models
            .iter()
            .flatten()
            .map(|it| (it.id.clone(), record(it)))
            .collect();
        registry.scanned(
            &place.place,
            place.kind,
            place.version.as_deref(),
            records,
            Timestamp::now(),
            // Files in LM Studio's folder were not looked at here.
            |id| Path::new(id).is_absolute(),
        );
    }
    let endpoints = match &wanted {
        Wanted::Embedded => &[][..],
        Wanted::Servers(it) | Wanted::Auto(it) => it,
    };
    Ok(ordered(&found, &registry, endpoints, plan))
}

/// The model that `infer` would take.
async fn usual(
    plan: &Plan,
    force: bool,
    env: &Env,
    config: &Config,
    reach: Reach,
    messages: Messages,
    interrupt: Interrupt<'_>,
) -> Result<String, Failure> {
    let flags = ModelFlags {
        engine: plan.engine.clone(),
        force,
        ..ModelFlags::default()
    };
    let choice = resolve_args::choice(&flags, env, config, reach, messages)?;
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        chosen = engine::choose(choice) => Ok(chosen?.model),
    }
}

/// Whether a model is named by its file.
fn is_file(name: &str) -> bool {
    name.ends_with(".gguf") && (!is_pattern(name) || Path::new(name).is_file())
}

/// Models that are named by their files.
fn file_offers(names: &[String]) -> Result<Vec<Offer>, Failure> {
    names
        .iter()
        .filter(|it| is_file(it))
        .map(|it| {
            let path = std::path::absolute(it)
                .map_err(|e| Failure::usage(format!("the model's file {it}: {e}")))?;
            Ok(Offer::of_file(&path)?)
        })
        .collect()
}

fn chosen<'a>(
    names: &[String],
    asked: &'a Survey,
    files: &'a [Offer],
    wanted: &Wanted,
) -> Result<Vec<Found<'a>>, Failure> {
    let mut all: Vec<Found<'a>> = Vec::new();
    for place in &asked.places {
        all.extend(place.models.iter().flatten().map(|offer| Found {
            place: &place.place,
            kind: place.kind,
            offer,
        }));
    }
    let can_answer = |it: &Found<'_>| !it.offer.embeds_only;
    // What runs in this process answers only when it is asked for, and the demo
    // model only by its name: nobody must take its answers for a real one's.
    let in_patterns = |it: &Found<'_>| match (it.kind, wanted) {
        (EMBEDDED, Wanted::Embedded) => it.offer.id != DEMO,
        (EMBEDDED, _) => false,
        _ => can_answer(it),
    };
    let mut picked: Vec<Found<'a>> = Vec::new();
    let mut put = |it: &Found<'a>| {
        let same = |known: &Found<'_>| known.place == it.place && known.offer.id == it.offer.id;
        if !picked.iter().any(same) {
            picked.push(Found { ..*it });
        }
    };
    for name in names {
        if is_file(name) {
            let path = std::path::absolute(name).unwrap_or_default();
            let path = path.display().to_string();
            for offer in files.iter().filter(|it| it.id == path) {
                put(&Found {
                    place: EMBEDDED,
                    kind: EMBEDDED,
                    offer,
                });
            }
            continue;
        }
        // One of two engines that have it, as labels say it.
        let at_place = |it: &&Found<'a>| *name == format!("{}@{}", it.offer.id, it.place);
        if let Some(it) = all.iter().find(at_place) {
            put(it);
            continue;
        }
        let is_many = name == ALL || is_pattern(name);
        let mut found = all.iter().filter(|it| {
            if is_many {
                in_patterns(it) && (name == ALL || means(name, &it.offer.id, &it.offer.aliases))
            } else {
                can_answer(it) && means(name, &it.offer.id, &it.offer.aliases)
            }
        });
        if is_many {
            let before = found.next();
            let Some(first) = before else {
                return Err(nothing(name, &all));
            };
            put(first);
            found.for_each(&mut put);
        } else {
            // A name means one model, at the first engine that has it.
            let Some(first) = found.next() else {
                return Err(nothing(name, &all));
            };
            put(first);
        }
    }
    Ok(picked)
}

fn nothing(name: &str, all: &[Found<'_>]) -> Failure {
    let failure = Failure::new(Exit::Model, format!("no model is meant by `{name}`"));
    let ids = || all.iter().map(|it| it.offer.id.as_str());
    let close = closest(name, ids());
    let failure = match close.first() {
        Some(close) => failure.hint(format!("did you mean `{close}`?")),
        None => failure,
    };
    let known: Vec<&str> = ids().take(20).collect();
    failure.hint(format!("there are: {}", known.join(", ")))
}

/// By `smart`: loaded ones first, then those that fit, then the fastest.
fn ordered(
    found: &[Found<'_>],
    registry: &Registry,
    endpoints: &[Endpoint],
    plan: &Plan,
) -> Vec<Model> {
    let memory = Memory::here();
    let records: Vec<ModelRecord> = found
        .iter()
        .map(|it| {
            let known = registry.model(it.place, &it.offer.id).cloned();
            known.unwrap_or_else(|| record(it.offer))
        })
        .collect();
    let mut rows: Vec<Row<'_>> = found
        .iter()
        .zip(&records)
        .map(|(it, model)| Row {
            engine: it.place,
            id: &it.offer.id,
            fits: fits(it.place, model, memory),
            model,
        })
        .collect();
    sort(&mut rows, Sort::Smart, false);
    let mut models = Vec::new();
    for row in rows {
        let same = |it: &&Found<'_>| it.place == row.engine && it.offer.id == row.id;
        let Some(it) = found.iter().find(same) else {
            continue;
        };
        let twin = |other: &&Found<'_>| other.offer.id == row.id && other.place != row.engine;
        let label = match (it.kind, found.iter().find(twin)) {
            (EMBEDDED, _) if row.id.ends_with(".gguf") => {
                let stem = Path::new(row.id).file_stem().unwrap_or_default();
                stem.to_string_lossy().into_owned()
            }
            // The same name at two engines: which one is part of the name.
            (_, Some(_)) => format!("{}@{}", row.id, it.place),
            _ => row.id.to_owned(),
        };
        let mut model = Model {
            place: row.engine.to_owned(),
            kind: it.kind,
            endpoint: endpoints.iter().find(|it| it.base() == row.engine).cloned(),
            id: row.id.to_owned(),
            label,
            aliases: it.offer.aliases.clone(),
            quantization: it.offer.quantization.clone(),
            architecture: it.offer.architecture.clone(),
            most_context: most_context(row.model, it.offer),
            instances: it.offer.instances.clone(),
            tokens_per_byte: row.model.tokens_per_byte.median(),
            speed: Speed {
                load_s: row.model.speeds.load_s.median(),
                prefill: row.model.speeds.prefill.median(),
                decode: row.model.speeds.decode.median(),
                job_s: None,
            },
            wish: plan.context.unwrap_or(Wish::Fit),
            jobs: plan.jobs,
            settings: Layer::default(),
        };
        for entry in &plan.overrides {
            if !model.is_meant(&entry.pattern) {
                continue;
            }
            // The first that says something of a value has it.
            model.settings = std::mem::take(&mut model.settings).over(entry.settings.clone());
        }
        let meant = || {
            plan.overrides
                .iter()
                .filter(|it| model.is_meant(&it.pattern))
        };
        let wish = meant().find_map(|it| it.context);
        let jobs = meant().find_map(|it| it.jobs);
        model.wish = wish.unwrap_or(model.wish);
        model.jobs = jobs.or(model.jobs);
        models.push(model);
    }
    models
}

fn most_context(record: &ModelRecord, offer: &Offer) -> Option<u32> {
    let declared = offer.declared.or(record.declared_context);
    let tested = record.tested.as_ref().map(|it| it.context);
    match (tested, declared) {
        (Some(tested), Some(declared)) => Some(tested.min(declared)),
        (tested, declared) => tested.or(declared),
    }
}
