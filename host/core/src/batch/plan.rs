//! The plan of a batch: prompts, models, inputs and settings, as given by flags or by a
//! TOML file.
//!
//! `plan_reader` and `plan_writer` read and write the file; `matrix` derives the jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lmstrix_inference::{ContextSize, SettingsLayer};
use lmstrix_sandbox::Digest;
use serde::{Deserialize, Deserializer};

use crate::toml_file::from_scalar;

/// The maximum number of concurrent jobs. Each has its own connection.
pub const JOBS_MAX: usize = 256;

/// A batch as it was requested, before engines, packs or files are queried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The results folder.
    pub out: Option<PathBuf>,
    /// Engine, in the form of `--engine`.
    pub engine: Option<String>,
    /// Model names, patterns, or `all`. Empty selects the default model.
    pub models: Vec<String>,
    /// Options of prompts that do not set their own.
    pub defaults: PromptOptions,
    /// The context length to load models with.
    pub context: Option<PlanContext>,
    /// Settings of all jobs.
    pub settings: SettingsLayer,
    /// The maximum number of concurrent jobs. `None` uses the slots of the server.
    pub jobs: Option<usize>,
    /// Refuse packs that are neither in `pins` nor in the `packs.lock` of their folder.
    pub locked: bool,
    /// The digests that packs must have, by name.
    pub pins: BTreeMap<String, Digest>,
    /// The name template of the results.
    pub name: Option<String>,
    /// Options of result files.
    pub results: ResultOptions,
    /// The prompts.
    pub prompts: Vec<PromptEntry>,
    /// The inputs. Without inputs, each prompt runs once.
    pub inputs: Vec<InputEntry>,
    /// Options of individual models. For each option, the first match applies.
    pub overrides: Vec<ModelOverride>,
}

/// Options of result files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultOptions {
    /// Write error texts to the result files.
    pub errors_inline: bool,
    /// Keep the unprocessed answers of the models.
    pub keep_raw: bool,
    /// Keep the reasoning of the models.
    pub keep_reasoning: bool,
    /// Treat ignored settings and truncated answers as failures.
    pub strict: bool,
    /// Keep a reasoning section in tags at the start of an answer.
    pub keep_reasoning_tags: bool,
}

/// Options of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptOptions {
    /// Prompt files.
    pub prompt_files: Vec<PathBuf>,
    /// Files for packs, as in `--file`.
    pub pack_files: Vec<PathBuf>,
    /// Packs, in the form of `--pack`.
    pub packs: Vec<String>,
    /// Pack folders, in the form of `--pack-dir`.
    pub pack_dirs: Vec<PathBuf>,
    /// Processors, in the form of `--post`. An empty list is `--no-post`.
    pub processors: Option<Vec<ProcessorEntry>>,
    /// System message, as in `--system`.
    pub system: Option<String>,
    /// Send the prompt without a chat template, as in `--raw`.
    pub raw: Option<bool>,
    /// Names and values of the parameters, in plan order.
    pub params: Vec<(String, ParamValues)>,
    /// Images, as in `--attach`.
    pub attach: Vec<PathBuf>,
}

/// A processor as written in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessorEntry {
    /// The form of `--post`, such as `fence:lang=rust`.
    Text(String),
    /// A name, and names and values of its options.
    Named(String, Vec<(String, String)>),
}

/// The value or values of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValues {
    /// One value.
    One(String),
    /// An axis: one job per value.
    Axis(Vec<String>),
}

/// The context length to load a model with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanContext {
    /// The context length that the largest job of the model needs.
    Fit,
    /// A number of tokens.
    Tokens(u32),
    /// A percentage of the tested context length, else of the declared one.
    Percent(u8),
}

impl FromStr for PlanContext {
    type Err = String;

    /// Parses `fit`, a number of tokens such as `8192`, or a percentage such as `50%`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "fit" {
            return Ok(Self::Fit);
        }
        match text.parse() {
            Ok(ContextSize::Tokens(tokens)) => Ok(Self::Tokens(tokens)),
            Ok(ContextSize::Percent(percent)) => Ok(Self::Percent(percent)),
            Err(_) => Err("expected `fit`, a number of at least 1, or `1%` to `100%`".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for PlanContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(deserializer)
    }
}

impl std::fmt::Display for PlanContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fit => f.write_str("fit"),
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A prompt of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptEntry {
    /// A prompt in the form of `infer`: a name, `pack/name`, or the prompt text.
    pub name: String,
    /// Name in file names and tables. Defaults to `name`.
    pub label: Option<String>,
    /// Own options. Missing ones come from [`Plan::defaults`].
    pub options: PromptOptions,
    /// Names or patterns of the models that the prompt runs on. Empty means all.
    pub models: Vec<String>,
    /// Settings of the prompt's jobs.
    pub settings: SettingsLayer,
}

