//! A model of the batch: what its engine and the registry know of it, and what the plan
//! asks of it.

use std::path::Path;

use lmstrix_inference::SettingsLayer;
use lmstrix_sandbox::ModelFacts;

use super::listed_model::ListedModel;
use crate::batch::{ModelSpeed, Plan, PlanContext, is_pattern, matches_model};
use crate::engine::{CatalogModel, LoadedInstance, ServerAddress, display_model, runs_files};
use crate::registry::ModelRecord;

/// The name that stands for all models.
pub(super) const ALL: &str = "all";

/// A model of the batch.
#[derive(Clone, Debug)]
pub struct BatchModel {
    /// A server's address, `llama.cpp` or `embedded`.
    pub place: String,
    /// The engine's kind: `lmstudio`, `ollama`, …
    pub kind: &'static str,
    /// The model's name at its engine.
    pub id: String,
    /// The model's name in files and tables.
    pub label: String,
    /// True if the plan selects the model by its name and not by a pattern.
    pub(super) is_named: bool,
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
    /// Whether the model takes images, if known.
    pub(super) vision: Option<bool>,
    /// The largest context length that works: the tested one, else the declared one.
    pub(super) largest_context: Option<u32>,
    pub(super) instances: Vec<LoadedInstance>,
    pub(super) tokens_per_byte: Option<f64>,
    /// Settings of the plan for this model.
    pub(super) settings: SettingsLayer,
}

impl BatchModel {
    /// Returns what packs get to know of the model, besides the limit of the answer. It is the
    /// same in every run, so that what packs make of it is the same, too.
    pub(super) fn facts(&self) -> ModelFacts {
        let mut extra = vec![("engine".to_owned(), self.kind.to_owned())];
        if runs_files(self.kind) {
            extra.push(("format".to_owned(), "gguf".to_owned()));
        }
        extra.extend(
            self.quantization
                .clone()
                .map(|quantization| ("quantization".to_owned(), quantization)),
        );
        let vision = self.vision.map(|vision| vision.to_string());
        extra.extend(vision.map(|vision| ("vision".to_owned(), vision)));
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

    /// Returns whether one of `names` is the model's name, and not a pattern.
    pub(super) fn is_named_in(&self, names: &[String]) -> bool {
        let is_name = |name: &&String| *name != ALL && !is_pattern(name);
        names.iter().filter(is_name).any(|name| self.matches(name))
    }

    /// Returns whether a name or pattern of the plan matches the model.
    pub(super) fn matches(&self, pattern: &str) -> bool {
        pattern == ALL || pattern == self.label || matches_model(pattern, &self.id, &self.aliases)
    }
}

/// Creates the model of a batch. `has_twin` is true if another engine has a model of the
/// same name.
pub(super) fn batch_model(
    listed: &ListedModel<'_>,
    has_twin: bool,
    record: &ModelRecord,
    servers: &[ServerAddress],
    plan: &Plan,
) -> BatchModel {
    let ListedModel { place, kind, model } = *listed;
    let mut batch_model = BatchModel {
        place: place.to_owned(),
        kind,
        server: servers
            .iter()
            .find(|server| server.base_url() == place)
            .cloned(),
        id: model.id.clone(),
        label: label(listed, has_twin),
        aliases: model.aliases.clone(),
        quantization: model.quantization.clone(),
        architecture: model.architecture.clone(),
        vision: model.vision,
        largest_context: largest_context(record, model),
        instances: model.instances.clone(),
        tokens_per_byte: record.tokens_per_byte_median(),
        speed: ModelSpeed {
            load_s: record.speeds.load_s.median(),
            prefill: record.speeds.prefill.median(),
            decode: record.speeds.decode.median(),
            job_s: None,
        },
        is_named: false,
        plan_context: plan.context.unwrap_or(PlanContext::Fit),
        jobs: plan.jobs,
        settings: SettingsLayer::default(),
    };
    batch_model.is_named = plan.models.is_empty() || batch_model.is_named_in(&plan.models);
    apply_overrides(&mut batch_model, plan);
    batch_model
}

/// Returns the model's name in files and tables.
fn label(listed: &ListedModel<'_>, has_twin: bool) -> String {
    let name = model_name(&listed.model.id);
    let is_file = runs_files(listed.kind) && name != listed.model.id;
    if has_twin && !is_file {
        // Two engines have a model of this name, so the engine is part of the label.
        format!("{name}@{}", listed.place)
    } else {
        name.to_owned()
    }
}

/// Returns the name of a model in files and tables: of a GGUF file, its stem.
pub(super) fn model_name(id: &str) -> &str {
    let name = display_model(id);
    match Path::new(name).extension() {
        Some(extension) if extension.eq_ignore_ascii_case("gguf") => Path::new(name)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or(name),
        _ => name,
    }
}

/// Applies the entries of the plan that are for the model.
fn apply_overrides(batch_model: &mut BatchModel, plan: &Plan) {
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
}

fn largest_context(record: &ModelRecord, model: &CatalogModel) -> Option<u32> {
    let declared = model.declared_context.or(record.declared_context);
    let tested = record.tested.as_ref().map(|tested| tested.context);
    match (tested, declared) {
        (Some(tested), Some(declared)) => Some(tested.min(declared)),
        (tested, declared) => tested.or(declared),
    }
}
