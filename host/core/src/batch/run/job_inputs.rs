//! The inputs of jobs: prompts, texts, models and settings.

use std::collections::HashSet;

use lmstrix_inference::ContextSize;
use lmstrix_sandbox::PackRules;

use super::batch_model::BatchModel;
use super::event::SharedObserver;
use super::plan_inputs::{of_input, plan_inputs};
use super::plan_packs::PlanPacks;
use super::plan_prompt::{PlanPrompt, plan_prompt};
use super::prompt_resolver::{PromptResolver, ResolveJob};
use super::setup::BatchSetup;
use crate::attachment::{Attachment, with_distinct_names};
use crate::batch::{Combination, Input, InputSource, JobCoordinates, JobLabels, PlanContext};
use crate::client::{self, TextFiles};
use crate::error::{Error, ErrorKind};
use crate::job::{
    JobSpec, ModelReference, PromptRequest, SettingsByOrigin, Timeouts, add_token_facts,
};

/// Everything that jobs are made of.
pub(super) struct JobInputs {
    pub(super) prompts: Vec<PlanPrompt>,
    pub(super) inputs: Vec<Input>,
    pub(super) models: Vec<BatchModel>,
    pub(super) resolver: PromptResolver,
    settings: SettingsByOrigin,
    timeouts: Timeouts,
    strict: bool,
    pub(super) keep_reasoning_tags: bool,
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
        let notices = observer.notices();
        let source = client::pack_source(setup.env, setup.config, &notices)?;
        let mut packs = PlanPacks::new(
            source,
            PackRules::new(plan.locked, plan.pins.clone()),
            notices,
        );
        let mut text_files = TextFiles::default();
        let mut labels = HashSet::new();
        for entry in &plan.prompts {
            let prompt = plan_prompt(entry, setup, &mut packs, &mut text_files)?;
            if !labels.insert(prompt.label.clone()) {
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
            prompts.push(prompt);
        }
        packs.check_pins()?;
        Ok(Self {
            prompts,
            inputs: plan_inputs(plan, &setup.out, observer)?,
            models,
            resolver: PromptResolver::start(packs.into_sets())?,
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
        request.attachments = self.attachments(job);
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
        let mut facts = model.facts();
        // The tokens per byte change with each run, and a resumed run must give packs the same.
        add_token_facts(&mut facts, None, &self.spec(job).settings);
        Ok(ResolveJob {
            pack_set: prompt.pack_set,
            prompt: request,
            model: facts,
        })
    }

    /// Returns whether the job has images and its model is known to take none.
    pub(super) fn lacks_vision(&self, job: JobCoordinates) -> bool {
        self.model(job).and_then(|model| model.vision) == Some(false) && self.image_count(job) > 0
    }

    /// Returns the number of images of the job.
    pub(super) fn image_count(&self, job: JobCoordinates) -> usize {
        let prompt = self.prompt(job);
        let of_prompt = prompt.map_or(0, |prompt| prompt.request.attachments.len());
        of_prompt + self.input(job).map_or(0, |input| input.attachments.len())
    }

    /// Returns whether the prompt or the plan selects the job's model by its name.
    pub(super) fn is_named_model(&self, job: JobCoordinates) -> bool {
        let of_prompt = self.prompt(job).map(|prompt| &prompt.models);
        self.model(job).is_some_and(|model| match of_prompt {
            Some(patterns) if !patterns.is_empty() => model.is_named_in(patterns),
            _ => model.is_named,
        })
    }

    /// Returns the images of a job: those of its prompt and of its input.
    pub(super) fn attachments(&self, job: JobCoordinates) -> Vec<Attachment> {
        let prompt = self.prompt(job);
        let of_prompt = prompt.map(|prompt| &prompt.request.attachments);
        let of_input = self.input(job).map(|input| &input.attachments);
        with_distinct_names(of_prompt.into_iter().chain(of_input).flatten())
    }

    /// Returns the spec of a job. Of the prompt it has the address and the images only;
    /// `resolve_job` returns the rest.
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
                attachments: self.attachments(job),
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
}
