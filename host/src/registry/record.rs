//! The registry's data, as it lies in the file. Fields that this version does
//! not know are kept, so that an older program loses nothing of a newer one's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the file that this program writes.
pub(super) const SCHEMA: u32 = 1;

/// Everything that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// The version of the format.
    pub schema: u32,
    /// By place: a server's address, or `embedded`.
    #[serde(default)]
    pub engines: BTreeMap<String, EngineRecord>,
    /// The model that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Seen>,
    /// How much of the observations is in here already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folded: Option<super::observations::Folded>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            engines: BTreeMap::new(),
            last_used: None,
            folded: None,
            extra: Map::new(),
        }
    }
}

/// A model of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The model's name there.
    pub model: String,
    /// When.
    pub at: Timestamp,
}

/// One server, or the embedded engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// `lmstudio`, `ollama`, …
    #[serde(default)]
    pub kind: String,
    /// Its version, where it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was last asked for its models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned: Option<Timestamp>,
    /// Its models by name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelRecord>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Other names for exactly this model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// `general.architecture`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// How the weights are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Bytes on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Tokens of context that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_context: Option<u32>,
    /// Bytes that one token of context takes, where its file was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_bytes_per_token: Option<u64>,
    /// Its file, relative to LM Studio's folder of models, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it sees pictures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vision: bool,
    /// Whether it was trained to call tools.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tools: bool,
    /// Whether it only makes embeddings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub embeds_only: bool,
    /// The contexts of its instances when it was last asked after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<Option<u32>>,
    /// When a scan first did not find it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// The largest context that was found to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
    /// What tests have found so far, by level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<Level, Trial>,
    /// How fast it was.
    #[serde(default, skip_serializing_if = "Speeds::is_empty")]
    pub speeds: Speeds,
    /// Tokens that a byte of a prompt made.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub tokens_per_byte: Samples,
    /// Runs that ended with an answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub runs: u64,
    /// Runs that failed by the model or its server.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// Why the last of them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Fields of a newer program, and what the Python program knew beyond this.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What "it works" means, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// An instance with so much context comes up, and has it.
    Loads,
    /// A prompt that fills it is read, and something is answered.
    Accepts,
    /// A key hidden in the prompt comes back when asked for.
    Recalls,
}

impl Level {
    /// All, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Loads, Self::Accepts, Self::Recalls];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Accepts => "accepts",
            Self::Recalls => "recalls",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// A context that was found to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Tokens.
    pub context: u32,
    /// In which sense; absent for results of the Python program, which showed
    /// only that a short prompt is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether the search came to its end.
    #[serde(default)]
    pub complete: bool,
}

/// How far a test has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The largest context that worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<u32>,
    /// The smallest context that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<u32>,
    /// What happened there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// A probe that has begun. One that is found here by the next run took its
    /// program, or the whole machine, with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// A probe that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Tokens.
    pub context: u32,
    /// The process that does it.
    pub process: u32,
    /// When it began.
    pub at: Timestamp,
}

/// How fast a model was, in its last runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speeds {
    /// Seconds until the first token.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub first_token_s: Samples,
    /// Tokens of the prompt read per second.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub prefill: Samples,
    /// Tokens of the answer per second.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub decode: Samples,
    /// Seconds of loading.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub load_s: Samples,
}

impl Speeds {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The last measurements of something; their median is what counts, so that
/// one run on a busy machine changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

/// How many measurements are kept.
const SAMPLES_MAX: usize = 15;

impl Samples {
    /// Adds one; what is no positive number is left out.
    pub fn add(&mut self, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            return;
        }
        if self.0.len() >= SAMPLES_MAX {
            self.0.remove(0);
        }
        // Six digits are more than any clock here is good for.
        self.0.push((value * 1e6).round() / 1e6);
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        Some(if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper)
        } else {
            upper
        })
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Registry {
    /// A model's record, made when it is not there.
    pub fn model_mut(&mut self, engine: &str, model: &str) -> &mut ModelRecord {
        self.engines
            .entry(engine.to_owned())
            .or_default()
            .models
            .entry(model.to_owned())
            .or_default()
    }

    /// A model's record.
    #[must_use]
    pub fn model(&self, engine: &str, model: &str) -> Option<&ModelRecord> {
        self.engines.get(engine)?.models.get(model)
    }

    /// All models with the place they are at.
    pub fn models(&self) -> impl Iterator<Item = (&str, &str, &ModelRecord)> {
        self.engines.iter().flat_map(|(engine, record)| {
            let models = record.models.iter();
            models.map(move |(name, model)| (engine.as_str(), name.as_str(), model))
        })
    }

    /// Takes in what an engine said it has. What it does not name any more is
    /// kept and marked; an empty list marks nothing, since a server that is
    /// starting, or has lost its disk, says the same. Nor is marked what
    /// `is_unseen`: nobody looked whether it is there.
    pub fn scanned(
        &mut self,
        engine: &str,
        kind: &str,
        version: Option<&str>,
        models: Vec<(String, ModelRecord)>,
        now: Timestamp,
        is_unseen: impl Fn(&str) -> bool,
    ) {
        let record = self.engines.entry(engine.to_owned()).or_default();
        kind.clone_into(&mut record.kind);
        record.version = version.map(str::to_owned).or(record.version.take());
        if models.is_empty() {
            return;
        }
        record.scanned = Some(now);
        for (name, known) in &mut record.models {
            if !is_unseen(name) && !models.iter().any(|(it, _)| it == name) {
                known.missing_since.get_or_insert(now);
                known.loaded.clear();
            }
        }
        for (name, new) in models {
            record.models.entry(name).or_default().told(new);
        }
    }
}

