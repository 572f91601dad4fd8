//! The contract in the host's own words: what a pack is asked and what it
//! answers. `convert` translates to and from the types of `wit/prompts.wit`.

use serde::Serialize;

use crate::inference::{Finish, Layer, Prompt};

/// A text file that the user named, or that lies beside the pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// The bare file name, never a path.
    pub name: String,
    /// The path for messages to the user, as they typed it.
    pub shown: String,
    /// What is in it.
    pub text: String,
}

/// What is known of the model that will answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// The engine's name for it.
    pub id: String,
    /// `general.architecture` or the server's word for it.
    pub architecture: Option<String>,
    /// The most tokens of context that this run would load it with.
    pub context_length: Option<u32>,
    /// engine, quantization, format, reasoning, vision.
    pub extra: Vec<(String, String)>,
}

/// What is resolved.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt's name inside the pack.
    pub prompt: String,
    /// Parameters that the user gave, in their order.
    pub params: Vec<(String, String)>,
    /// Files that the pack may read.
    pub files: Vec<TextFile>,
    /// Absent when a prompt is only shown.
    pub model: Option<ModelFacts>,
    /// Growth room of the contract.
    pub extra: Vec<(String, String)>,
}

/// A processor by name, with its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessorRef {
    /// `name`, or `pack/name`.
    pub name: String,
    /// Options in the order given.
    pub options: Vec<(String, String)>,
}

/// What came of resolving.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// What the model is sent.
    pub prompt: Prompt,
    /// Settings that the prompt asks for.
    pub settings: Layer,
    /// Processors that the answer runs through.
    pub post: Vec<ProcessorRef>,
    /// For the output file's name, from `EXTENSIONS`.
    pub extension: Option<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Only for the report.
    pub extra: Vec<(String, String)>,
}

/// Extensions that a pack may ask for; anything else is dropped, so that no
/// pack can make a file that the system would run.
pub const EXTENSIONS: [&str; 12] = [
    "txt", "md", "json", "jsonl", "csv", "tsv", "xml", "html", "yaml", "toml", "srt", "vtt",
];

/// What a processor is opened with.
#[derive(Clone, Debug, Default)]
pub struct ProcessorContext {
    /// The processor's name inside the pack.
    pub processor: String,
    /// Its options.
    pub options: Vec<(String, String)>,
    /// The prompt that was asked, as the user named it.
    pub prompt: String,
    /// The parameters that the user gave.
    pub params: Vec<(String, String)>,
    /// Files that the pack may read.
    pub files: Vec<TextFile>,
    /// The model that answers.
    pub model: Option<ModelFacts>,
}

/// Why the answer ended, as a processor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The engine said so.
    Finished(Finish),
    /// Something broke, and what.
    Failed(String),
}

/// What one `push` gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// What can go out now.
    pub text: String,
    /// Nothing further is wanted.
    pub done: bool,
}

/// What `finish` gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Text that was held back until now.
    pub tail: String,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Only for the report.
    pub extra: Vec<(String, String)>,
}

/// A parameter of a prompt, or an option of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub summary: String,
    /// Whether it must be given.
    pub required: bool,
    /// What holds when it is not given.
    pub default: Option<String>,
}

/// A prompt or a processor that a pack offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its name inside the pack.
    pub name: String,
    /// What it does, in a line.
    pub summary: String,
    /// What it takes.
    pub params: Vec<ParamInfo>,
}

/// What a pack has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// What the pack is, in a line.
    pub summary: String,
    /// Its prompts.
    pub prompts: Vec<Offer>,
    /// Its processors.
    pub processors: Vec<Offer>,
}
