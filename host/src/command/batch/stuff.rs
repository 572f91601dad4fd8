//! What jobs are made of: prompts that are ready to be asked, inputs, models, and
//! the settings that hold; and what a job is, as a key and as an identity.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::models::count;
use super::super::resolve_args;
use super::field::Model;
use super::packs::{Packs, Question};
use crate::args::{Asked, Sampling};
use crate::batch::{
    self, Cell, Combination, Identity, Input, InputEntry, InputFrom, Of, Plan, Post, Values,
    combinations,
};
use crate::config::Config;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::{Layer, Origin, Settings, settle};
use crate::job::{PromptRequest, ResolvedJob};
use crate::pack::ProcessorRef;
use crate::sink::Messages;

/// A prompt of the plan, ready to be asked.
pub(super) struct Entry {
    pub(super) label: String,
    pub(super) models: Vec<String>,
    pub(super) combinations: Vec<Combination>,
    /// Without parameters.
    ask: PromptRequest,
    settings: Layer,
    identity: Identity,
}

/// Everything that jobs are made of.
pub(super) struct Stuff {
    pub(super) entries: Vec<Entry>,
    pub(super) inputs: Vec<Input>,
    pub(super) models: Vec<Model>,
    pub(super) packs: Packs,
    pub(super) strict: bool,
    tags_stay: bool,
    /// Flags, environment and config.
    layers: [(Origin, Layer); 3],
    plan_settings: Layer,
}

impl Stuff {
    /// Reads prompt files and inputs, and starts the packs.
    pub(super) fn new(
        plan: &Plan,
        models: Vec<Model>,
        sampling: &Sampling,
        env: &Env,
        config: &Config,
        messages: Messages,
    ) -> Result<Self, Failure> {
        let layers = resolve_args::layers(sampling, env, config)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut shelves = Vec::new();
        for it in &plan.prompts {
            let label = it.label().to_owned();
            if entries.iter().any(|known| known.label == label) {
                return Err(Failure::usage(format!(
                    "two prompts of the plan are called `{label}`"
                ))
                .hint("in a plan file, `label` gives each a name of its own"));
            }
            for pattern in &it.models {
                if !models.iter().any(|model| model.is_meant(pattern)) {
                    return Err(Failure::new(
                        Exit::Model,
                        format!(
                            "the prompt `{label}` is for `{pattern}`, which is no model of the plan"
                        ),
                    ));
                }
            }
            let own = it.asked(&plan.usual);
            for (name, values) in &own.params {
                if let Values::Axis(values) = values
                    && let Some(twice) = values
                        .iter()
                        .enumerate()
                        .find(|(at, it)| values[..*at].contains(it))
                {
                    return Err(Failure::usage(format!(
                        "the axis `{name}` has the value `{}` twice",
                        twice.1
                    )));
                }
            }
            let asked = Asked {
                prompt: it.name.clone(),
                prompts: own.files.clone(),
                pack: own.packs.clone(),
                pack_dir: own.pack_dirs.clone(),
                system: own.system.clone(),
                raw: own.raw.unwrap_or(false),
                ..Asked::default()
            };
            let mut ask = resolve_args::ask(&asked, env, config)?;
            ask.post = own.post.as_deref().map(processors).transpose()?;
            shelves.push(resolve_args::shelf(&asked, env, config, messages)?);
            entries.push(Entry {
                identity: of_entry(&ask, &own.pack_dirs, env),
                label,
                models: it.models.clone(),
                combinations: combinations(&own.params),
                ask,
                settings: it.settings.clone(),
            });
        }
        let inputs = inputs(plan, messages)?;
        Ok(Self {
            entries,
            inputs,
            models,
            packs: Packs::start(shelves)?,
            strict: plan.results.strict,
            tags_stay: plan.results.tags_stay,
            layers,
            plan_settings: plan.settings.clone(),
        })
    }

    pub(super) fn entry(&self, cell: Cell) -> Option<&Entry> {
        self.entries.get(cell.prompt)
    }

    pub(super) fn combination(&self, cell: Cell) -> Option<&Combination> {
        self.entry(cell)?.combinations.get(cell.combination)
    }

    pub(super) fn input(&self, cell: Cell) -> Option<&Input> {
        self.inputs.get(cell.input?)
    }

    pub(super) fn model(&self, cell: Cell) -> Option<&Model> {
        self.models.get(cell.model)
    }

    /// The job in words.
    pub(super) fn of(&self, cell: Cell) -> Of {
        let model = self.model(cell);
        Of {
            engine: model.map(|it| it.place.clone()).unwrap_or_default(),
            model: model.map(|it| it.id.clone()).unwrap_or_default(),
            quantization: model.and_then(|it| it.quantization.clone()),
            prompt: self
                .entry(cell)
                .map(|it| it.label.clone())
                .unwrap_or_default(),
            input: self.input(cell).map(|it| it.name.clone()),
            params: self
                .combination(cell)
                .map(|it| it.axes.clone())
                .unwrap_or_default(),
        }
    }

