//! A job as plain data, before any pack or server has seen it.

use lmstrix_inference::{ContextSize, Origin, Settings, SettingsLayer};
use lmstrix_sandbox::{ProcessorRef, TextFile};
use serde::{Deserialize, Serialize};

use super::Timeouts;
use crate::attachment::Attachment;

/// Everything that decides one job. It holds no handle and no secret, so that a
/// plan and a journal can hold it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The prompt, its parameters, files, packs and processors.
    pub prompt: PromptRequest,
    /// The model that answers.
    pub model: ModelReference,
    /// Settings as flags, plan, environment and config give them.
    pub settings: SettingsByOrigin,
    /// Time limits and the limit of repetition.
    pub timeouts: Timeouts,
    /// Return an error for a setting that would be lost, and for a cut answer.
    pub strict: bool,
    /// Separate a thinking span at the start of an answer from its text.
    pub split_reasoning: bool,
}

/// The prompt of a job, before a pack has resolved it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptRequest {
    /// The prompt's name, `pack/prompt`, or the prompt itself.
    pub address: String,
    /// Packs of `--pack`, by name or file; the first one resolves.
    pub packs: Vec<String>,
    /// The user's prompt files; empty for the built-in prompts.
    pub files: Vec<TextFile>,
    /// Further files for all packs of the job. They come before the files beside a pack, so
    /// that a pack finds the user's file under its name. Left out of JSON if there are none,
    /// which keeps the identity of jobs without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pack_files: Vec<TextFile>,
    /// Parameters, in the order given.
    pub params: Vec<(String, String)>,
    /// Names of parameters that a prompt may leave unused without a warning: the
    /// columns of a table.
    pub optional_params: Vec<String>,
    /// Processors instead of the prompt's own; `None` keeps those.
    pub processors: Option<Vec<ProcessorRef>>,
    /// Replaces the prompt's system message; an empty text removes it.
    pub system: Option<String>,
    /// Send the text without the model's chat template.
    pub raw: bool,
    /// Images that are sent with the prompt, under distinct names. They are files, and not
    /// data.
    #[serde(skip)]
    pub attachments: Vec<Attachment>,
}

/// A reference to a model. `engine` decides where `model` is looked up; only without
/// it can a path to a GGUF file mean the embedded engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReference {
    /// `auto`, `embedded`, a server's name or URL.
    pub engine: Option<String>,
    /// The model's name at the engine, or a GGUF file.
    pub model: Option<String>,
    /// The context length to load it with.
    pub context: Option<ContextSize>,
}

/// Settings by the origins that are known before the prompt is resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SettingsByOrigin {
    /// From the command line.
    pub flags: SettingsLayer,
    /// From the plan of a batch.
    pub plan: SettingsLayer,
    /// From `LMSTRIX_HOST_*` variables.
    pub environment: SettingsLayer,
    /// From the config file.
    pub config: SettingsLayer,
}

impl SettingsByOrigin {
    /// Returns the effective settings. `prompt` holds the settings of the prompt,
    /// `model_file` those that the model's file recommends.
    #[must_use]
    pub fn resolve(&self, prompt: &SettingsLayer, model_file: &SettingsLayer) -> Settings {
        let Self {
            flags,
            plan,
            environment,
            config,
        } = self;
        Settings::resolve(&[
            (Origin::Flag, flags),
            (Origin::Plan, plan),
            (Origin::Environment, environment),
            (Origin::Prompt, prompt),
            (Origin::Config, config),
            (Origin::ModelFile, model_file),
        ])
    }

    /// Returns the names of all settings that the user or the prompt gave, sorted.
    #[must_use]
    pub fn names(&self, prompt: &SettingsLayer) -> Vec<String> {
        let Self {
            flags,
            plan,
            environment,
            config,
        } = self;
        let mut names: Vec<String> = [flags, plan, environment, prompt, config]
            .iter()
            .flat_map(|layer| layer.names())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_json() {
        let spec = JobSpec {
            prompt: PromptRequest {
                address: "tldr".to_owned(),
                params: vec![("text".to_owned(), "\u{1}ü\n".to_owned())],
                processors: Some(vec![ProcessorRef {
                    name: "trim".to_owned(),
                    options: vec![("side".to_owned(), "end".to_owned())],
                }]),
                ..PromptRequest::default()
            },
            model: ModelReference {
                engine: Some("http://127.0.0.1:1".to_owned()),
                model: Some("m".to_owned()),
                context: Some(ContextSize::Percent(50)),
            },
            settings: SettingsByOrigin {
                flags: SettingsLayer {
                    temperature: Some(0.1),
                    ..SettingsLayer::default()
                },
                ..SettingsByOrigin::default()
            },
            strict: true,
            ..JobSpec::default()
        };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn the_strongest_origin_wins_and_all_names_are_known() {
        let layer = |temperature: Option<f64>, top_k: Option<u32>| SettingsLayer {
            temperature,
            top_k,
            ..SettingsLayer::default()
        };
        let settings = SettingsByOrigin {
            plan: layer(Some(0.2), None),
            config: layer(Some(0.9), Some(7)),
            ..SettingsByOrigin::default()
        };
        let prompt = layer(Some(0.5), None);
        let held = settings.resolve(&prompt, &layer(None, Some(3)));
        assert_eq!(
            (held.temperature.value, held.temperature.origin),
            (0.2, Origin::Plan)
        );
        assert_eq!((held.top_k.value, held.top_k.origin), (7, Origin::Config));
        assert_eq!(settings.names(&prompt), ["temperature", "top_k"]);
    }
}
