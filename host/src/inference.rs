//! One inference as values: what is asked, with which settings and where each
//! came from, and what an engine says while it works.
//!
//! Nothing here knows packs, servers, files or the command line. Engines,
//! packs, sinks and reports speak to each other in these words.

use std::collections::BTreeMap;

use serde::Serialize;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word that chat templates and servers use.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What the model is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// Goes through the model's own chat template.
    Chat(Vec<Message>),
    /// Goes to the model as it stands, without a template.
    Raw(String),
}

/// Where a value comes from; the earlier one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Typed on the command line.
    Flag,
    /// Written in the plan of a batch.
    Plan,
    /// A `LMSTRIX_HOST_*` variable.
    Environment,
    /// The prompt, or the pack that resolved it.
    Prompt,
    /// The config file.
    Config,
    /// What the model's file recommends.
    ModelFile,
    /// What this program does when nobody says anything.
    Default,
}

/// A value and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// How many tokens an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxTokens {
    /// As many as fit into the context.
    Unlimited,
    /// At most this many.
    Tokens(u32),
    /// This share of the effective context, in percent (1 to 100).
    Percent(u8),
}

impl MaxTokens {
    /// Reads `4096`, `50%` or `-1`.
    ///
    /// # Errors
    /// It is none of these; the text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong =
            || format!("max_tokens is `{text}`; it takes a number from 1, `1%` to `100%`, or -1");
        if text == "-1" {
            return Ok(Self::Unlimited);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }

    /// The number of tokens, where the effective context has `context`.
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

/// Settings as one source gives them; what it does not mention is absent.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the names are the field's own and documented in `Settings`"
)]
pub struct Layer {
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

/// The levels that `reasoning` takes.
pub const REASONING_LEVELS: [&str; 5] = ["off", "on", "low", "medium", "high"];

impl Layer {
    /// Checks that every value is one that some engine could honour.
    ///
    /// # Errors
    /// The name of the first setting that is out of range, and its range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
        ];
        for (name, value, least, most) in ranges {
            if let Some(value) = value
                && !(least..=most).contains(&value)
            {
                return Err((
                    name,
                    format!("is {value}; it must be from {least} to {most}"),
                ));
            }
        }
        if let Some(level) = &self.reasoning
            && !REASONING_LEVELS.contains(&level.as_str())
        {
            let levels = REASONING_LEVELS.join(", ");
            return Err((
                "reasoning",
                format!("is `{level}`; it must be one of {levels}"),
            ));
        }
        if self.max_tokens == Some(MaxTokens::Tokens(0)) {
            return Err(("max_tokens", "is 0; an answer needs at least 1".to_owned()));
        }
        if self.stop.iter().flatten().any(String::is_empty) {
            return Err((
                "stop",
                "is empty; a stop text needs at least one character".to_owned(),
            ));
        }
        Ok(())
    }

    /// This layer, and beneath it another one.
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

    /// The names of the settings that this layer has, in snake case.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let has = [
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
        let named = has
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name));
        named.chain(self.other.keys().map(String::as_str)).collect()
    }
}

/// Settings as they hold for one inference, each with its origin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Randomness; 0 always takes the likeliest token.
    pub temperature: Given<f64>,
    /// Only the k likeliest tokens are drawn from; 0 is off.
    pub top_k: Given<u32>,
    /// Only the likeliest tokens that make up this probability; 1 is off.
    pub top_p: Given<f64>,
    /// Only tokens at least this fraction as likely as the likeliest; 0 is off.
    pub min_p: Given<f64>,
    /// Divides the score of tokens among the last 64; 1 is off.
    pub repeat_penalty: Given<f64>,
    /// Lowers the score of every token that occurred; absent is off.
    pub presence_penalty: Option<Given<f64>>,
    /// Lowers the score by how often the token occurred; absent is off.
    pub frequency_penalty: Option<Given<f64>>,
    /// Makes sampling repeatable; absent draws one.
    pub seed: Option<Given<u64>>,
    /// The most tokens that the answer may have.
    pub max_tokens: Given<MaxTokens>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Given<Vec<String>>,
    /// A JSON Schema that the answer must satisfy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Given<String>>,
    /// off, on, low, medium or high.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Given<String>>,
    /// Sampling keys of some engine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, Given<String>>,
}

impl Settings {
    /// The names of the settings that somebody gave: not those that a model's
    /// file recommends, and not the defaults.
    #[must_use]
    pub fn given(&self) -> Vec<&str> {
        self.origins()
            .into_iter()
            .filter(|(_, origin)| !matches!(origin, Origin::ModelFile | Origin::Default))
            .map(|(name, _)| name)
            .collect()
    }

