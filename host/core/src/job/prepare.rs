//! Preparation: a resolved prompt and a selected model become a job that can run.
//! All settings are final here, and every warning that needs no answer is decided
//! here, so that it holds for single jobs, batches and library callers alike.

use std::hash::{BuildHasher, Hasher};

use lmstrix_inference::{MaxTokens, Origin, Prompt, Settings, SettingsLayer, WithOrigin};
use lmstrix_sandbox::{ModelFacts, Pack};

use super::{
    JobError, JobFacts, JobSpec, PackOutput, PackUsed, ProcessorChain, ProcessorStep, ResolvedJob,
    SettingsByOrigin, Timeouts, Warning,
};
use crate::attachment::{AttachedImage, load_images};
use crate::engine::{SelectedModel, runs_files};

/// A job that can run: its prompt is resolved, its settings are final and its
/// processors are open.
#[derive(Debug)]
pub struct PreparedJob {
    /// The messages or the raw text for the model.
    pub prompt: Prompt,
    /// The images that the messages name.
    pub images: Vec<AttachedImage>,
    /// The settings, each with its origin.
    pub settings: Settings,
    /// Names of settings that must not be lost.
    pub required: Vec<String>,
    /// Separate a thinking span at the start of the answer from its text.
    pub split_reasoning: bool,
    /// Return an error for a cut answer.
    pub strict: bool,
    /// Time limits and the limit of repetition.
    pub timeouts: Timeouts,
    /// The file extension of the result, where the prompt sets one.
    pub extension: Option<String>,
    /// The pack that resolved the prompt.
    pub resolver: Pack,
    /// Report entries of the resolver.
    pub resolver_extra: Vec<(String, String)>,
    /// The processors, in order.
    pub steps: Vec<ProcessorStep>,
    /// Warnings that are known before the model is asked.
    pub warnings: Vec<Warning>,
    /// The output of the resolver on stdout and stderr.
    pub pack_output: Vec<PackOutput>,
    pub(super) chain: ProcessorChain,
}

/// Settles the settings of a job, reads its images and opens its processors.
///
/// # Errors
/// Returns an error if a processor cannot be opened, if an image cannot be read, or if the
/// model is known to take no images.
pub async fn prepare(
    spec: &JobSpec,
    resolved: ResolvedJob,
    model: &SelectedModel,
) -> Result<PreparedJob, JobError> {
    let ResolvedJob {
        resolved,
        steps,
        resolver,
        mut warnings,
    } = resolved;
    if !spec.prompt.attachments.is_empty() && model.has_vision() == Some(false) {
        return Err(JobError::NoVision {
            model: model.model.clone(),
        });
    }
    let images = load_images(spec.prompt.attachments.clone()).await?;
    let chain = ProcessorChain::open(steps.clone()).await?;
    warnings.extend(model.warnings.iter().cloned().map(Warning::Engine));
    if matches!(resolved.prompt, Prompt::Raw(_)) && model.is_instruct() {
        warnings.push(Warning::RawPrompt {
            model: model.model.clone(),
        });
    }
    if matches!(resolved.prompt, Prompt::Chat(_)) && model.has_chat_template() == Some(false) {
        warnings.push(Warning::NoChatTemplate {
            model: model.model.clone(),
        });
    }
    let mut settings = spec
        .settings
        .resolve(&resolved.settings, &model.recommended());
    // Drawn here and not by the engine, so that reports can name it.
    settings.seed.get_or_insert_with(random_seed);
    let required = if spec.strict {
        spec.settings.names(&resolved.settings)
    } else {
        Vec::new()
    };
    Ok(PreparedJob {
        prompt: resolved.prompt,
        images,
        settings,
        required,
        split_reasoning: spec.split_reasoning,
        strict: spec.strict,
        timeouts: spec.timeouts,
        extension: resolved.extension,
        pack_output: PackOutput::new(resolver.name(), &resolved.written)
            .into_iter()
            .collect(),
        resolver,
        resolver_extra: resolved.extra,
        steps,
        warnings,
        chain,
    })
}

impl PreparedJob {
    /// Returns the settings, model and packs of the job.
    pub(super) fn facts(&self, model: &SelectedModel) -> JobFacts {
        let packs = std::iter::once(&self.resolver).chain(self.steps.iter().map(|step| &step.pack));
        JobFacts {
            settings: self.settings.clone(),
            engine: model.engine(),
            model: model.model.clone(),
            quantization: model.quantization(),
            instance: None,
            packs: PackUsed::list(packs),
            extension: self.extension.clone(),
            resolver_extra: (self.resolver.name().to_owned(), self.resolver_extra.clone()),
        }
    }
}

/// Returns the facts about a model that packs receive.
#[must_use]
pub fn model_facts(model: &SelectedModel) -> ModelFacts {
    let mut extra = vec![("engine".to_owned(), model.engine().to_owned())];
    if runs_files(model.engine()) {
        extra.push(("format".to_owned(), "gguf".to_owned()));
    }
    extra.extend(
        model
            .quantization()
            .map(|quantization| ("quantization".to_owned(), quantization)),
    );
    let vision = model.has_vision().map(|vision| vision.to_string());
    extra.extend(vision.map(|vision| ("vision".to_owned(), vision)));
    ModelFacts {
        id: model.model.clone(),
        architecture: model.architecture().map(str::to_owned),
        context_length: model.expected_context(),
        extra,
    }
}

/// Adds the facts by which a pack divides a long text: `tokens-per-byte`, measured in
/// earlier runs, and `max-tokens`, the limit of the answer that the user set.
pub fn add_token_facts(
    facts: &mut ModelFacts,
    tokens_per_byte: Option<f64>,
    settings: &SettingsByOrigin,
) {
    if let Some(ratio) = tokens_per_byte {
        facts.set("tokens-per-byte", &format!("{ratio:.4}"));
    }
    let none = SettingsLayer::default();
    let limit = settings.resolve(&none, &none).max_tokens.value;
    let context = facts.context_length;
    let tokens = match limit {
        MaxTokens::Tokens(tokens) => Some(tokens),
        _ => context.and_then(|context| limit.tokens(context)),
    };
    if let Some(tokens) = tokens {
        facts.set("max-tokens", &tokens.to_string());
    }
}

/// Draws a seed of 32 bits, which every server takes. The standard library's hash
/// maps are seeded by the system.
fn random_seed() -> WithOrigin<u64> {
    WithOrigin {
        value: std::hash::RandomState::new().build_hasher().finish() & u64::from(u32::MAX),
        origin: Origin::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_learn_what_is_known_of_tokens() {
        let extra = |limit: Option<MaxTokens>, tokens_per_byte| {
            let mut facts = ModelFacts {
                context_length: Some(1000),
                ..ModelFacts::default()
            };
            let mut settings = SettingsByOrigin::default();
            settings.plan.max_tokens = limit;
            add_token_facts(&mut facts, tokens_per_byte, &settings);
            let pairs = facts.extra.into_iter();
            pairs
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
        };
        assert!(extra(None, None).is_empty());
        assert!(extra(Some(MaxTokens::Unlimited), None).is_empty());
        assert_eq!(
            extra(Some(MaxTokens::Tokens(7)), Some(1.0 / 3.0)),
            ["tokens-per-byte=0.3333", "max-tokens=7"]
        );
        assert_eq!(
            extra(Some(MaxTokens::Percent(50)), None),
            ["max-tokens=500"]
        );
    }
}