    /// What the packs are asked for a job. Reads its input.
    pub(super) fn question(&self, cell: Cell) -> Result<Question, Failure> {
        let missing = || Failure::new(Exit::Broken, "a job without a prompt or a model");
        let entry = self.entry(cell).ok_or_else(missing)?;
        let model = self.model(cell).ok_or_else(missing)?;
        let mut ask = entry.ask.clone();
        ask.params = self
            .combination(cell)
            .map(|it| it.params.clone())
            .unwrap_or_default();
        if let Some(input) = self.input(cell) {
            // What an input says of itself goes before what holds for all.
            for (name, value) in input.params().map_err(of_input)? {
                ask.params.retain(|(known, _)| *known != name);
                ask.params.push((name, value));
            }
        }
        Ok(Question {
            entry: cell.prompt,
            ask,
            model: model.facts(),
        })
    }

    /// The settings of a job, where its prompt gives these.
    pub(super) fn settings(&self, cell: Cell, prompt: Layer, recommended: Layer) -> Settings {
        settle(&self.given(cell, prompt, recommended))
    }

    /// The names of settings that must not be lost.
    pub(super) fn required(&self, cell: Cell, prompt: Layer) -> Vec<String> {
        if !self.strict {
            return Vec::new();
        }
        let given = self.given(cell, prompt, Layer::default());
        let mut names: Vec<String> = given
            .iter()
            .flat_map(|(_, layer)| layer.names())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn given(&self, cell: Cell, prompt: Layer, recommended: Layer) -> [(Origin, Layer); 6] {
        let [flags, environment, written] = self.layers.clone();
        let of_model = self
            .model(cell)
            .map(|it| it.settings.clone())
            .unwrap_or_default();
        let of_prompt = self
            .entry(cell)
            .map(|it| it.settings.clone())
            .unwrap_or_default();
        let plan = of_model.over(of_prompt).over(self.plan_settings.clone());
        [
            flags,
            (Origin::Plan, plan),
            environment,
            (Origin::Prompt, prompt),
            written,
            (Origin::ModelFile, recommended),
        ]
    }

    /// What a job is made of, before any pack sees it: while that is the same,
    /// so is what the packs make of it.
    pub(super) fn key(&self, cell: Cell) -> String {
        let mut key = self
            .entry(cell)
            .map(|it| it.identity.clone())
            .unwrap_or_default();
        key.add("tags", if self.tags_stay { "none" } else { "auto" });
        key.add(
            "settings",
            &format!("{:?}", self.given(cell, Layer::default(), Layer::default())),
        );
        if let Some(model) = self.model(cell) {
            key.add(
                "model",
                &format!("{:?} {} {:?}", model.facts(), model.place, model.wish),
            );
        }
        for (name, value) in self.combination(cell).iter().flat_map(|it| &it.params) {
            key.add(name, value);
        }
        match self.input(cell).map(|it| (&it.name, &it.from)) {
            None => {}
            Some((_, InputFrom::File { sha256, .. })) => key.add("file", sha256),
            Some((_, InputFrom::Text(text))) => key.add("text", text),
            Some((_, InputFrom::Row { params })) => {
                for (name, value) in params {
                    key.add(name, value);
                }
            }
        }
        // Two jobs may be made of the same and differ in name alone.
        let of = self.of(cell);
        key.add(
            "job",
            &format!("{:?} {:?} {:?}", of.input, of.prompt, of.params),
        );
        key.finish()
    }

    /// What a job is.
    pub(super) fn identity(
        &self,
        cell: Cell,
        prepared: &ResolvedJob,
        settings: &Settings,
    ) -> String {
        let resolved = &prepared.resolved;
        let mut identity = Identity::default();
        if self.tags_stay {
            identity.add("reasoning_tags", "none");
        }
        identity.add(
            "prompt",
            &serde_json::to_string(&resolved.prompt).unwrap_or_default(),
        );
        identity.add("settings", &given_settings(settings));
        identity.add("resolver", prepared.resolver.digest());
        for step in &prepared.steps {
            identity.add("processor", step.pack.digest());
            identity.add(
                &step.context.processor,
                &format!("{:?}", step.context.options),
            );
        }
        if let Some(model) = self.model(cell) {
            identity.add("model", &model.id);
            identity.add(
                "quantization",
                model.quantization.as_deref().unwrap_or_default(),
            );
            if let batch::Wish::Tokens(tokens) = model.wish {
                identity.add("context", &tokens.to_string());
            }
        }
        identity.finish()
    }
}

/// What somebody gave, by name; what the model's file recommends and the
/// defaults do not make another job.
fn given_settings(settings: &Settings) -> String {
    let mut given: Vec<String> = settings.given().iter().map(|it| (*it).to_owned()).collect();
    given.sort();
    let values = serde_json::to_value(settings).unwrap_or_default();
    let of = |name: &String| {
        let value = values.get(name).or_else(|| values.get("other")?.get(name));
        let value = value
            .and_then(|it| it.get("value"))
            .cloned()
            .unwrap_or_default();
        format!("{name}={value}")
    };
    given.iter().map(of).collect::<Vec<_>>().join("\n")
}

fn processors(post: &[Post]) -> Result<Vec<ProcessorRef>, Failure> {
    post.iter()
        .map(|it| match it {
            Post::Typed(text) => resolve_args::processor(text),
            Post::Named(name, options) => Ok(ProcessorRef {
                name: name.clone(),
                options: options.clone(),
            }),
        })
        .collect()
}

/// All that a prompt is made of but parameters, inputs and models: the files, and
/// every pack that it could meet, by size and time.
fn of_entry(ask: &PromptRequest, pack_dirs: &[PathBuf], env: &Env) -> Identity {
    let mut identity = Identity::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("prompt", &ask.typed)
        .with("stock", &ask.stock.text)
        .with(
            "system",
            &format!("{:?} {} {:?}", ask.system, ask.raw, ask.post),
        );
    for file in &ask.files {
        identity.add(&file.name, &file.text);
    }
    // This program holds the standard pack.
    add_file(&env.program, &mut identity);
    let mut folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    folders.extend(pack_dirs.iter().cloned());
    for folder in folders {
        add_folder(&folder, 2, &mut identity);
    }
    for pack in &ask.packs {
        identity.add("pack", pack);
        let path = Path::new(pack);
        add_file(path, &mut identity);
        add_file(&path.with_extension("toml"), &mut identity);
        add_folder(&path.with_extension(""), 1, &mut identity);
    }
    identity
}

fn add_folder(folder: &Path, depth: usize, identity: &mut Identity) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .collect();
    paths.sort();
    for path in paths {
        add_file(&path, identity);
        if depth > 1 && path.is_dir() {
            add_folder(&path, depth - 1, identity);
        }
    }
}