impl ModelRecord {
    /// Takes over what an engine says; what it leaves out stays as it was.
    fn told(&mut self, new: Self) {
        fn keep<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        keep(&mut self.architecture, new.architecture);
        keep(&mut self.quantization, new.quantization);
        keep(&mut self.size_bytes, new.size_bytes);
        keep(&mut self.declared_context, new.declared_context);
        keep(
            &mut self.context_bytes_per_token,
            new.context_bytes_per_token,
        );
        keep(&mut self.path, new.path);
        if !new.aliases.is_empty() {
            self.aliases = new.aliases;
        }
        self.vision |= new.vision;
        self.tools |= new.tools;
        self.embeds_only = new.embeds_only;
        self.loaded = new.loaded;
        self.missing_since = None;
    }

    /// Takes over from another record what this one does not know; whether
    /// there was anything. What this program found itself is worth more.
    pub fn fill(&mut self, old: Self) -> bool {
        fn fill<T>(known: &mut Option<T>, old: Option<T>) {
            if known.is_none() {
                *known = old;
            }
        }
        let before = self.clone();
        fill(&mut self.architecture, old.architecture);
        fill(&mut self.quantization, old.quantization);
        fill(&mut self.size_bytes, old.size_bytes);
        fill(&mut self.declared_context, old.declared_context);
        fill(&mut self.path, old.path);
        fill(&mut self.tested, old.tested);
        // One failure there could refute what was found here since.
        if self.trials.is_empty() {
            self.trials = old.trials;
        }
        let speeds = &mut self.speeds;
        for (known, old) in [
            (&mut speeds.first_token_s, old.speeds.first_token_s),
            (&mut speeds.prefill, old.speeds.prefill),
            (&mut speeds.decode, old.speeds.decode),
            (&mut speeds.load_s, old.speeds.load_s),
        ] {
            if known.is_empty() {
                *known = old;
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

    /// Whether a name means this model, whose own name is `id`: exactly, and
    /// never by a part.
    #[must_use]
    pub fn is_named(&self, id: &str, name: &str) -> bool {
        id == name || self.aliases.iter().any(|it| it == name)
    }

    /// Whether the Python program gave it this keyword.
    #[must_use]
    pub fn has_keyword(&self, word: &str) -> bool {
        let words = self.extra.get("keywords").and_then(Value::as_array);
        words
            .into_iter()
            .flatten()
            .any(|it| it.as_str() == Some(word))
    }

    /// Forgets speeds, counts and failures.
    pub fn forget_runs(&mut self) {
        self.speeds = Speeds::default();
        self.tokens_per_byte = Samples::default();
        self.runs = 0;
        self.failures = 0;
        self.last_failure = None;
    }

    /// Forgets what tests found.
    pub fn forget_tests(&mut self) {
        self.tested = None;
        self.trials.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_runs_counts() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for value in [1.0, 100.0, 2.0, f64::NAN, 0.0, -1.0] {
            samples.add(value);
        }
        assert_eq!(samples.median(), Some(2.0));
        samples.add(4.0);
        assert_eq!(samples.median(), Some(3.0));
        for _ in 0..SAMPLES_MAX {
            samples.add(7.0);
        }
        assert_eq!(
            (samples.median(), samples.0.len()),
            (Some(7.0), SAMPLES_MAX)
        );
    }

    #[test]
    fn a_scan_adds_keeps_and_marks_and_an_empty_one_changes_nothing() {
        let model = |size: u64| ModelRecord {
            size_bytes: Some(size),
            ..ModelRecord::default()
        };
        let (now, later) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let mut registry = Registry::default();
        let both = vec![("a".to_owned(), model(1)), ("b".to_owned(), model(2))];
        let none = |_: &str| false;
        registry.scanned("s", "lmstudio", Some("0.4.1"), both, now, none);
        registry.model_mut("s", "b").runs = 3;
        registry.scanned("s", "lmstudio", None, vec![], later, none);
        assert_eq!(registry.model("s", "b").unwrap().missing_since, None);
        registry.scanned(
            "s",
            "lmstudio",
            None,
            vec![("a".to_owned(), model(9))],
            later,
            |it| it == "b",
        );
        assert_eq!(registry.model("s", "b").unwrap().missing_since, None);
        registry.scanned(
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
        registry.scanned(
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
    fn fields_of_a_newer_program_survive() {
        let text = r#"{"schema":1,"engines":{"s":{"kind":"x","models":{"m":{"new":[1]}},"n":2}},"later":{"a":1}}"#;
        let registry: Registry = serde_json::from_str(text).unwrap();
        let again = serde_json::to_value(&registry).unwrap();
        assert_eq!(again["later"]["a"], 1);
        assert_eq!(again["engines"]["s"]["n"], 2);
        assert_eq!(again["engines"]["s"]["models"]["m"]["new"][0], 1);
    }
}
