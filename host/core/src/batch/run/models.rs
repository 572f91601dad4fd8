//! The models of a batch: what the engines have, matched with the plan, in the order in
//! which they run.

use std::path::Path;

use jiff::Timestamp;
use lmstrix_inference::SettingsLayer;
use lmstrix_sandbox::ModelFacts;

use super::event::SharedObserver;
use super::setup::BatchSetup;
use crate::batch::{ModelSpeed, Plan, PlanContext, is_pattern, matches_model};
use crate::client::{self, LoadPolicy, Notices, fits_memory, model_record};
use crate::engine::{
    Catalog, CatalogModel, ConnectTimeouts, DEMO, EMBEDDED, EngineSelection, LoadedInstance,
    Memory, ServerAddress, query_catalog, select_model,
};
use crate::error::{Error, ErrorKind};
use crate::job::{Cancel, ModelReference};
use crate::registry::{ModelRecord, Registry, SortKey, SortRow, sort_models};
use crate::suggest::similar_names;

/// The name that stands for all models.
const ALL: &str = "all";

/// A model of the batch.
#[derive(Clone, Debug)]
pub struct BatchModel {
    /// A server's address, or `embedded`.
    pub place: String,
    /// The engine's kind: `lmstudio`, `ollama`, …
    pub kind: &'static str,
    /// The model's name at its engine.
    pub id: String,
    /// The model's name in files and tables.
    pub label: String,
    /// The context length that the plan asks for.
    pub plan_context: PlanContext,
    /// The most jobs at once, where the plan limits them.
    pub jobs: Option<usize>,
    /// Speeds that the registry knows.
    pub speed: ModelSpeed,
    pub(super) server: Option<ServerAddress>,
    pub(super) aliases: Vec<String>,
    pub(super) quantization: Option<String>,
    pub(super) architecture: Option<String>,
    /// The largest context length that works: the tested one, else the declared one.
    pub(super) largest_context: Option<u32>,
    pub(super) instances: Vec<LoadedInstance>,
    pub(super) tokens_per_byte: Option<f64>,
    /// Settings of the plan for this model.
    pub(super) settings: SettingsLayer,
}

impl BatchModel {
    /// Returns what packs get to know of the model. It is the same in every run, so
    /// that what packs make of it is the same, too.
    pub(super) fn facts(&self) -> ModelFacts {
        let mut extra = vec![("engine".to_owned(), self.kind.to_owned())];
        if self.kind == EMBEDDED {
            extra.push(("format".to_owned(), "gguf".to_owned()));
        }
        extra.extend(
            self.quantization
                .clone()
                .map(|quantization| ("quantization".to_owned(), quantization)),
        );
        ModelFacts {
            id: self.id.clone(),
            architecture: self.architecture.clone(),
            context_length: match self.plan_context {
                PlanContext::Tokens(tokens) => Some(tokens),
                PlanContext::Fit | PlanContext::Percent(_) => self.largest_context,
            },
            extra,
        }
    }

    /// Returns whether the model was loaded before the run.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        !self.instances.is_empty()
    }

    /// Returns the name by which a plan selects exactly this model.
    pub(super) fn exact_name(&self) -> String {
        let at_place = format!("{}@{}", self.id, self.place);
        if self.label == at_place {
            at_place
        } else {
            self.id.clone()
        }
    }

    /// Returns whether a name or pattern of the plan matches the model.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        pattern == ALL || pattern == self.label || matches_model(pattern, &self.id, &self.aliases)
    }
}

/// A model that an engine lists.
#[derive(Clone, Copy)]
struct ListedModel<'a> {
    place: &'a str,
    kind: &'static str,
    model: &'a CatalogModel,
}

impl ListedModel<'_> {
    fn is_same(&self, other: &ListedModel<'_>) -> bool {
        self.place == other.place && self.model.id == other.model.id
    }
}

