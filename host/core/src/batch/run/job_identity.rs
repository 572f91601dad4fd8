//! The digests of a job: its key, before any pack is called, and its identity, once its
//! prompt is resolved.

use lmstrix_inference::Settings;

use super::identity_text;
use super::job_inputs::JobInputs;
use super::prompt_identity::json;
use crate::batch::{IdentityHasher, InputSource, JobCoordinates, PlanContext};
use crate::job::{JobSpec, ResolvedJob, Timeouts};

/// Returns the digest of a job's inputs before any pack processes them. Jobs with the
/// same key have the same resolved prompt.
pub(super) fn job_key(inputs: &JobInputs, job: JobCoordinates) -> String {
    let mut key = inputs
        .prompt(job)
        .map(|prompt| prompt.identity.clone())
        .unwrap_or_default();
    let spec = JobSpec {
        // Neither changes what is asked.
        timeouts: Timeouts::default(),
        strict: false,
        ..inputs.spec(job)
    };
    for attachment in &spec.prompt.attachments {
        key.add(&attachment.name, attachment.sha256());
    }
    key.add("spec", &json(&spec));
    if let Some(model) = inputs.model(job) {
        key.add("model", &json(&model.facts()));
    }
    for (name, value) in inputs
        .combination(job)
        .iter()
        .flat_map(|combination| &combination.params)
    {
        key.add(name, value);
    }
    match inputs.input(job).map(|input| &input.source) {
        None | Some(InputSource::Image { .. } | InputSource::Images) => {}
        Some(InputSource::File { sha256, .. }) => key.add("file", sha256),
        Some(InputSource::Text(text)) => key.add("text", text),
        Some(InputSource::Row { params }) => {
            for (name, value) in params {
                key.add(name, value);
            }
        }
    }
    // Two jobs may be made of the same and differ in their labels alone.
    let labels = inputs.labels(job);
    key.add("job", &json(&(labels.input, labels.prompt, labels.params)));
    key.finish()
}

/// Returns the digest of the request of a job: the resolved prompt, the settings that
/// were given, the packs and the model. A finished job with the same identity is
/// not run again.
pub(super) fn job_identity(
    inputs: &JobInputs,
    job: JobCoordinates,
    resolved: &ResolvedJob,
    settings: &Settings,
) -> String {
    let mut identity = IdentityHasher::default();
    if inputs.keep_reasoning_tags {
        identity.add("reasoning_tags", "none");
    }
    identity.add("prompt", &json(&resolved.resolved.prompt));
    for attachment in inputs.attachments(job) {
        identity.add(&attachment.name, attachment.sha256());
    }
    identity.add("settings", &given_settings(settings));
    identity.add("resolver", resolved.resolver.digest());
    for step in &resolved.steps {
        identity.add("processor", step.pack.digest());
        identity.add(
            &step.context.processor,
            &identity_text::pairs(&step.context.options),
        );
    }
    if let Some(model) = inputs.model(job) {
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
