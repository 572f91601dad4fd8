//! The data of the registry, as stored in its file. Unknown fields are kept, so that an
//! older version does not lose the data of a newer one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::context_test::{ContextTrial, TestLevel, TestedContext};
use super::speeds::{Samples, Speeds};

/// The schema version that this program writes.
pub(super) const SCHEMA: u32 = 1;

/// The content of the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// The schema version.
    pub schema: u32,
    /// The engines by address; the embedded engine is `embedded`.
    #[serde(default)]
    pub engines: BTreeMap<String, EngineRecord>,
    /// The model of the last successful run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<LastUsedModel>,
    /// The position up to which the log of runs has been merged.
    #[serde(rename = "folded", default, skip_serializing_if = "Option::is_none")]
    pub(super) merged_observations: Option<MergePosition>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            engines: BTreeMap::new(),
            last_used: None,
            merged_observations: None,
            extra: Map::new(),
        }
    }
}

/// The model of the last successful run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUsedModel {
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The model's name on this engine.
    pub model: String,
    /// The time at which the run ended.
    pub at: Timestamp,
}

/// An engine: a server, or the embedded engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// `lmstudio`, `ollama`, …
    #[serde(default)]
    pub kind: String,
    /// The version, if the engine reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The time of the last scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned: Option<Timestamp>,
    /// The models by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelRecord>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// A model of an engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Other names of exactly this model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// `general.architecture`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The quantization of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The size on disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The declared context, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_context: Option<u32>,
    /// Memory for one token of context, in bytes, if the model file was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_bytes_per_token: Option<u64>,
    /// The model file, relative to LM Studio's models folder, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// True if the model accepts images.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vision: bool,
    /// True if the model was trained to call tools.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tools: bool,
    /// True if the model does not generate text: for embeddings, ranking or speech.
    #[serde(
        rename = "embeds_only",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub generates_no_text: bool,
    /// The context, if known, of each instance that was loaded at the last scan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<Option<u32>>,
    /// The time of the first scan that no longer found the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// The largest context that a test found to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<TestedContext>,
    /// The results of tests by level, also of unfinished ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<TestLevel, ContextTrial>,
    /// The measured speeds.
    #[serde(default, skip_serializing_if = "Speeds::is_empty")]
    pub speeds: Speeds,
    /// The measured tokens per byte of prompt.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub tokens_per_byte: Samples,
    /// The number of successful runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub runs: u64,
    /// The number of runs that failed because of the model or its server.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// The error of the last failed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Fields of newer versions, and imported fields of lmstrix.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The position in the log up to which the registry has merged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MergePosition {
    /// The ID of the log file.
    pub(super) file: u64,
    /// The offset of the first line that is not merged.
    pub(super) bytes: u64,
}

impl Registry {
    /// Returns a model's record, which is created if it does not exist.
    pub fn model_mut(&mut self, engine: &str, model: &str) -> &mut ModelRecord {
        self.engines
            .entry(engine.to_owned())
            .or_default()
            .models
            .entry(model.to_owned())
            .or_default()
    }

    /// Returns a model's record.
    #[must_use]
    pub fn model(&self, engine: &str, model: &str) -> Option<&ModelRecord> {
        self.engines.get(engine)?.models.get(model)
    }

    /// Returns all models: the engine's address, the model's name, and the record.
    pub fn models(&self) -> impl Iterator<Item = (&str, &str, &ModelRecord)> {
        self.engines.iter().flat_map(|(engine, record)| {
            let models = record.models.iter();
            models.map(move |(name, model)| (engine.as_str(), name.as_str(), model))
        })
    }

    /// Applies the list of an engine's models. Models missing from the list are kept and
    /// marked with `missing_since`, except those for which `was_not_checked` returns
    /// true. An empty list is ignored: a server that is starting, or whose disk is not
    /// mounted, also reports no models.
    pub fn apply_scan(
        &mut self,
        engine: &str,
        kind: &str,
        version: Option<&str>,
        models: Vec<(String, ModelRecord)>,
        now: Timestamp,
        was_not_checked: impl Fn(&str) -> bool,
    ) {
        let record = self.engines.entry(engine.to_owned()).or_default();
        kind.clone_into(&mut record.kind);
        record.version = version.map(str::to_owned).or(record.version.take());
        if models.is_empty() {
            return;
        }
        record.scanned = Some(now);
        for (name, model) in &mut record.models {
            if !was_not_checked(name) && !models.iter().any(|(found, _)| found == name) {
                model.missing_since.get_or_insert(now);
                model.loaded.clear();
            }
        }
        for (name, new) in models {
            record
                .models
                .entry(name)
                .or_default()
                .apply_engine_info(new);
        }
    }
}

/// Tokens per byte of prompts that are plausible. Fewer are counted if a server truncates a
/// prompt, or does not count a part that it has cached.
pub(super) const PLAUSIBLE_TOKENS_PER_BYTE: RangeInclusive<f64> = 0.05..=1.5;

impl ModelRecord {
    /// Returns the median of the plausible measurements of tokens per byte.
    #[must_use]
    pub fn tokens_per_byte_median(&self) -> Option<f64> {
        self.tokens_per_byte
            .median_within(&PLAUSIBLE_TOKENS_PER_BYTE)
    }

