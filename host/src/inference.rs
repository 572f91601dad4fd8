//! The data types of one inference: the prompt, the settings with their
//! origins, and the events of an engine.
//!
//! Engines, packs, sinks and reports share these types. They do not depend on
//! packs, servers, files or the command line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Returns the name used by chat templates and servers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// The input of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// Messages, formatted with the model's chat template.
    Chat(Vec<Message>),
    /// A text sent without a chat template.
    Raw(String),
}

impl Prompt {
    /// Returns the texts that are sent, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (raw, messages) = match self {
            Self::Raw(text) => (Some(text.as_str()), &[][..]),
            Self::Chat(messages) => (None, messages.as_slice()),
        };
        raw.into_iter()
            .chain(messages.iter().map(|message| message.content.as_str()))
    }

    /// Returns the length of all texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}

/// The source of a setting, in order of precedence: the first one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A command-line flag.
    Flag,
    /// The plan of a batch.
    Plan,
    /// A `LMSTRIX_HOST_*` environment variable.
    Environment,
    /// The prompt, or the pack that resolved it.
    Prompt,
    /// The config file.
    Config,
    /// The recommendation in the model file.
    ModelFile,
    /// The default of this program.
    Default,
}

/// A value and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WithOrigin<T> {
    /// The value.
    pub value: T,
    /// The origin.
    pub origin: Origin,
}

/// The maximum length of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxTokens {
    /// The space left in the context.
    Unlimited,
    /// A number of tokens.
    Tokens(u32),
    /// A percentage of the effective context, 1 to 100.
    Percent(u8),
}

impl MaxTokens {
    /// Parses `4096`, `50%` or `-1`.
    ///
    /// # Errors
    /// Returns a message with the allowed values for any other text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let invalid = || {
            format!("invalid max_tokens `{text}`; expected a number from 1, `1%` to `100%`, or -1")
        };
        if text == "-1" {
            return Ok(Self::Unlimited);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(invalid()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(invalid()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }

    /// Returns the number of tokens for an effective context of `context`
    /// tokens, or `None` for no limit.
    #[must_use]
    pub fn tokens(self, context: u32) -> Option<u32> {
        match self {
            Self::Unlimited => None,
            Self::Tokens(tokens) => Some(tokens),
            Self::Percent(percent) => {
                let share = u64::from(context) * u64::from(percent) / 100;
                Some(u32::try_from(share).unwrap_or(u32::MAX).max(1))
            }
        }
    }
}

/// The settings of one source; `None` means not set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are documented in `Settings`")]
pub struct SettingsLayer {
    pub temperature: Option<f64>,
    pub top_k: Option<u32>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub repeat_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub seed: Option<u64>,
    pub max_tokens: Option<MaxTokens>,
    pub stop: Option<Vec<String>>,
    pub json_schema: Option<String>,
    pub reasoning: Option<String>,
    pub other: BTreeMap<String, String>,
}

/// The values of `reasoning`.
pub const REASONING_LEVELS: [&str; 5] = ["off", "on", "low", "medium", "high"];

impl SettingsLayer {
    /// Checks that all values are in the ranges that engines accept.
    ///
    /// # Errors
    /// Returns the name of the first invalid setting, in snake case, and a
    /// message to be appended to the name.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
        ];
        for (name, value, min, max) in ranges {
            if let Some(value) = value
                && !(min..=max).contains(&value)
            {
                return Err((
                    name,
                    format!("is {value} but must be between {min} and {max}"),
                ));
            }
        }
        if let Some(level) = &self.reasoning
            && !REASONING_LEVELS.contains(&level.as_str())
        {
            let levels = REASONING_LEVELS.join(", ");
            return Err((
                "reasoning",
                format!("is `{level}` but must be one of {levels}"),
            ));
        }
        if self.max_tokens == Some(MaxTokens::Tokens(0)) {
            return Err(("max_tokens", "is 0 but must be at least 1".to_owned()));
        }
        if self.stop.iter().flatten().any(String::is_empty) {
            return Err(("stop", "must not be an empty text".to_owned()));
        }
        Ok(())
    }

    /// Merges two layers; the values of `self` take precedence.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        let mut other = weaker.other;
        other.extend(self.other);
        Self {
            temperature: self.temperature.or(weaker.temperature),
            top_k: self.top_k.or(weaker.top_k),
            top_p: self.top_p.or(weaker.top_p),
            min_p: self.min_p.or(weaker.min_p),
            repeat_penalty: self.repeat_penalty.or(weaker.repeat_penalty),
            presence_penalty: self.presence_penalty.or(weaker.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(weaker.frequency_penalty),
            seed: self.seed.or(weaker.seed),
            max_tokens: self.max_tokens.or(weaker.max_tokens),
            stop: self.stop.or(weaker.stop),
            json_schema: self.json_schema.or(weaker.json_schema),
            reasoning: self.reasoning.or(weaker.reasoning),
            other,
        }
    }

    /// Returns the names of the settings that are set, in snake case.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let known = [
            ("temperature", self.temperature.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
            ("min_p", self.min_p.is_some()),
            ("repeat_penalty", self.repeat_penalty.is_some()),
            ("presence_penalty", self.presence_penalty.is_some()),
            ("frequency_penalty", self.frequency_penalty.is_some()),
            ("seed", self.seed.is_some()),
            ("max_tokens", self.max_tokens.is_some()),
            ("stop", self.stop.is_some()),
            ("json_schema", self.json_schema.is_some()),
            ("reasoning", self.reasoning.is_some()),
        ];
        known
            .into_iter()
            .filter_map(|(name, is_set)| is_set.then_some(name))
            .chain(self.other.keys().map(String::as_str))
            .collect()
    }
}