impl PromptEntry {
    /// Returns the name in file names and tables.
    #[must_use]
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }

    /// Returns the prompt's options, with missing ones taken from `defaults`.
    ///
    /// Pack folders of both apply. Parameters are merged by name; the prompt's own come
    /// last.
    #[must_use]
    pub fn options_with_defaults(&self, defaults: &PromptOptions) -> PromptOptions {
        fn or_default<T: Clone>(own: &[T], default: &[T]) -> Vec<T> {
            if own.is_empty() { default } else { own }.to_vec()
        }
        let own = &self.options;
        let mut params = defaults.params.clone();
        for (name, values) in &own.params {
            params.retain(|(other, _)| other != name);
            params.push((name.clone(), values.clone()));
        }
        PromptOptions {
            prompt_files: or_default(&own.prompt_files, &defaults.prompt_files),
            pack_files: [own.pack_files.clone(), defaults.pack_files.clone()].concat(),
            packs: or_default(&own.packs, &defaults.packs),
            pack_dirs: [defaults.pack_dirs.clone(), own.pack_dirs.clone()].concat(),
            processors: own
                .processors
                .clone()
                .or_else(|| defaults.processors.clone()),
            system: own.system.clone().or_else(|| defaults.system.clone()),
            raw: own.raw.or(defaults.raw),
            params,
            attach: or_default(&own.attach, &defaults.attach),
        }
    }
}

/// An input of a plan, before files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputEntry {
    /// The files or the text.
    pub source: InputEntrySource,
    /// Images that are sent with each of its inputs, by path or pattern.
    pub attach: Vec<PathBuf>,
}

impl From<InputEntrySource> for InputEntry {
    fn from(source: InputEntrySource) -> Self {
        Self {
            source,
            attach: Vec::new(),
        }
    }
}

/// The files or the text of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputEntrySource {
    /// Text files, by path or pattern.
    Files(PathBuf),
    /// JSONL, CSV or TSV files of rows, images and text files, by path or pattern.
    RowsOrFiles(PathBuf),
    /// Images, by path or pattern.
    Images {
        /// The name of one input with all images; without it, each image is an input.
        name: Option<String>,
        /// Paths and patterns.
        paths: Vec<PathBuf>,
    },
    /// A text given in the plan.
    Text {
        /// Name of the input.
        name: String,
        /// The text.
        text: String,
    },
}

/// Options of the models that match a pattern.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelOverride {
    /// Model name or pattern.
    pub pattern: String,
    /// The context length to load the models with.
    pub context: Option<PlanContext>,
    /// The maximum number of concurrent jobs.
    pub jobs: Option<usize>,
    /// Settings of the models' jobs.
    pub settings: SettingsLayer,
}

/// Returns whether a name or pattern matches a model's ID or one of its aliases.
///
/// A text with `*`, `?` or `[` is a pattern, any other text matches exactly. A pattern
/// without a slash also matches the part after the last slash, such as the name
/// without the publisher.
#[must_use]
pub fn matches_model(pattern: &str, id: &str, aliases: &[String]) -> bool {
    let names = || std::iter::once(id).chain(aliases.iter().map(String::as_str));
    if !is_pattern(pattern) {
        return names().any(|name| name == pattern);
    }
    let Ok(glob) = glob::Pattern::new(pattern) else {
        return false;
    };
    names().any(|name| {
        let last_part = name.rsplit('/').next().unwrap_or(name);
        glob.matches(name) || (!pattern.contains('/') && glob.matches(last_part))
    })
}

/// Joins a folder and a path or pattern. Pattern characters in the folder's name are
/// escaped if `path` is a pattern.
#[must_use]
pub fn join_pattern(folder: &Path, path: &str) -> PathBuf {
    if is_pattern(path) && !Path::new(path).is_absolute() && !folder.join(path).exists() {
        let escaped = glob::Pattern::escape(&folder.to_string_lossy());
        return PathBuf::from(escaped).join(path);
    }
    folder.join(path)
}

/// Returns whether the text contains pattern characters.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_exactly_and_patterns_match_by_their_wildcards() {
        let aliases = ["google/gemma-3-4b@q4_k_m".to_owned()];
        for (pattern, expected) in [
            ("google/gemma-3-4b", true),
            ("gemma-3-4b", false),
            ("gemma", false),
            ("google/gemma-3-4b@q4_k_m", true),
            ("gemma*", true),
            ("*q4_k_m", true),
            ("google/*", true),
            ("qwen*", false),
            ("gemma-?-4b", true),
            ("[", false),
        ] {
            assert_eq!(
                matches_model(pattern, "google/gemma-3-4b", &aliases),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_prompt_inherits_missing_options_from_the_defaults() {
        let one = |value: &str| ParamValues::One(value.to_owned());
        let defaults = PromptOptions {
            packs: vec!["p".to_owned()],
            system: Some("s".to_owned()),
            params: vec![("a".to_owned(), one("1")), ("b".to_owned(), one("2"))],
            ..PromptOptions::default()
        };
        let entry = PromptEntry {
            options: PromptOptions {
                processors: Some(vec![]),
                params: vec![(
                    "a".to_owned(),
                    ParamValues::Axis(vec!["x".to_owned(), "y".to_owned()]),
                )],
                ..PromptOptions::default()
            },
            ..PromptEntry::default()
        };
        let options = entry.options_with_defaults(&defaults);
        assert_eq!(options.packs, ["p"]);
        assert_eq!(
            (options.processors, options.system.as_deref()),
            (Some(vec![]), Some("s"))
        );
        let names: Vec<&str> = options
            .params
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["b", "a"]);
    }
}
