//! The inputs of jobs: prompts, texts, models and settings; and the key and the identity
//! of a job.

use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_inference::{ContextSize, Settings, SettingsLayer};
use lmstrix_sandbox::{ProcessorRef, STANDARD_WASM};

use super::event::SharedObserver;
use super::identity_text;
use super::models::BatchModel;
use super::prompt_resolver::{PromptResolver, ResolveJob};
use super::setup::BatchSetup;
use crate::batch::{
    self, Combination, IdentityHasher, Input, InputEntry, InputSource, JobCoordinates, JobLabels,
    ParamValues, Plan, PlanContext, ProcessorEntry, combinations,
};
use crate::client::{self, Notices, Request};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::job::{
    JobSpec, ModelReference, PackSet, PromptRequest, ResolvedJob, SettingsByOrigin, Timeouts,
};
use crate::quantity::count;
use crate::store::sha256_hex;

/// A prompt of the plan.
pub(super) struct PlanPrompt {
    pub(super) label: String,
    /// Names and patterns of the models that the prompt is for; empty for all.
    pub(super) models: Vec<String>,
    pub(super) combinations: Vec<Combination>,
    /// The request without parameters.
    request: PromptRequest,
    settings: SettingsLayer,
    /// The digest of everything but parameters, inputs and models.
    identity: IdentityHasher,
}

/// Everything that jobs are made of.
pub(super) struct JobInputs {
    pub(super) prompts: Vec<PlanPrompt>,
    pub(super) inputs: Vec<Input>,
    pub(super) models: Vec<BatchModel>,
    pub(super) resolver: PromptResolver,
    settings: SettingsByOrigin,
    timeouts: Timeouts,
    strict: bool,
    keep_reasoning_tags: bool,
}

impl JobInputs {
    /// Reads prompt files and inputs, and starts the packs' thread.
    pub(super) fn read(
        setup: &BatchSetup<'_>,
        models: Vec<BatchModel>,
        timeouts: Timeouts,
        observer: &SharedObserver,
    ) -> Result<Self, Error> {
        let plan = &setup.plan;
        let mut settings =
            client::settings_by_origin(setup.settings.clone(), setup.env, setup.config)?;
        settings.plan.clone_from(&plan.settings);
        let mut prompts: Vec<PlanPrompt> = Vec::new();
        let mut packs = Vec::new();
        for entry in &plan.prompts {
            let (prompt, of_prompt) = plan_prompt(entry, setup, &observer.notices())?;
            if prompts.iter().any(|known| known.label == prompt.label) {
                return Err(Error::usage(format!(
                    "two prompts of the plan are called `{}`",
                    prompt.label
                ))
                .hint("`label` in a plan file gives a prompt another name"));
            }
            for pattern in &prompt.models {
                if !models.iter().any(|model| model.matches(pattern)) {
                    return Err(Error::new(
                        ErrorKind::Model,
                        format!(
                            "the prompt `{}` is for `{pattern}`, which matches no model of the plan",
                            prompt.label
                        ),
                    ));
                }
            }
            packs.push(of_prompt);
            prompts.push(prompt);
        }
        Ok(Self {
            prompts,
            inputs: inputs(plan, &setup.out, observer)?,
            models,
            resolver: PromptResolver::start(packs)?,
            settings,
            timeouts,
            strict: plan.results.strict,
            keep_reasoning_tags: plan.results.keep_reasoning_tags,
        })
    }

    pub(super) fn prompt(&self, job: JobCoordinates) -> Option<&PlanPrompt> {
        self.prompts.get(job.prompt)
    }

    pub(super) fn combination(&self, job: JobCoordinates) -> Option<&Combination> {
        self.prompt(job)?.combinations.get(job.combination)
    }

    pub(super) fn input(&self, job: JobCoordinates) -> Option<&Input> {
        self.inputs.get(job.input?)
    }

    pub(super) fn model(&self, job: JobCoordinates) -> Option<&BatchModel> {
        self.models.get(job.model)
    }