/// The effective settings of one inference, each with its origin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Sampling temperature; 0 always picks the most likely token.
    pub temperature: WithOrigin<f64>,
    /// Samples from the k most likely tokens; 0 disables.
    pub top_k: WithOrigin<u32>,
    /// Samples from the most likely tokens with this total probability; 1
    /// disables.
    pub top_p: WithOrigin<f64>,
    /// Drops tokens less likely than this fraction of the most likely one; 0
    /// disables.
    pub min_p: WithOrigin<f64>,
    /// Divides the logits of tokens among the last `REPEAT_LAST_TOKENS`; 1
    /// disables.
    pub repeat_penalty: WithOrigin<f64>,
    /// Lowers the logit of each token that occurred; `None` disables.
    pub presence_penalty: Option<WithOrigin<f64>>,
    /// Lowers the logit of a token by how often it occurred; `None` disables.
    pub frequency_penalty: Option<WithOrigin<f64>>,
    /// Random seed; `None` uses a random one.
    pub seed: Option<WithOrigin<u64>>,
    /// Maximum length of the answer.
    pub max_tokens: WithOrigin<MaxTokens>,
    /// Stop sequences; they are not part of the answer.
    pub stop: WithOrigin<Vec<String>>,
    /// A JSON Schema that the answer must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<WithOrigin<String>>,
    /// Reasoning effort, one of `REASONING_LEVELS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<WithOrigin<String>>,
    /// Engine-specific sampling settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, WithOrigin<String>>,
}

impl Settings {
    /// Returns the names of the settings that were set explicitly, without
    /// recommendations of the model file and defaults.
    #[must_use]
    pub fn explicit_names(&self) -> Vec<&str> {
        self.origins()
            .into_iter()
            .filter(|(_, origin)| !matches!(origin, Origin::ModelFile | Origin::Default))
            .map(|(name, _)| name)
            .collect()
    }

    /// Returns the name and origin of each setting that has a value.
    #[must_use]
    pub fn origins(&self) -> Vec<(&str, Origin)> {
        let known = [
            ("temperature", Some(self.temperature.origin)),
            ("top_k", Some(self.top_k.origin)),
            ("top_p", Some(self.top_p.origin)),
            ("min_p", Some(self.min_p.origin)),
            ("repeat_penalty", Some(self.repeat_penalty.origin)),
            (
                "presence_penalty",
                self.presence_penalty.map(|setting| setting.origin),
            ),
            (
                "frequency_penalty",
                self.frequency_penalty.map(|setting| setting.origin),
            ),
            ("seed", self.seed.map(|setting| setting.origin)),
            ("max_tokens", Some(self.max_tokens.origin)),
            ("stop", Some(self.stop.origin)),
            (
                "json_schema",
                self.json_schema.as_ref().map(|setting| setting.origin),
            ),
            (
                "reasoning",
                self.reasoning.as_ref().map(|setting| setting.origin),
            ),
        ];
        let other = self
            .other
            .iter()
            .map(|(name, setting)| (name.as_str(), setting.origin));
        known
            .into_iter()
            .filter_map(|(name, origin)| Some((name, origin?)))
            .chain(other)
            .collect()
    }
}

