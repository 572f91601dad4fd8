//! The jobs of a plan, each with its prompt resolved once, its name, and what is
//! to be done about it: everything that can be wrong before a model is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::asking;
use super::field::Model;
use super::intent::Manner;
use super::packs::{Packs, Question};
use crate::args::{Asked, Sampling};
use crate::batch::{
    self, Cell, Combination, Decision, Identity, Input, InputEntry, InputFrom, JOURNAL, Need, Of,
    OnDisk, Parts, Past, Plan, Planned, Post, State, Template, combinations,
};
use crate::config::Config;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::{Layer, Origin, Prompt, Settings, settle};
use crate::pack::ProcessorRef;
use crate::pipeline::{Ask, Chain, Prepared};
use crate::sink::Messages;
use crate::tokens::Estimate;

/// How many prompts wait for the packs at once: each holds the files that it is
/// made from.
const AHEAD: usize = 32;
/// How many of several failures are shown.
const SHOWN: usize = 5;
/// The extension of a result that asks for none.
const EXTENSION: &str = "txt";

/// A prompt of the plan, ready to be asked.
pub(super) struct Entry {
    pub(super) label: String,
    pub(super) models: Vec<String>,
    pub(super) combinations: Vec<Combination>,
    /// Without parameters.
    ask: Ask,
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
    /// Flags, environment and config.
    layers: [(Origin, Layer); 3],
    plan_settings: Layer,
}

/// A job, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) cell: Cell,
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) key: String,
    pub(super) prompt_bytes: u64,
    pub(super) need: Need,
    pub(super) decision: Decision,
    /// Lengths of files in its place that an earlier run wrote.
    pub(super) ours: Vec<u64>,
    /// The length of an earlier failure that stands in the result's place.
    pub(super) inline: Option<u64>,
}

impl Job {
    pub(super) fn runs(&self) -> bool {
        matches!(self.decision, Decision::Run { .. })
    }
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
        let layers = asking::layers(sampling, env, config)?;
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
            let asked = Asked {
                prompt: it.name.clone(),
                prompts: own.files.clone(),
                pack: own.packs.clone(),
                pack_dir: own.pack_dirs.clone(),
                system: own.system.clone(),
                raw: own.raw.unwrap_or(false),
                ..Asked::default()
            };
            let mut ask = asking::ask(&asked, env, config)?;
            ask.post = own.post.as_deref().map(processors).transpose()?;
            shelves.push(asking::shelf(&asked, env, config, messages)?);
            entries.push(Entry {
                identity: of_entry(&ask, &own.pack_dirs, env),
                label,
                models: it.models.clone(),
                combinations: combinations(&own.params),
                ask,
                settings: it.settings.clone(),
            });
        }
        Ok(Self {
            entries,
            inputs: inputs(plan)?,
            models,
            packs: Packs::start(shelves)?,
            strict: plan.results.strict,
            layers,
            plan_settings: plan.settings.clone(),
        })
    }

    fn entry(&self, cell: Cell) -> Option<&Entry> {
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
    fn key(&self, cell: Cell) -> String {
        let mut key = self
            .entry(cell)
            .map(|it| it.identity.clone())
            .unwrap_or_default();
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
        key.add("job", &format!("{:?} {:?}", of.input, of.prompt));
        key.finish()
    }

    /// What a job is.
    fn identity(&self, cell: Cell, prepared: &Prepared, settings: &Settings) -> String {
        let resolved = &prepared.resolved;
        let mut identity = Identity::default();
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
            Post::Typed(text) => asking::processor(text),
            Post::Named(name, options) => Ok(ProcessorRef {
                name: name.clone(),
                options: options.clone(),
            }),
        })
        .collect()
}