    /// Returns how journal and tables describe the job.
    pub(super) fn labels(&self, job: JobCoordinates) -> JobLabels {
        let model = self.model(job);
        JobLabels {
            engine: model.map(|model| model.place.clone()).unwrap_or_default(),
            model: model.map(|model| model.id.clone()).unwrap_or_default(),
            quantization: model.and_then(|model| model.quantization.clone()),
            prompt: self
                .prompt(job)
                .map(|prompt| prompt.label.clone())
                .unwrap_or_default(),
            input: self.input(job).map(|input| input.name.clone()),
            params: self
                .combination(job)
                .map(|combination| combination.axes.clone())
                .unwrap_or_default(),
        }
    }

    /// Returns the request to the packs for a job. Reads its input.
    pub(super) fn resolve_job(&self, job: JobCoordinates) -> Result<ResolveJob, Error> {
        let missing = || {
            Error::new(
                ErrorKind::Broken,
                "invalid job: it has no prompt or no model",
            )
        };
        let prompt = self.prompt(job).ok_or_else(missing)?;
        let model = self.model(job).ok_or_else(missing)?;
        let mut request = prompt.request.clone();
        request.params = self
            .combination(job)
            .map(|combination| combination.params.clone())
            .unwrap_or_default();
        if let Some(input) = self.input(job) {
            // Parameters of the input win over those of the prompt.
            for (name, value) in input.params().map_err(of_input)? {
                request.params.retain(|(known, _)| *known != name);
                request.params.push((name, value));
            }
            // A table may have columns that a prompt does not use.
            if let InputSource::Row { params } = &input.source {
                request.optional_params = params.iter().map(|(name, _)| name.clone()).collect();
            }
        }
        Ok(ResolveJob {
            plan_prompt: job.prompt,
            prompt: request,
            model: model.facts(),
        })
    }

    /// Returns the spec of a job. Of the prompt it has the address only; `resolve_job`
    /// returns the rest.
    pub(super) fn spec(&self, job: JobCoordinates) -> JobSpec {
        let model = self.model(job);
        let prompt = self.prompt(job);
        let mut settings = self.settings.clone();
        let of_plan = std::mem::take(&mut settings.plan);
        let of_prompt = prompt.map(|prompt| prompt.settings.clone());
        let of_model = model.map(|model| model.settings.clone());
        settings.plan = of_model
            .unwrap_or_default()
            .over(of_prompt.unwrap_or_default())
            .over(of_plan);
        JobSpec {
            prompt: PromptRequest {
                address: prompt
                    .map(|prompt| prompt.request.address.clone())
                    .unwrap_or_default(),
                ..PromptRequest::default()
            },
            model: ModelReference {
                engine: model.map(|model| model.place.clone()),
                model: model.map(|model| model.id.clone()),
                context: match model.map(|model| model.plan_context) {
                    Some(PlanContext::Tokens(tokens)) => Some(ContextSize::Tokens(tokens)),
                    Some(PlanContext::Percent(percent)) => Some(ContextSize::Percent(percent)),
                    Some(PlanContext::Fit) | None => None,
                },
            },
            settings,
            timeouts: self.timeouts,
            strict: self.strict,
            split_reasoning: !self.keep_reasoning_tags,
        }
    }

    /// Returns the digest of a job's inputs before any pack processes them. Jobs with the
    /// same key have the same resolved prompt.
    pub(super) fn key(&self, job: JobCoordinates) -> String {
        let mut key = self
            .prompt(job)
            .map(|prompt| prompt.identity.clone())
            .unwrap_or_default();
        let spec = JobSpec {
            // Neither changes what is asked.
            timeouts: Timeouts::default(),
            strict: false,
            ..self.spec(job)
        };
        key.add("spec", &json(&spec));
        if let Some(model) = self.model(job) {
            key.add("model", &json(&model.facts()));
        }
        for (name, value) in self
            .combination(job)
            .iter()
            .flat_map(|combination| &combination.params)
        {
            key.add(name, value);
        }
        match self.input(job).map(|input| &input.source) {
            None => {}
            Some(InputSource::File { sha256, .. }) => key.add("file", sha256),
            Some(InputSource::Text(text)) => key.add("text", text),
            Some(InputSource::Row { params }) => {
                for (name, value) in params {
                    key.add(name, value);
                }
            }
        }
        // Two jobs may be made of the same and differ in their labels alone.
        let labels = self.labels(job);
        key.add("job", &json(&(labels.input, labels.prompt, labels.params)));
        key.finish()
    }

