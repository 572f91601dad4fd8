//! The records of a batch journal: one JSON object per line.
//!
//! Fields are added but never removed or renamed. Records of an unknown kind are
//! skipped.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ErrorKind;

/// File name of the journal in the results folder.
pub const JOURNAL: &str = "batch.journal.jsonl";
/// File name of the lock that allows one run per folder.
pub(super) const LOCK: &str = ".batch.lock";

/// One journal line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The first line of the journal.
    Head(HeadRecord),
    /// A run started.
    Run(Box<RunRecord>),
    /// The context length that a model is loaded with from here on.
    Context(ContextRecord),
    /// A model load starts.
    Loading(InstanceRecord),
    /// A model was loaded.
    Loaded(InstanceRecord),
    /// A model was unloaded.
    Unloaded(InstanceRecord),
    /// A model was set aside because it hung or crashed repeatedly.
    Aside(InstanceRecord),
    /// A job was sent to the engine.
    Start(StartRecord),
    /// The answer of a job is complete.
    Answer(AnswerRecord),
    /// The result of a job is on disk.
    Done(Box<DoneRecord>),
    /// A job failed.
    Failed(Box<FailedRecord>),
    /// A run ended.
    End(EndRecord),
    /// A record of an unknown kind, written by a newer version.
    #[serde(other)]
    Other,
}

/// The first line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRecord {
    /// Version of the journal format.
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// Time of the first run in the folder.
    pub at: Timestamp,
    /// The name template of the results. It is fixed for the folder.
    pub name: String,
}

/// The start of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Start time.
    pub at: Timestamp,
    /// The plan in TOML, with absolute paths.
    pub plan: String,
    /// The shard of the plan, as `I/N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The number of jobs by model.
    pub jobs: BTreeMap<String, usize>,
}

/// The context length of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextRecord {
    /// Server URL, or `embedded`.
    pub engine: String,
    /// Model name at that engine.
    pub model: String,
    /// Context length in tokens.
    pub context: u32,
    /// Size in bytes of the longest prompt that the context was computed for.
    pub prompt_bytes: u64,
    /// Length in tokens of the longest answer that fits.
    #[serde(default)]
    pub answer_tokens: u32,
    /// The largest number of images of a prompt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: usize,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A load, an unload or the setting aside of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Server URL, or `embedded`.
    pub engine: String,
    /// Model name at that engine.
    pub model: String,
    /// Instance name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Context length in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Duration in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The reason, where there is one.
    #[serde(rename = "why", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A job that was sent to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// File name of the result.
    #[serde(deserialize_with = "file_name")]
    pub job: String,
    /// Identity of the job.
    pub identity: String,
    /// Attempt number in this run, starting at 1.
    pub attempt: u32,
}

/// A complete answer whose result file still has its temporary name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// File name of the result.
    #[serde(deserialize_with = "file_name")]
    pub job: String,
    /// Identity of the job.
    pub identity: String,
    /// Key of the job: a digest of its inputs before any pack processed them.
    pub key: String,
    /// Size of the result in bytes.
    pub length: u64,
    /// SHA-256 of the result, in hex.
    pub sha256: String,
    /// Temporary file name of the result.
    #[serde(deserialize_with = "file_name")]
    pub file: String,
}

/// The names of the parts of a job, for reports and exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLabels {
    /// Server URL, or `embedded`.
    pub engine: String,
    /// Model name at that engine.
    pub model: String,
    /// Quantization of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Label of the prompt.
    pub prompt: String,
    /// Name of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Names and values of the axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
}

/// A job whose result is on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DoneRecord {
    /// File name of the result.
    #[serde(deserialize_with = "file_name")]
    pub job: String,
    /// Identity of the job.
    pub identity: String,
    /// Key of the job: a digest of its inputs before any pack processed them.
    pub key: String,
    /// Size of the result in bytes.
    pub length: u64,
    /// SHA-256 of the result, in hex.
    pub sha256: String,
    /// Time of the record.
    pub at: Timestamp,
    /// Labels of the job.
    #[serde(rename = "of")]
    pub labels: JobLabels,
    /// Size of the prompt in bytes.
    #[serde(default)]
    pub prompt_bytes: u64,
    /// Estimated context length in tokens that the job needs.
    #[serde(default)]
    pub need: u32,
    /// Prompt tokens as counted by the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Answer tokens as counted by the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// Time to the first token in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    /// Total duration in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// Finish reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// The seed that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The number of attempts in this run.
    #[serde(default)]
    pub attempts: u32,
    /// Name and digest of each pack that was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<(String, String)>,
    /// Warnings for the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// `true` if a later run adopted the result after the run was killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// A failed job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailedRecord {
    /// File name of the result.
    #[serde(deserialize_with = "file_name")]
    pub job: String,
    /// Identity of the job.
    pub identity: String,
    /// Time of the record.
    pub at: Timestamp,
    /// Labels of the job.
    #[serde(rename = "of")]
    pub labels: JobLabels,
    /// The exit code of `infer` for the same failure.
    pub exit: u8,
    /// Error message.
    pub error: String,
    /// Duration in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// The number of attempts in this run. 0 if the job was never sent.
    #[serde(default)]
    pub attempts: u32,
    /// Size in bytes of the error text that was written to the result file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<u64>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// End time.
    pub at: Timestamp,
    /// The number of jobs done in this run.
    pub done: usize,
    /// The number of jobs that failed in this run.
    pub failed: usize,
    /// The number of jobs left for the next run.
    pub left: usize,
    /// Duration in seconds.
    pub seconds: f64,
    /// The reason if the run ended early.
    #[serde(rename = "why", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Reads the name of a file in the results folder. A folder may come from another machine, so
/// anything but a plain name is an error: it would lead out of the folder.
fn file_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut components = Path::new(&name).components();
    let is_plain = matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
        // On every system, so that a folder can be used on another one.
        && !name.contains(['/', '\\', '\0'])
        && name != JOURNAL
        && name != LOCK;
    if is_plain {
        Ok(name)
    } else {
        Err(D::Error::custom(format!(
            "`{name}` is not the name of a result in the folder"
        )))
    }
}

/// Returns the number of a failure's kind in the journal: the exit code of `infer`.
#[must_use]
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::ReaderGone => 0,
        ErrorKind::Broken => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Pack => 3,
        ErrorKind::Engine => 4,
        ErrorKind::Model => 5,
        ErrorKind::Context => 6,
        ErrorKind::Empty => 7,
        ErrorKind::Expired => 124,
        ErrorKind::Interrupted => 130,
    }
}
