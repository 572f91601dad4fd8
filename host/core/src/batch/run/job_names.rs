//! The names of results: made by a template that the first run of a folder fixes.

use std::collections::BTreeMap;

use super::job_inputs::JobInputs;
use crate::batch::{
    self, FolderHistory, InputEntry, InputEntrySource, JOURNAL, JobCoordinates, JobLabels,
    NameParts, NameTemplate, Plan,
};
use crate::error::Error;

/// The extension of a result whose prompt asks for none.
const EXTENSION: &str = "txt";

/// Names the results of a folder.
pub(super) struct JobNames(NameTemplate);

impl JobNames {
    /// Returns the template of the folder, else that of the plan, else one that suits
    /// the plan.
    pub(super) fn new(
        inputs: &JobInputs,
        plan: &Plan,
        history: &FolderHistory,
    ) -> Result<Self, Error> {
        let parse = |text: &str| {
            NameTemplate::parse(text)
                .map_err(|cause| Error::usage(format!("name template `{text}`: {cause}")))
        };
        let template = match (&history.head, &plan.name) {
            (Some(head), Some(name)) if head.name != *name => {
                return Err(Error::usage(format!(
                    "this folder names its results by `{}`, not by `{name}`",
                    head.name
                ))
                .hint("-o DIR with another folder takes another name template"));
            }
            (Some(head), _) => parse(&head.name)?,
            (None, Some(name)) => parse(name)?,
            (None, None) => {
                let is_table =
                    |entry: &InputEntry| matches!(entry.source, InputEntrySource::RowsOrFiles(_));
                let has_inputs = inputs.inputs.len() > 1 || plan.inputs.iter().any(is_table);
                let has_axes = inputs
                    .prompts
                    .iter()
                    .any(|prompt| prompt.combinations.len() > 1);
                NameTemplate::default_for(has_inputs, has_axes)
            }
        };
        Ok(Self(template))
    }

    pub(super) fn template(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the name of a result.
    pub(super) fn name(
        &self,
        inputs: &JobInputs,
        job: JobCoordinates,
        extension: Option<&str>,
    ) -> String {
        let axes = inputs
            .combination(job)
            .map(|combination| combination.axes.as_slice());
        let parts = NameParts {
            prompt: inputs.prompt(job).map_or("", |prompt| &prompt.label),
            model: inputs.model(job).map_or("", |model| &model.label),
            input: inputs.input(job).map(|input| input.name.as_str()),
            params: axes.unwrap_or_default(),
        };
        self.0.file_name(&parts, extension.unwrap_or(EXTENSION))
    }

    /// Checks that an earlier run did not give the name to another input's result:
    /// this job would never be run.
    pub(super) fn check_history(
        &self,
        inputs: &JobInputs,
        job: JobCoordinates,
        name: &str,
        history: &FolderHistory,
    ) -> Result<(), Error> {
        let before = history
            .jobs
            .get(name)
            .and_then(|known| known.labels.as_ref());
        let now = inputs.labels(job);
        match before {
            Some(before) if before.input != now.input || before.params != now.params => {
                Err(Error::usage(format!(
                    "{name} is the result for {}; the names of this folder, made by `{}`, do not \
                     distinguish {} from it",
                    input_and_axes(before),
                    self.template(),
                    input_and_axes(&now)
                ))
                .hint("-o DIR with another folder gets distinct names, by itself or by --name"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that no two jobs share a name, and that none has the journal's.
    pub(super) fn check_distinct<'a>(
        &self,
        inputs: &JobInputs,
        jobs: impl Iterator<Item = (JobCoordinates, &'a str)>,
    ) -> Result<(), Error> {
        let mut seen: BTreeMap<String, JobCoordinates> = BTreeMap::new();
        for (job, name) in jobs {
            if name == JOURNAL {
                return Err(Error::usage(format!(
                    "the result of {} would be called {JOURNAL}, which is the journal's name",
                    description(inputs, job)
                )));
            }
            if let Some(other) = seen.insert(batch::collision_key(name), job) {
                return Err(Error::usage(format!(
                    "the names made by `{}` do not distinguish {} and {}: both are {name}",
                    self.template(),
                    description(inputs, other),
                    description(inputs, job),
                ))
                .hint(
                    "--name takes {prompt}, {model}, {input} and {params}; a folder keeps its \
                     template, so another folder (-o) may be needed",
                ));
            }
        }
        Ok(())
    }
}

fn input_and_axes(labels: &JobLabels) -> String {
    let input = labels.input.as_deref().unwrap_or("no input");
    let axes = labels
        .params
        .iter()
        .map(|(name, value)| format!(", {name}={value}"));
    format!("`{input}`{}", axes.collect::<String>())
}

fn description(inputs: &JobInputs, job: JobCoordinates) -> String {
    let labels = inputs.labels(job);
    let mut text = format!("`{}` on `{}`", labels.prompt, labels.model);
    if let Some(input) = &labels.input {
        text += &format!(", input `{input}`");
    }
    for (name, value) in &labels.params {
        text += &format!(", {name}={value}");
    }
    text
}