    /// Returns the digest of the request of a job: the resolved prompt, the settings that
    /// were given, the packs and the model. A finished job with the same identity is
    /// not run again.
    pub(super) fn identity(
        &self,
        job: JobCoordinates,
        resolved: &ResolvedJob,
        settings: &Settings,
    ) -> String {
        let mut identity = IdentityHasher::default();
        if self.keep_reasoning_tags {
            identity.add("reasoning_tags", "none");
        }
        identity.add("prompt", &json(&resolved.resolved.prompt));
        identity.add("settings", &given_settings(settings));
        identity.add("resolver", resolved.resolver.digest());
        for step in &resolved.steps {
            identity.add("processor", step.pack.digest());
            identity.add(
                &step.context.processor,
                &identity_text::pairs(&step.context.options),
            );
        }
        if let Some(model) = self.model(job) {
            identity.add("model", &model.id);
            identity.add(
                "quantization",
                model.quantization.as_deref().unwrap_or_default(),
            );
            if let PlanContext::Tokens(tokens) = model.plan_context {
                identity.add("context", &tokens.to_string());
            }
        }
        identity.finish()
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns the settings that the user or the prompt gave, by name. Recommendations of
/// the model's file and defaults do not make another job.
fn given_settings(settings: &Settings) -> String {
    let mut names: Vec<String> = settings
        .explicit_names()
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    names.sort();
    let values = serde_json::to_value(settings).unwrap_or_default();
    let with_value = |name: &String| {
        let setting = values.get(name).or_else(|| values.get("other")?.get(name));
        let value = setting
            .and_then(|setting| setting.get("value"))
            .cloned()
            .unwrap_or_default();
        format!("{name}={value}")
    };
    names.iter().map(with_value).collect::<Vec<_>>().join("\n")
}

fn plan_prompt(
    entry: &batch::PromptEntry,
    setup: &BatchSetup<'_>,
    notices: &Notices,
) -> Result<(PlanPrompt, PackSet), Error> {
    let BatchSetup {
        plan, env, config, ..
    } = setup;
    let options = entry.options_with_defaults(&plan.defaults);
    for (name, values) in &options.params {
        if let ParamValues::Axis(values) = values
            && let Some((_, twice)) = values
                .iter()
                .enumerate()
                .find(|(at, value)| values[..*at].contains(value))
        {
            return Err(Error::usage(format!(
                "the axis `{name}` has the value `{twice}` twice"
            )));
        }
    }
    let request = Request {
        prompt: entry.name.clone(),
        prompt_files: options.prompt_files.clone(),
        packs: options.packs.clone(),
        pack_dirs: options.pack_dirs.clone(),
        processors: options.processors.as_deref().map(processors).transpose()?,
        system: options.system.clone(),
        raw: options.raw.unwrap_or(false),
        ..Request::default()
    };
    let packs = client::pack_set(&request.pack_dirs, env, config, notices)?;
    let request = client::prompt_request(&request, env, config)?;
    let prompt = PlanPrompt {
        identity: prompt_identity(&request, &packs, &options.pack_dirs, env),
        label: entry.label().to_owned(),
        models: entry.models.clone(),
        combinations: combinations(&options.params),
        request,
        settings: entry.settings.clone(),
    };
    Ok((prompt, packs))
}

fn processors(post: &[ProcessorEntry]) -> Result<Vec<ProcessorRef>, Error> {
    post.iter()
        .map(|post| match post {
            ProcessorEntry::Text(text) => client::processor(text),
            ProcessorEntry::Named(name, options) => Ok(ProcessorRef {
                name: name.clone(),
                options: options.clone(),
            }),
        })
        .collect()
}

/// Returns the digest of a prompt's files and of every pack that it may use, by size
/// and modification time.
fn prompt_identity(
    request: &PromptRequest,
    packs: &PackSet,
    pack_dirs: &[PathBuf],
    env: &Environment,
) -> IdentityHasher {
    // Files count by name and text: another spelling of a path makes no other job.
    let without_files = PromptRequest {
        files: Vec::new(),
        ..request.clone()
    };
    let mut identity = IdentityHasher::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("prompt", &json(&without_files))
        .with("stock", &packs.stock().text);
    for file in &request.files {
        identity.add(&file.name, &file.text);
    }
    identity.add("standard", &sha256_hex(STANDARD_WASM));
    let mut folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    folders.extend(pack_dirs.iter().cloned());
    for folder in folders {
        add_folder(&folder, 2, &mut identity);
    }
    for pack in &request.packs {
        let path = Path::new(pack);
        add_file(path, &mut identity);
        add_file(&path.with_extension("toml"), &mut identity);
        add_folder(&path.with_extension(""), 1, &mut identity);
    }
    identity
}

fn add_folder(folder: &Path, depth: usize, identity: &mut IdentityHasher) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        add_file(&path, identity);
        if depth > 1 && path.is_dir() {
            add_folder(&path, depth - 1, identity);
        }
    }
}