/// Asks the engines for their models and selects those of the plan.
///
/// # Errors
/// Returns an error if a name matches no model, or if no engine answers.
pub(super) async fn select_models(
    setup: &BatchSetup<'_>,
    connect: ConnectTimeouts,
    observer: &SharedObserver,
    mut cancel: Cancel<'_>,
) -> Result<Vec<BatchModel>, Error> {
    let BatchSetup {
        plan, env, config, ..
    } = setup;
    let notices = &observer.notices();
    let selection = client::engine_selection(plan.engine.as_deref(), env, config, notices)?;
    let names = match plan.models.as_slice() {
        [] => vec![default_model(setup, connect, notices, cancel.as_mut()).await?],
        names => names.to_vec(),
    };
    let folder = env.paths.data.join("models");
    let state = client::ownership_folder(env);
    let mut ignore_files = |_: &Path| {};
    let mut catalog = tokio::select! {
        biased;
        () = &mut cancel => return Err(Error::interrupted()),
        catalog = query_catalog(&selection, &folder, &state, connect, &mut ignore_files) => catalog,
    };
    for engine in &catalog.engines {
        if let Err(cause) = &engine.models {
            observer.warning(&format!("{}: {cause}", engine.display_name));
        }
    }
    let files = named_files(&names, &selection)?;
    let server_error = catalog.server_error.take();
    let listed = match (
        match_names(&names, &catalog, &files, &selection),
        server_error,
    ) {
        (Ok(listed), _) => listed,
        // No model matches because no server answered: that is the cause to report.
        (Err(_), Some(error)) => return Err(error.into()),
        (Err(failure), None) => return Err(failure),
    };
    let mut registry = client::read_registry(env, notices);
    for engine in &catalog.engines {
        let records: Vec<(String, ModelRecord)> = engine
            .models
            .iter()
            .flatten()
            .map(|model| (model.id.clone(), model_record(model)))
            .collect();
        registry.apply_scan(
            &engine.address,
            engine.kind,
            engine.version.as_deref(),
            records,
            Timestamp::now(),
            // Files in LM Studio's folder were not examined here.
            |id| Path::new(id).is_absolute(),
        );
    }
    Ok(ordered(&listed, &registry, selection.servers(), plan))
}

/// Returns the model that `infer` would select.
async fn default_model(
    setup: &BatchSetup<'_>,
    connect: ConnectTimeouts,
    notices: &Notices,
    cancel: Cancel<'_>,
) -> Result<String, Error> {
    let model = ModelReference {
        engine: setup.plan.engine.clone(),
        ..ModelReference::default()
    };
    let load = LoadPolicy {
        force: setup.options.force,
        ..LoadPolicy::default()
    };
    let query = client::model_query(&model, load, setup.env, setup.config, connect, notices)?;
    tokio::select! {
        biased;
        () = cancel => Err(Error::interrupted()),
        model = select_model(query) => Ok(model?.model),
    }
}

/// Returns whether a model is named by its file.
fn names_file(name: &str, selection: &EngineSelection) -> bool {
    selection.can_mean_file()
        && name.ends_with(".gguf")
        && (!is_pattern(name) || Path::new(name).is_file())
}

/// Reads the models that are named by their files.
fn named_files(names: &[String], selection: &EngineSelection) -> Result<Vec<CatalogModel>, Error> {
    names
        .iter()
        .filter(|name| names_file(name, selection))
        .map(|name| {
            let path = std::path::absolute(name)
                .map_err(|error| Error::usage(format!("model file {name}: {error}")))?;
            Ok(CatalogModel::from_file(&path)?)
        })
        .collect()
}

fn match_names<'a>(
    names: &[String],
    catalog: &'a Catalog,
    files: &'a [CatalogModel],
    selection: &EngineSelection,
) -> Result<Vec<ListedModel<'a>>, Error> {
    let mut all: Vec<ListedModel<'a>> = Vec::new();
    for engine in &catalog.engines {
        all.extend(engine.models.iter().flatten().map(|model| ListedModel {
            place: &engine.address,
            kind: engine.kind,
            model,
        }));
    }
    // The embedded engine takes part in patterns only when it was named, and the demo
    // model only by its own name: its answers must not pass for a real model's.
    let in_patterns = |listed: &ListedModel<'_>| match (listed.kind, selection) {
        (EMBEDDED, EngineSelection::Embedded) => listed.model.id != DEMO,
        (EMBEDDED, _) => false,
        _ => !listed.model.embeds_only,
    };
    let mut selected: Vec<ListedModel<'a>> = Vec::new();
    let mut select = |listed: &ListedModel<'a>| {
        if !selected.iter().any(|known| known.is_same(listed)) {
            selected.push(*listed);
        }
    };
    for name in names {
        if names_file(name, selection) {
            let path = std::path::absolute(name).unwrap_or_default();
            let path = path.display().to_string();
            for model in files.iter().filter(|model| model.id == path) {
                select(&ListedModel {
                    place: EMBEDDED,
                    kind: EMBEDDED,
                    model,
                });
            }
            continue;
        }
        // One of two engines that have the model, as labels name it.
        let at_place =
            |listed: &&ListedModel<'a>| *name == format!("{}@{}", listed.model.id, listed.place);
        if let Some(listed) = all.iter().find(at_place) {
            select(listed);
            continue;
        }
        let is_pattern = name == ALL || is_pattern(name);
        let mut matching = all.iter().filter(|listed| {
            let model = listed.model;
            if is_pattern {
                in_patterns(listed)
                    && (name == ALL || matches_model(name, &model.id, &model.aliases))
            } else {
                !model.embeds_only && matches_model(name, &model.id, &model.aliases)
            }
        });
        let Some(first) = matching.next() else {
            return Err(no_model(name, &all));
        };
        select(first);
        // A name selects one model, at the first engine that has it.
        if is_pattern {
            matching.for_each(&mut select);
        }
    }
    Ok(selected)
}

