//! The lines of a journal. Fields are only ever added; a line of a kind that this
//! program does not know is passed over.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The first line.
    Head(Head),
    /// A run begins.
    Run(Box<Run>),
    /// The context that a model is loaded with, from now on.
    Context(Context),
    /// A model is about to be loaded.
    Loading(LogItem),
    /// It is loaded.
    Loaded(LogItem),
    /// It is unloaded.
    Unloaded(LogItem),
    /// A model is set aside: it hung or crashed again and again.
    Aside(LogItem),
    /// A job is sent.
    Start(Start),
    /// Its answer is complete.
    Answer(Answer),
    /// Its result is safe.
    Done(Box<Done>),
    /// It failed.
    Failed(Box<Failed>),
    /// A run ends.
    End(End),
    /// Something of a newer program's.
    #[serde(other)]
    Other,
}

/// The first line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// When the folder was first used.
    pub at: Timestamp,
    /// The template of names; it never changes.
    pub name: String,
}

/// A run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When.
    pub at: Timestamp,
    /// The plan, as a TOML file's text with absolute paths.
    pub plan: String,
    /// The part of it, as `I/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// How many jobs it has, by model.
    pub jobs: BTreeMap<String, usize>,
}

/// A model's context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The model's name there.
    pub model: String,
    /// Tokens.
    pub context: u32,
    /// Bytes of the longest prompt that it was made for.
    pub prompt_bytes: u64,
    /// Tokens of the longest answer that it has room for.
    #[serde(default)]
    pub answer_tokens: u32,
}

/// Something that happened to a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogItem {
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The model's name there.
    pub model: String,
    /// Its instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Tokens of context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Seconds that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A job is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The result's name.
    pub job: String,
    /// What the job is.
    pub identity: String,
    /// The how-manieth time in this run, from 1.
    pub attempt: u32,
}

/// A job's answer is complete; its result is about to get its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The result's name.
    pub job: String,
    /// What the job is.
    pub identity: String,
    /// What it was made of, before any pack saw it.
    pub key: String,
    /// Bytes of the result.
    pub length: u64,
    /// The result's SHA-256, in hex.
    pub sha256: String,
    /// The name that it has until then.
    pub file: String,
}

/// What a job is made of, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// A server's address, or `embedded`.
    pub engine: String,
    /// The model's name there.
    pub model: String,
    /// How its weights are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The prompt.
    pub prompt: String,
    /// The input's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The values of the axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
}

/// A job's result is safe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The result's name.
    pub job: String,
    /// What the job is.
    pub identity: String,
    /// What it was made of, before any pack saw it.
    pub key: String,
    /// Bytes of the result.
    pub length: u64,
    /// The result's SHA-256, in hex.
    pub sha256: String,
    /// When.
    pub at: Timestamp,
    /// The job in words.
    pub of: Of,
    /// Bytes of the prompt.
    #[serde(default)]
    pub prompt_bytes: u64,
    /// Tokens of context that it was thought to need.
    #[serde(default)]
    pub need: u32,
    /// Tokens of the prompt, as the engine counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// Seconds until the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    /// Seconds in all.
    #[serde(default)]
    pub seconds: f64,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// The seed that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How often it was sent in this run.
    #[serde(default)]
    pub attempts: u32,
    /// Packs that took part: name and digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<(String, String)>,
    /// What the user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Whether a later run found it in place, after a kill.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// A job failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The result's name.
    pub job: String,
    /// What the job is.
    pub identity: String,
    /// When.
    pub at: Timestamp,
    /// The job in words.
    pub of: Of,
    /// The exit code that `infer` would have had.
    pub exit: u8,
    /// Why.
    pub error: String,
    /// Seconds that it took.
    #[serde(default)]
    pub seconds: f64,
    /// How often it was sent in this run; 0 is never.
    #[serde(default)]
    pub attempts: u32,
    /// Bytes of the error that was written in the result's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<u64>,
}

/// A run ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Jobs that this run finished.
    pub done: usize,
    /// Jobs that failed in it.
    pub failed: usize,
    /// Jobs that it left for the next one.
    pub left: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// Why it ended early, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
