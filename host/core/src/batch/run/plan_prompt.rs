//! A prompt of the plan: its request to the packs, its settings and its axes.

use lmstrix_inference::SettingsLayer;
use lmstrix_sandbox::ProcessorRef;

use super::plan_packs::PlanPacks;
use super::prompt_identity::prompt_identity;
use super::setup::BatchSetup;
use crate::batch::{
    self, Combination, IdentityHasher, ParamValues, ProcessorEntry, PromptOptions, combinations,
};
use crate::client::{self, Request, TextFiles};
use crate::error::Error;
use crate::job::PromptRequest;

/// A prompt of the plan.
pub(super) struct PlanPrompt {
    pub(super) label: String,
    /// Names and patterns of the models that the prompt is for; empty for all.
    pub(super) models: Vec<String>,
    pub(super) combinations: Vec<Combination>,
    /// The request without parameters.
    pub(super) request: PromptRequest,
    pub(super) settings: SettingsLayer,
    /// The index of its packs in the resolver.
    pub(super) pack_set: usize,
    /// The digest of everything but parameters, inputs and models.
    pub(super) identity: IdentityHasher,
}

/// Reads a prompt of the plan, and finds the packs that it may use.
pub(super) fn plan_prompt(
    entry: &batch::PromptEntry,
    setup: &BatchSetup<'_>,
    packs: &mut PlanPacks,
    text_files: &mut TextFiles,
) -> Result<PlanPrompt, Error> {
    let BatchSetup {
        plan, env, config, ..
    } = setup;
    let options = entry.options_with_defaults(&plan.defaults);
    check_axes(&options)?;
    let request = Request {
        prompt: entry.name.clone(),
        prompt_files: options.prompt_files.clone(),
        pack_files: options.pack_files.clone(),
        packs: options.packs.clone(),
        pack_dirs: options.pack_dirs.clone(),
        processors: options.processors.as_deref().map(processors).transpose()?,
        system: options.system.clone(),
        raw: options.raw.unwrap_or(false),
        attachments: options.attach.clone(),
        ..Request::default()
    };
    let pack_set = packs.index(&request.packs, &request.pack_dirs);
    let request = client::prompt_request(&request, env, config, text_files)?;
    Ok(PlanPrompt {
        identity: packs
            .identity(pack_set)
            .map(|packs| prompt_identity(&request, packs))
            .unwrap_or_default(),
        pack_set,
        label: entry.label().to_owned(),
        models: entry.models.clone(),
        combinations: combinations(&options.params),
        request,
        settings: entry.settings.clone(),
    })
}

/// Checks that no axis has a value twice.
fn check_axes(options: &PromptOptions) -> Result<(), Error> {
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
    Ok(())
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