/// All that a prompt is made of but parameters, inputs and models: the files, and
/// every pack that it could meet, by size and time.
fn of_entry(ask: &Ask, pack_dirs: &[PathBuf], env: &Env) -> Identity {
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

fn inputs(plan: &Plan) -> Result<Vec<Input>, Failure> {
    let mut all = Vec::new();
    for it in &plan.inputs {
        let here = Path::new("");
        match it {
            InputEntry::Files(path) => {
                all.extend(batch::files(here, &path.to_string_lossy()).map_err(of_input)?);
            }
            InputEntry::Any(path) => {
                all.extend(batch::inputs(here, &path.to_string_lossy()).map_err(of_input)?);
            }
            InputEntry::Text { name, text } => all.push(Input {
                name: name.clone(),
                from: InputFrom::Text(text.clone()),
            }),
        }
    }
    batch::distinct(all).map_err(of_input)
}

fn of_input(error: batch::InputError) -> Failure {
    let failure = Failure::usage(crate::error::chain(&error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What came of looking at all jobs.
pub(super) struct Planning {
    pub(super) jobs: Vec<Job>,
    pub(super) template: Template,
    /// Told once each.
    pub(super) warnings: Vec<String>,
    /// Jobs that are another part's.
    pub(super) elsewhere: usize,
}

/// Looks at all jobs. Prompts of jobs that the journal knows as they are need no
/// pack; all others are resolved.
pub(super) async fn plan_jobs(
    stuff: &Stuff,
    plan: &Plan,
    manner: &Manner,
    past: &Past,
    out: &Path,
    messages: Messages,
) -> Result<Planning, Failure> {
    let counts: Vec<usize> = stuff
        .entries
        .iter()
        .map(|it| it.combinations.len())
        .collect();
    let takes = |prompt: usize, model: usize| {
        let (Some(entry), Some(model)) = (stuff.entries.get(prompt), stuff.models.get(model))
        else {
            return false;
        };
        entry.models.is_empty() || entry.models.iter().any(|it| model.is_meant(it))
    };
    let mut cells = batch::cells(&counts, stuff.inputs.len(), stuff.models.len(), takes);
    let all = cells.len();
    if let Some(shard) = manner.shard {
        cells = of_shard(stuff, &cells, shard);
    }
    let template = template(stuff, plan, past)?;
    let mut warnings = Vec::new();
    let mut made: Vec<Option<Made>> = Vec::new();
    let mut unknown = Vec::new();
    for cell in &cells {
        let key = stuff.key(*cell);
        let known = past.by_key.get(&key).and_then(|name| {
            let known = past.jobs.get(name)?;
            let kept = known.kept.as_ref().filter(|_| known.state == State::Done)?;
            Some(Made {
                name: name.clone(),
                identity: kept.identity.clone(),
                key: key.clone(),
                prompt_bytes: known.size.0,
                need: Need {
                    prompt: 0,
                    context: known.size.1,
                },
            })
        });
        if known.is_none() {
            unknown.push((made.len(), *cell, key));
        }
        made.push(known);
    }
    if unknown.len() > 200 {
        messages.status(&format!("resolving {} prompts", unknown.len()));
    }
    let mut failures = Vec::new();
    let mut opened = vec![false; stuff.entries.len()];
    for some in unknown.chunks(AHEAD) {
        let mut waiting = Vec::new();
        for (at, cell, key) in some {
            let preparing = stuff.question(*cell).map(|it| stuff.packs.prepare(it));
            waiting.push((*at, *cell, key, preparing));
        }
        for (at, cell, key, preparing) in waiting {
            let prepared = match preparing {
                Ok(preparing) => preparing.wait().await,
                Err(failure) => Err(failure),
            };
            let prepared = match prepared {
                Ok(prepared) => {
                    // Wrong options show when a processor is opened.
                    let first = opened
                        .get_mut(cell.prompt)
                        .map(|it| std::mem::replace(it, true));
                    match first {
                        Some(false) => Chain::open(prepared.steps.clone())
                            .await
                            .map(|_| prepared)
                            .map_err(Failure::from),
                        _ => Ok(prepared),
                    }
                }
                failed => failed,
            };
            let it = match prepared {
                Ok(prepared) => {
                    for warning in &prepared.warnings {
                        let warning = format!("{}: {warning}", stuff.of(cell).prompt);
                        if !warnings.contains(&warning) {
                            warnings.push(warning);
                        }
                    }
                    of_prepared(stuff, cell, &prepared, key, &template)
                }
                // What the user can mend ends the run before anything is paid.
                Err(failure) if failure.exit == Exit::Usage => {
                    failures.push((cell, failure));
                    continue;
                }
                // A pack that fails costs its jobs, and they say so when it is
                // their turn.
                Err(_) => Made {
                    name: name(stuff, cell, &template, EXTENSION),
                    identity: "unresolved".to_owned(),
                    key: key.clone(),
                    prompt_bytes: 0,
                    need: Need::default(),
                },
            };
            if let Some(place) = made.get_mut(at) {
                *place = Some(it);
            }
        }
        if failures.len() >= SHOWN {
            break;
        }
    }
    if let Some(failure) = unmade(stuff, failures) {
        return Err(failure);
    }
    let mut jobs = Vec::with_capacity(cells.len());
    for (cell, made) in cells.iter().zip(made) {
        let Some(made) = made else { continue };
        jobs.push(decided(*cell, made, manner, past, out));
    }
    check_names(stuff, &jobs, &template)?;
    Ok(Planning {
        elsewhere: all - cells.len(),
        jobs,
        template,
        warnings,
    })
}

struct Made {
    name: String,
    identity: String,
    key: String,
    prompt_bytes: u64,
    need: Need,
}

fn of_prepared(
    stuff: &Stuff,
    cell: Cell,
    prepared: &Prepared,
    key: &str,
    template: &Template,
) -> Made {
    let resolved = &prepared.resolved;
    let settings = stuff.settings(cell, resolved.settings.clone(), Layer::default());
    let per_byte = stuff.model(cell).and_then(|it| it.tokens_per_byte);
    let texts: Vec<&str> = match &resolved.prompt {
        Prompt::Raw(text) => vec![text],
        Prompt::Chat(messages) => messages.iter().map(|it| it.content.as_str()).collect(),
    };
    let bytes: usize = texts.iter().map(|it| it.len()).sum();
    let estimate = Estimate::new(texts, per_byte);
    let extension = resolved.extension.as_deref().unwrap_or(EXTENSION);
    Made {
        name: name(stuff, cell, template, extension),
        identity: stuff.identity(cell, prepared, &settings),
        key: key.to_owned(),
        prompt_bytes: bytes as u64,
        need: batch::need(estimate, settings.max_tokens.value),
    }
}

fn decided(cell: Cell, made: Made, manner: &Manner, past: &Past, out: &Path) -> Job {
    let known = past.jobs.get(&made.name);
    let path = out.join(&made.name);
    let on_disk = match fs::symlink_metadata(&path) {
        Err(_) => OnDisk::Absent,
        Ok(it) => {
            let kept = known.and_then(|it| it.kept.as_ref());
            let is_right = || {
                let kept = kept.filter(|kept| manner.verify && kept.length == it.len());
                kept.is_none_or(|kept| {
                    fs::read(&path).is_ok_and(|it| batch::file_digest(&it) == kept.sha256)
                })
            };
            if is_right() {
                OnDisk::There(it.len())
            } else {
                OnDisk::Altered(it.len())
            }
        }
    };
    let planned = Planned {
        identity: &made.identity,
        known,
        on_disk,
    };
    let mut decision = batch::decide(planned, manner.policy);
    let has_failed = matches!(known.map(|it| &it.state), Some(State::Failed(_)));
    if manner.only_failed && matches!(decision, Decision::Run { .. }) && !has_failed {
        decision = Decision::Skip;
    }
    let mut ours = Vec::new();
    let mut written_inline = None;
    if let Some(known) = known {
        ours.extend(known.kept.as_ref().map(|it| it.length));
        if let State::Failed(Some(inline)) = known.state {
            ours.push(inline);
            written_inline = Some(inline);
        }
    }
    // One whose digest is wrong is nobody's to replace.
    if matches!(on_disk, OnDisk::Altered(_)) {
        ours.clear();
    }
    Job {
        cell,
        name: made.name,
        identity: made.identity,
        key: made.key,
        prompt_bytes: made.prompt_bytes,
        need: made.need,
        decision,
        ours,
        inline: written_inline,
    }
}

fn name(stuff: &Stuff, cell: Cell, template: &Template, extension: &str) -> String {
    let axes = stuff.combination(cell).map(|it| it.axes.as_slice());
    let parts = Parts {
        prompt: stuff.entry(cell).map_or("", |it| &it.label),
        model: stuff.model(cell).map_or("", |it| &it.label),
        input: stuff.input(cell).map(|it| it.name.as_str()),
        params: axes.unwrap_or_default(),
    };
    template.name(&parts, extension)
}

/// The template is fixed by the folder's first run.
fn template(stuff: &Stuff, plan: &Plan, past: &Past) -> Result<Template, Failure> {
    let parse = |text: &str| {
        Template::parse(text)
            .map_err(|why| Failure::usage(format!("the template of names `{text}`: {why}")))
    };
    match (&past.head, &plan.name) {
        (Some(head), Some(name)) if head.name != *name => Err(Failure::usage(format!(
            "the names in this folder are made by `{}`, and not by `{name}`",
            head.name
        ))
        .hint("another folder (-o) takes other names")),
        (Some(head), _) => parse(&head.name),
        (None, Some(name)) => parse(name),
        (None, None) => {
            let many = |it: &InputEntry| matches!(it, InputEntry::Any(_));
            let has_inputs = stuff.inputs.len() > 1 || plan.inputs.iter().any(many);
            let has_axes = stuff.entries.iter().any(|it| it.combinations.len() > 1);
            Ok(Template::usual(has_inputs, has_axes))
        }
    }
}

/// No two jobs share a name, and none has one of ours.
fn check_names(stuff: &Stuff, jobs: &[Job], template: &Template) -> Result<(), Failure> {
    let shown = |cell: Cell| {
        let of = stuff.of(cell);
        let mut text = format!("`{}` on `{}`", of.prompt, of.model);
        if let Some(input) = &of.input {
            text += &format!(", input `{input}`");
        }
        for (name, value) in &of.params {
            text += &format!(", {name}={value}");
        }
        text
    };
    let mut seen: BTreeMap<String, Cell> = BTreeMap::new();
    for job in jobs {
        if job.name == JOURNAL {
            return Err(Failure::usage(format!(
                "the result of {} would be called {JOURNAL}, which is the journal's name",
                shown(job.cell)
            )));
        }
        if let Some(other) = seen.insert(batch::key(&job.name), job.cell) {
            return Err(Failure::usage(format!(
                "the names made by `{}` do not tell apart {} and {}: both are {}",
                template.as_str(),
                shown(other),
                shown(job.cell),
                job.name
            ))
            .hint("--name takes {prompt}, {model}, {input} and {params}; a folder keeps its template, so another one (-o) may be needed"));
        }
    }
    Ok(())
}

/// What cannot be made, of all that can be seen at once.
fn unmade(stuff: &Stuff, failures: Vec<(Cell, Failure)>) -> Option<Failure> {
    let several = failures.len() > 1;
    let mut failures = failures.into_iter();
    let (cell, first) = failures.next()?;
    let with = |cell: Cell, message: &str| match stuff.input(cell) {
        Some(input) => format!("input `{}`: {message}", input.name),
        None => message.to_owned(),
    };
    let mut failure = Failure {
        message: with(cell, &first.message),
        ..first
    };
    if several {
        let mut texts = vec![failure.message.clone()];
        for (cell, other) in failures.take(SHOWN - 1) {
            let text = with(cell, &other.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        failure.message = texts.join("\n");
    }
    Some(failure.hint("nothing was loaded and nothing written"))
}

/// The jobs of one part of the plan, by model first.
fn of_shard(stuff: &Stuff, cells: &[Cell], shard: batch::Shard) -> Vec<Cell> {
    let names: Vec<String> = cells
        .iter()
        .map(|cell| {
            let of = stuff.of(*cell);
            format!("{:?} {:?} {:?}", of.prompt, of.input, of.params)
        })
        .collect();
    let mut by_model: Vec<(&str, f64, Vec<&str>)> = Vec::new();
    let mut places: Vec<Vec<Cell>> = Vec::new();
    for (index, model) in stuff.models.iter().enumerate() {
        let mut own = Vec::new();
        let mut own_cells = Vec::new();
        for (cell, name) in cells.iter().zip(&names) {
            if cell.model == index {
                own.push(name.as_str());
                own_cells.push(*cell);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = own.len() as f64;
        by_model.push((&model.label, weight, own));
        places.push(own_cells);
    }
    let taken = batch::split(&by_model, shard);
    places
        .into_iter()
        .zip(taken)
        .flat_map(|(cells, taken)| {
            let both = cells.into_iter().zip(taken);
            both.filter_map(|(cell, is_ours)| is_ours.then_some(cell))
        })
        .collect()
}
