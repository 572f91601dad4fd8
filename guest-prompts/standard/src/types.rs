//! What goes in and out: the contract's types as plain Rust.
//!
//! They mirror `wit/prompts.wit` as far as this pack needs it, so that no other
//! module depends on generated bindings.

/// A named text value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// The text.
    pub value: String,
}

impl Entry {
    /// An entry from two texts.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A file that the user named, or that lies beside the pack.
#[derive(Clone, Debug)]
pub struct File {
    /// The bare file name, never a path.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// What is asked of the resolver.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// One prompt name, or several joined by commas.
    pub prompt: String,
    /// The parameters that the user gave.
    pub params: Vec<Entry>,
    /// The prompt files; names not ending in `.toml` are ignored.
    pub files: Vec<File>,
    /// `template`: the text of an inline prompt.
    pub extra: Vec<Entry>,
}

/// What the model is sent, and what becomes of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The system message, if any.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
    /// The settings, each at most once; only stop texts may be several.
    pub settings: Vec<Setting>,
    /// The processors that the answer runs through, in order.
    pub post: Vec<ProcessorRef>,
    /// For the name of the output file.
    pub extension: Option<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One inference setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Randomness of the choice of tokens.
    Temperature(f64),
    /// How many tokens are considered; 0 is off.
    TopK(u32),
    /// The probability mass considered.
    TopP(f64),
    /// The least probability relative to the likeliest token.
    MinP(f64),
    /// The penalty on tokens seen lately; 1 is off.
    RepeatPenalty(f64),
    /// The penalty on tokens seen at all.
    PresencePenalty(f64),
    /// The penalty on tokens by how often they were seen.
    FrequencyPenalty(f64),
    /// The start of the random numbers.
    Seed(u64),
    /// Tokens that the answer may have; `None` is no limit.
    MaxTokens(Option<u32>),
    /// A text that ends the answer.
    Stop(String),
    /// A JSON Schema that the answer must satisfy.
    JsonSchema(String),
    /// `off`, `on`, `low`, `medium` or `high`.
    Reasoning(String),
    /// A sampling key of some engine.
    Other(Entry),
}

/// A processor by name, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorRef {
    /// A bare name, or `pack/name`.
    pub name: String,
    /// The options as texts.
    pub options: Vec<Entry>,
}

/// What is wrong with a file, and where; line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The bare file name.
    pub file: String,
    /// The line, where known.
    pub line: Option<u32>,
    /// The column in characters, where known.
    pub column: Option<u32>,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No prompt of the name asked for; close ones, if any.
    UnknownPrompt(Vec<String>),
    /// No processor of the name asked for; close ones, if any.
    UnknownProcessor(Vec<String>),
    /// The prompt needs these, and the call has not got them.
    MissingParams(Vec<String>),
    /// A parameter or option, and what is wrong with it.
    InvalidParam(String, String),
    /// A prompt file is wrong.
    InvalidFile(FileError),
    /// The answer did not pass a check.
    Rejected(String),
}

/// Why the answer ended, as far as a processor cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended it, or a processor had enough.
    Complete,
    /// It was cut: at a limit, by the user, or by a failure.
    Cut,
}
