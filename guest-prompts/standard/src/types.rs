//! The types of the contract as plain Rust types.
//!
//! They mirror the parts of `wit/prompts.wit` that this pack uses, so that only the
//! `component` module depends on the generated bindings.

/// A key and a text value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl Entry {
    /// Creates an entry.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A text file that the user named, or that lies next to the pack.
#[derive(Clone, Debug)]
pub struct File {
    /// The file name without a folder.
    pub name: String,
    /// The content.
    pub text: String,
}

/// The arguments of `resolve`.
#[derive(Clone, Debug, Default)]
pub struct ResolveRequest {
    /// A prompt name, or several separated by commas.
    pub prompt: String,
    /// The parameters that the user set.
    pub params: Vec<Entry>,
    /// The prompt files. Files whose name does not end in `.toml` are ignored.
    pub files: Vec<File>,
    /// Further arguments. This pack reads `template`, the text of an inline prompt, and
    /// `optional-params`, the names of parameters that may be unused, one per line.
    pub extra: Vec<Entry>,
}

/// The result of `resolve`: the messages, the settings and the processors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolvedPrompt {
    /// The system message, if any.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
    /// The settings. Only stop strings may occur more than once.
    pub settings: Vec<Setting>,
    /// The processors of the answer, in order.
    pub processors: Vec<ProcessorRef>,
    /// Extension of the output file.
    pub extension: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// One inference setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Sampling temperature.
    Temperature(f64),
    /// The number of most likely tokens to sample from; 0 disables it.
    TopK(u32),
    /// The cumulative probability of the tokens to sample from.
    TopP(f64),
    /// The minimum probability relative to the most likely token.
    MinP(f64),
    /// The penalty for recent tokens; 1 disables it.
    RepeatPenalty(f64),
    /// The penalty for tokens that occurred before.
    PresencePenalty(f64),
    /// The penalty for tokens, proportional to the number of occurrences.
    FrequencyPenalty(f64),
    /// The seed of the random number generator.
    Seed(u64),
    /// The maximum number of tokens of the answer; `None` is no limit.
    MaxTokens(Option<u32>),
    /// A stop string: text that ends the answer.
    Stop(String),
    /// The JSON Schema of the answer.
    JsonSchema(String),
    /// The reasoning level: `off`, `on`, `low`, `medium` or `high`.
    Reasoning(String),
    /// An engine-specific setting.
    Other(Entry),
}

/// A processor and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorRef {
    /// `name`, or `pack/name`.
    pub name: String,
    /// The options.
    pub options: Vec<Entry>,
}

/// An error in a prompt file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file name without a folder.
    pub file: String,
    /// Line number, starting at 1, if known.
    pub line: Option<u32>,
    /// Column in characters, starting at 1, if known.
    pub column: Option<u32>,
    /// The error message.
    pub message: String,
}

/// An error of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no prompt of the requested name. Contains similar names.
    UnknownPrompt(Vec<String>),
    /// There is no processor of the requested name. Contains similar names.
    UnknownProcessor(Vec<String>),
    /// Required parameters are missing. Contains their names.
    MissingParams(Vec<String>),
    /// A parameter or option has an invalid value. Contains its name and the reason.
    InvalidParam(String, String),
    /// A prompt file has invalid content.
    InvalidFile(FileError),
    /// A processor rejected the answer. Contains the reason.
    Rejected(String),
}

/// The reason why the answer ended, as far as processors distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended the answer, or a processor needs no more of it.
    Complete,
    /// The answer was truncated by a limit, a cancellation or a failure.
    Truncated,
}