fn no_model(name: &str, all: &[ListedModel<'_>]) -> Error {
    let failure = Error::new(ErrorKind::Model, format!("no model matches `{name}`"));
    let ids = || all.iter().map(|listed| listed.model.id.as_str());
    let similar = similar_names(name, ids());
    let failure = match similar.first() {
        Some(similar) => failure.hint(format!("did you mean `{similar}`?")),
        None => failure,
    };
    let known: Vec<&str> = ids().take(20).collect();
    failure.hint(format!("available models: {}", known.join(", ")))
}

/// Orders the models as `list` does with `smart`: loaded ones first, then those that
/// fit into memory, then the fastest.
fn ordered(
    listed: &[ListedModel<'_>],
    registry: &Registry,
    servers: &[ServerAddress],
    plan: &Plan,
) -> Vec<BatchModel> {
    let memory = Memory::detect();
    let records: Vec<ModelRecord> = listed
        .iter()
        .map(|listed| {
            let known = registry.model(listed.place, &listed.model.id).cloned();
            known.unwrap_or_else(|| model_record(listed.model))
        })
        .collect();
    let mut rows: Vec<SortRow<'_>> = listed
        .iter()
        .zip(&records)
        .map(|(listed, model)| SortRow {
            engine: listed.place,
            id: &listed.model.id,
            fits: fits_memory(listed.place, model, memory),
            model,
        })
        .collect();
    sort_models(&mut rows, SortKey::Smart, false);
    rows.iter()
        .filter_map(|row| {
            let of_row =
                |listed: &&ListedModel<'_>| listed.place == row.engine && listed.model.id == row.id;
            let model = listed.iter().find(of_row)?;
            let has_twin = listed
                .iter()
                .any(|other| other.model.id == row.id && other.place != row.engine);
            Some(batch_model(model, has_twin, row.model, servers, plan))
        })
        .collect()
}

fn batch_model(
    listed: &ListedModel<'_>,
    has_twin: bool,
    record: &ModelRecord,
    servers: &[ServerAddress],
    plan: &Plan,
) -> BatchModel {
    let ListedModel { place, kind, model } = *listed;
    let label = if kind == EMBEDDED && model.id.ends_with(".gguf") {
        let stem = Path::new(&model.id).file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    } else if has_twin {
        // Two engines have a model of this name, so the engine is part of the label.
        format!("{}@{place}", model.id)
    } else {
        model.id.clone()
    };
    let mut batch_model = BatchModel {
        place: place.to_owned(),
        kind,
        server: servers
            .iter()
            .find(|server| server.base_url() == place)
            .cloned(),
        id: model.id.clone(),
        label,
        aliases: model.aliases.clone(),
        quantization: model.quantization.clone(),
        architecture: model.architecture.clone(),
        largest_context: largest_context(record, model),
        instances: model.instances.clone(),
        tokens_per_byte: record.tokens_per_byte.median(),
        speed: ModelSpeed {
            load_s: record.speeds.load_s.median(),
            prefill: record.speeds.prefill.median(),
            decode: record.speeds.decode.median(),
            job_s: None,
        },
        plan_context: plan.context.unwrap_or(PlanContext::Fit),
        jobs: plan.jobs,
        settings: SettingsLayer::default(),
    };
    let overrides: Vec<_> = plan
        .overrides
        .iter()
        .filter(|entry| batch_model.matches(&entry.pattern))
        .collect();
    // The first entry that has a value wins.
    for entry in &overrides {
        let stronger = std::mem::take(&mut batch_model.settings);
        batch_model.settings = stronger.over(entry.settings.clone());
    }
    if let Some(context) = overrides.iter().find_map(|entry| entry.context) {
        batch_model.plan_context = context;
    }
    if let Some(jobs) = overrides.iter().find_map(|entry| entry.jobs) {
        batch_model.jobs = Some(jobs);
    }
    batch_model
}

fn largest_context(record: &ModelRecord, model: &CatalogModel) -> Option<u32> {
    let declared = model.declared_context.or(record.declared_context);
    let tested = record.tested.as_ref().map(|tested| tested.context);
    match (tested, declared) {
        (Some(tested), Some(declared)) => Some(tested.min(declared)),
        (tested, declared) => tested.or(declared),
    }
}