    /// Every setting that has a value, with where it comes from.
    #[must_use]
    pub fn origins(&self) -> Vec<(&str, Origin)> {
        let has = [
            ("temperature", Some(self.temperature.origin)),
            ("top_k", Some(self.top_k.origin)),
            ("top_p", Some(self.top_p.origin)),
            ("min_p", Some(self.min_p.origin)),
            ("repeat_penalty", Some(self.repeat_penalty.origin)),
            (
                "presence_penalty",
                self.presence_penalty.map(|it| it.origin),
            ),
            (
                "frequency_penalty",
                self.frequency_penalty.map(|it| it.origin),
            ),
            ("seed", self.seed.map(|it| it.origin)),
            ("max_tokens", Some(self.max_tokens.origin)),
            ("stop", Some(self.stop.origin)),
            ("json_schema", self.json_schema.as_ref().map(|it| it.origin)),
            ("reasoning", self.reasoning.as_ref().map(|it| it.origin)),
        ];
        let named = has
            .into_iter()
            .filter_map(|(name, origin)| Some((name, origin?)));
        let others = self
            .other
            .iter()
            .map(|(name, it)| (name.as_str(), it.origin));
        named.chain(others).collect()
    }
}

/// How many of the last tokens the repeat penalty looks at (LM Studio's and
/// llama.cpp's default).
pub const REPEAT_LAST_TOKENS: usize = 64;

/// LM Studio's defaults of sampling, which users know from its window.
#[must_use]
pub fn defaults() -> Layer {
    Layer {
        temperature: Some(0.8),
        top_k: Some(40),
        top_p: Some(0.95),
        min_p: Some(0.05),
        repeat_penalty: Some(1.1),
        max_tokens: Some(MaxTokens::Unlimited),
        stop: Some(Vec::new()),
        ..Layer::default()
    }
}

/// Which settings an engine can honour, by their names in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It does what the setting says.
    Honoured,
    /// It ignores the setting without a word.
    Dropped,
    /// It answers with an error.
    Rejected,
    /// Nobody knows.
    Unknown,
}

/// What an engine says while it works. The stream ends exactly once, with
/// `Finished`; an end without it is an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The model is being loaded; the fraction done, where known.
    Loading(Option<f32>),
    /// The prompt is being read.
    Prefill {
        /// The share that is done, 0 to 1.
        progress: f32,
        /// Tokens of the whole prompt, where known.
        tokens: Option<u32>,
    },
    /// A piece of the model's thinking; never part of the answer.
    Reasoning(String),
    /// A piece of the answer: whole UTF-8, never empty.
    Text(String),
    /// Counts, known so far or at the end; a later one replaces an earlier.
    Usage(Usage),
    /// Something that the user should know and that does not stop the work.
    Warning(String),
    /// Why it ended. Nothing follows.
    Finished(Finish),
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, reasoning included.
    pub completion_tokens: u32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended it, or a stop text did.
    End,
    /// It was cut at the limit of tokens.
    Length,
    /// The model's context is full.
    ContextFull,
    /// A processor had enough.
    Enough,
    /// It repeated itself without end (`--max-repeat`).
    Repetition,
    /// The user or a limit ended it.
    Cancelled,
}

/// Puts the layers together: for each setting the first layer that has it wins.
///
/// `layers` must be ordered by `Origin`, the strongest first. `defaults()` is
/// put behind them.
#[must_use]
pub fn settle(layers: &[(Origin, Layer)]) -> Settings {
    let fallback = defaults();
    fn first<T: Clone>(
        layers: &[(Origin, Layer)],
        fallback: &Layer,
        get: impl Fn(&Layer) -> Option<T>,
    ) -> Option<Given<T>> {
        layers
            .iter()
            .find_map(|(origin, layer)| {
                get(layer).map(|value| Given {
                    value,
                    origin: *origin,
                })
            })
            .or_else(|| {
                get(fallback).map(|value| Given {
                    value,
                    origin: Origin::Default,
                })
            })
    }
    fn sure<T>(given: Option<Given<T>>, last: T) -> Given<T> {
        given.unwrap_or(Given {
            value: last,
            origin: Origin::Default,
        })
    }
    let mut other = BTreeMap::new();
    for (origin, layer) in layers.iter().rev() {
        for (key, value) in &layer.other {
            other.insert(
                key.clone(),
                Given {
                    value: value.clone(),
                    origin: *origin,
                },
            );
        }
    }
    let l = layers;
    let f = &fallback;
    Settings {
        temperature: sure(first(l, f, |x| x.temperature), 0.0),
        top_k: sure(first(l, f, |x| x.top_k), 0),
        top_p: sure(first(l, f, |x| x.top_p), 1.0),
        min_p: sure(first(l, f, |x| x.min_p), 0.0),
        repeat_penalty: sure(first(l, f, |x| x.repeat_penalty), 1.0),
        presence_penalty: first(l, f, |x| x.presence_penalty),
        frequency_penalty: first(l, f, |x| x.frequency_penalty),
        seed: first(l, f, |x| x.seed),
        max_tokens: sure(first(l, f, |x| x.max_tokens), MaxTokens::Unlimited),
        stop: sure(first(l, f, |x| x.stop.clone()), Vec::new()),
        json_schema: first(l, f, |x| x.json_schema.clone()),
        reasoning: first(l, f, |x| x.reasoning.clone()),
        other,
    }
}