/// The number of recent tokens that the repeat penalty applies to; the default
/// of LM Studio and llama.cpp.
pub const REPEAT_LAST_TOKENS: usize = 64;

/// Returns the default sampling settings, which are those of LM Studio.
#[must_use]
pub fn defaults() -> SettingsLayer {
    SettingsLayer {
        temperature: Some(0.8),
        top_k: Some(40),
        top_p: Some(0.95),
        min_p: Some(0.05),
        repeat_penalty: Some(1.1),
        max_tokens: Some(MaxTokens::Unlimited),
        stop: Some(Vec::new()),
        ..SettingsLayer::default()
    }
}

/// How an engine handles a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingSupport {
    /// The engine applies the setting.
    Honoured,
    /// The engine ignores the setting silently.
    Dropped,
    /// The engine returns an error.
    Rejected,
    /// Not known.
    Unknown,
}

/// An event of a running inference. A complete stream ends with exactly one
/// `Finished`; a stream that ends without it is an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The model is being loaded; the completed fraction, 0 to 1, if known.
    Loading(Option<f32>),
    /// The prompt is being processed.
    Prefill {
        /// The completed fraction, 0 to 1.
        progress: f32,
        /// The number of tokens of the whole prompt, if known.
        tokens: Option<u32>,
    },
    /// A piece of the model's reasoning, which is not part of the answer.
    Reasoning(String),
    /// A piece of the answer: complete characters, never empty.
    Text(String),
    /// Token counts so far; later counts replace earlier ones.
    Usage(Usage),
    /// A warning that does not stop the inference.
    Warning(String),
    /// The end of the answer. No event follows.
    Finished(FinishReason),
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, including reasoning.
    pub completion_tokens: u32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model ended the answer or produced a stop sequence.
    End,
    /// The answer reached `max_tokens`.
    Length,
    /// The context is full.
    ContextFull,
    /// A processor asked to stop.
    Enough,
    /// The answer repeated the same text too often (`--max-repeat`).
    Repetition,
    /// The run was cancelled or a timeout expired.
    Cancelled,
}

/// Merges layers into effective settings. For each setting the first layer that
/// sets it wins, and `defaults()` comes last.
///
/// `layers` must be in the order of `Origin`.
#[must_use]
pub fn resolve_settings(layers: &[(Origin, &SettingsLayer)]) -> Settings {
    let fallback = defaults();
    fn first<T: Clone>(
        layers: &[(Origin, &SettingsLayer)],
        fallback: &SettingsLayer,
        get: impl Fn(&SettingsLayer) -> Option<T>,
    ) -> Option<WithOrigin<T>> {
        layers
            .iter()
            .find_map(|(origin, layer)| {
                get(layer).map(|value| WithOrigin {
                    value,
                    origin: *origin,
                })
            })
            .or_else(|| {
                get(fallback).map(|value| WithOrigin {
                    value,
                    origin: Origin::Default,
                })
            })
    }
    fn or_default<T>(setting: Option<WithOrigin<T>>, value: T) -> WithOrigin<T> {
        setting.unwrap_or(WithOrigin {
            value,
            origin: Origin::Default,
        })
    }
    let mut other = BTreeMap::new();
    for (origin, layer) in layers.iter().rev() {
        for (key, value) in &layer.other {
            other.insert(
                key.clone(),
                WithOrigin {
                    value: value.clone(),
                    origin: *origin,
                },
            );
        }
    }
    let all = layers;
    let last = &fallback;
    Settings {
        temperature: or_default(first(all, last, |layer| layer.temperature), 0.0),
        top_k: or_default(first(all, last, |layer| layer.top_k), 0),
        top_p: or_default(first(all, last, |layer| layer.top_p), 1.0),
        min_p: or_default(first(all, last, |layer| layer.min_p), 0.0),
        repeat_penalty: or_default(first(all, last, |layer| layer.repeat_penalty), 1.0),
        presence_penalty: first(all, last, |layer| layer.presence_penalty),
        frequency_penalty: first(all, last, |layer| layer.frequency_penalty),
        seed: first(all, last, |layer| layer.seed),
        max_tokens: or_default(
            first(all, last, |layer| layer.max_tokens),
            MaxTokens::Unlimited,
        ),
        stop: or_default(first(all, last, |layer| layer.stop.clone()), Vec::new()),
        json_schema: first(all, last, |layer| layer.json_schema.clone()),
        reasoning: first(all, last, |layer| layer.reasoning.clone()),
        other,
    }
}