    /// Applies the facts that an engine reports. Facts that it does not report are kept.
    fn apply_engine_info(&mut self, new: Self) {
        fn update<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        update(&mut self.architecture, new.architecture);
        update(&mut self.quantization, new.quantization);
        update(&mut self.size_bytes, new.size_bytes);
        update(&mut self.declared_context, new.declared_context);
        update(
            &mut self.context_bytes_per_token,
            new.context_bytes_per_token,
        );
        update(&mut self.path, new.path);
        if !new.aliases.is_empty() {
            self.aliases = new.aliases;
        }
        self.vision |= new.vision;
        self.tools |= new.tools;
        self.generates_no_text = new.generates_no_text;
        self.loaded = new.loaded;
        self.missing_since = None;
    }

    /// Fills fields that are not set from an imported record. Returns whether anything
    /// changed. Values found by this program take precedence.
    pub fn fill_missing(&mut self, old: Self) -> bool {
        fn fill<T>(field: &mut Option<T>, old: Option<T>) {
            if field.is_none() {
                *field = old;
            }
        }
        let before = self.clone();
        fill(&mut self.architecture, old.architecture);
        fill(&mut self.quantization, old.quantization);
        fill(&mut self.size_bytes, old.size_bytes);
        fill(&mut self.declared_context, old.declared_context);
        fill(&mut self.path, old.path);
        fill(&mut self.tested, old.tested);
        // An imported failure could contradict a later test of this program.
        if self.trials.is_empty() {
            self.trials = old.trials;
        }
        let speeds = &mut self.speeds;
        for (samples, old) in [
            (&mut speeds.first_token_s, old.speeds.first_token_s),
            (&mut speeds.prefill, old.speeds.prefill),
            (&mut speeds.decode, old.speeds.decode),
            (&mut speeds.load_s, old.speeds.load_s),
        ] {
            if samples.is_empty() {
                *samples = old;
            }
        }
        self.vision |= old.vision;
        self.tools |= old.tools;
        if (self.runs, self.failures) == (0, 0) {
            self.failures = old.failures;
            fill(&mut self.last_failure, old.last_failure);
        }
        for (key, value) in old.extra {
            self.extra.entry(key).or_insert(value);
        }
        *self != before
    }

    /// Returns whether `name` is exactly the model's own name `id` or an alias.
    #[must_use]
    pub fn is_named(&self, id: &str, name: &str) -> bool {
        id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Returns whether the model has this keyword, imported from lmstrix.
    #[must_use]
    pub fn has_keyword(&self, word: &str) -> bool {
        let words = self.extra.get("keywords").and_then(Value::as_array);
        words
            .into_iter()
            .flatten()
            .any(|keyword| keyword.as_str() == Some(word))
    }

    /// Resets speeds, counts and failures.
    pub fn forget_runs(&mut self) {
        self.speeds = Speeds::default();
        self.tokens_per_byte = Samples::default();
        self.runs = 0;
        self.failures = 0;
        self.last_failure = None;
    }

    /// Resets the results of context tests.
    pub fn forget_tests(&mut self) {
        self.tested = None;
        self.trials.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_adds_keeps_and_marks_models_and_an_empty_one_changes_nothing() {
        let model = |size: u64| ModelRecord {
            size_bytes: Some(size),
            ..ModelRecord::default()
        };
        let (now, later) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let mut registry = Registry::default();
        let both = vec![("a".to_owned(), model(1)), ("b".to_owned(), model(2))];
        let none = |_: &str| false;
        registry.apply_scan("s", "lmstudio", Some("0.4.1"), both, now, none);
        registry.model_mut("s", "b").runs = 3;
        registry.apply_scan("s", "lmstudio", None, vec![], later, none);
        assert_eq!(registry.model("s", "b").unwrap().missing_since, None);
        registry.apply_scan(
            "s",
            "lmstudio",
            None,
            vec![("a".to_owned(), model(9))],
            later,
            |name| name == "b",
        );
        assert_eq!(registry.model("s", "b").unwrap().missing_since, None);
        registry.apply_scan(
            "s",
            "lmstudio",
            None,
            vec![("a".to_owned(), model(9))],
            later,
            none,
        );
        let (a, b) = (registry.model("s", "a"), registry.model("s", "b"));
        assert_eq!(a.unwrap().size_bytes, Some(9));
        assert_eq!(
            (b.unwrap().runs, b.unwrap().missing_since),
            (3, Some(later))
        );
        assert_eq!(registry.engines["s"].version.as_deref(), Some("0.4.1"));
        registry.apply_scan(
            "s",
            "lmstudio",
            None,
            vec![("b".to_owned(), model(2))],
            later,
            none,
        );
        assert_eq!(registry.model("s", "b").unwrap().missing_since, None);
    }

    #[test]
    fn fields_of_a_newer_version_are_kept() {
        let text = r#"{"schema":1,"engines":{"s":{"kind":"x","models":{"m":{"new":[1]}},"n":2}},"later":{"a":1}}"#;
        let registry: Registry = serde_json::from_str(text).unwrap();
        let again = serde_json::to_value(&registry).unwrap();
        assert_eq!(again["later"]["a"], 1);
        assert_eq!(again["engines"]["s"]["n"], 2);
        assert_eq!(again["engines"]["s"]["models"]["m"]["new"][0], 1);
    }
}