fn add_file(path: &Path, identity: &mut IdentityHasher) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    identity.add(&name, &format!("{} {modified}", metadata.len()));
}

fn inputs(plan: &Plan, out: &Path, observer: &SharedObserver) -> Result<Vec<Input>, Error> {
    let results = ResultFiles::of(out);
    let left_out = std::cell::Cell::new(0_usize);
    let skip = |path: &Path| {
        let is_result = results.contain(path);
        left_out.set(left_out.get() + usize::from(is_result));
        is_result
    };
    let here = Path::new("");
    let mut all = Vec::new();
    for entry in &plan.inputs {
        match entry {
            InputEntry::Files(path) => {
                let files = batch::text_files(here, &path.to_string_lossy(), &skip);
                all.extend(files.map_err(of_input)?);
            }
            InputEntry::RowsOrFiles(path) => {
                let inputs = batch::read_inputs(here, &path.to_string_lossy(), &skip);
                all.extend(inputs.map_err(of_input)?);
            }
            InputEntry::Text { name, text } => all.push(Input {
                name: name.clone(),
                source: InputSource::Text(text.clone()),
            }),
        }
    }
    if left_out.get() > 0 {
        observer.warning(&format!(
            "ignoring {} that a pattern matches, since {} of this batch",
            count(left_out.get(), "file"),
            if left_out.get() == 1 {
                "it is a result"
            } else {
                "they are results"
            }
        ));
    }
    if all.is_empty() && !plan.inputs.is_empty() {
        // Without inputs each prompt would be sent once, without any text.
        return Err(Error::usage("all inputs are results of this batch"));
    }
    batch::with_distinct_names(all).map_err(of_input)
}

/// The results of earlier runs, which are not inputs even if a pattern matches them.
struct ResultFiles {
    folder: Option<PathBuf>,
    jobs: Vec<String>,
}

impl ResultFiles {
    fn of(out: &Path) -> Self {
        let folder = fs::canonicalize(out).ok();
        let history = folder
            .as_deref()
            .and_then(|folder| batch::read_history(folder).ok());
        let jobs = history.map(|history| history.jobs.into_keys().collect());
        Self {
            folder,
            jobs: jobs.unwrap_or_default(),
        }
    }

    /// Returns whether a file is a result, or is kept beside one.
    fn contain(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else {
            return false;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.folder.is_some()
            && path.parent() == self.folder.as_deref()
            && self.jobs.iter().any(|job| name.starts_with(job.as_str()))
    }
}

fn of_input(error: batch::InputError) -> Error {
    let failure = Error::usage(crate::error_chain::error_chain(&error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