fn add_file(path: &Path, identity: &mut Identity) {
    let Ok(it) = fs::metadata(path) else { return };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    identity.add(&name, &format!("{} {:?}", it.len(), it.modified().ok()));
}

fn inputs(plan: &Plan, messages: Messages) -> Result<Vec<Input>, Failure> {
    let results = Results::of(plan.out.as_deref());
    let left_out = std::cell::Cell::new(0_usize);
    let skip = |path: &Path| {
        let is_result = results.has(path);
        left_out.set(left_out.get() + usize::from(is_result));
        is_result
    };
    let mut all = Vec::new();
    for it in &plan.inputs {
        let here = Path::new("");
        match it {
            InputEntry::Files(path) => {
                let files = batch::files(here, &path.to_string_lossy(), &skip);
                all.extend(files.map_err(of_input)?);
            }
            InputEntry::Any(path) => {
                let inputs = batch::inputs(here, &path.to_string_lossy(), &skip);
                all.extend(inputs.map_err(of_input)?);
            }
            InputEntry::Text { name, text } => all.push(Input {
                name: name.clone(),
                from: InputFrom::Text(text.clone()),
            }),
        }
    }
    if left_out.get() > 0 {
        messages.warning(&format!(
            "{} that a pattern matches {} of this batch, and no input",
            count(left_out.get(), "file"),
            if left_out.get() == 1 {
                "is a result"
            } else {
                "are results"
            }
        ));
    }
    if all.is_empty() && !plan.inputs.is_empty() {
        // Without any, each prompt would be asked once, and about nothing.
        return Err(Failure::usage("all inputs are results of this batch"));
    }
    batch::distinct(all).map_err(of_input)
}

/// What lies in the folder of the results: no inputs of the batch that makes them,
/// though a pattern may match them.
struct Results {
    folder: Option<PathBuf>,
    jobs: Vec<String>,
}

impl Results {
    fn of(out: Option<&Path>) -> Self {
        let folder = out.and_then(|it| fs::canonicalize(it).ok());
        let past = folder.as_deref().and_then(|it| batch::read(it).ok());
        let jobs = past.map(|it| it.jobs.into_keys().collect());
        Self {
            folder,
            jobs: jobs.unwrap_or_default(),
        }
    }

    /// A result, or what lies beside one.
    fn has(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else {
            return false;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.parent() == self.folder.as_deref()
            && self.folder.is_some()
            && self.jobs.iter().any(|job| name.starts_with(job.as_str()))
    }
}

fn of_input(error: batch::InputError) -> Failure {
    let failure = Failure::usage(crate::error::chain(&error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
