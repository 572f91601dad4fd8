//! The one border between errors and people: every error of every room gets
//! its exit code and its hints here, and nowhere else.

use crate::pack::{self, Answer};
use crate::pipeline::{self, Failed};
use crate::{config, engine, sink};

/// The exit codes, as the README lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; a broken pipe is success.
    Done = 0,
    /// Broken after the first byte.
    Broken = 1,
    /// What the user can mend in the command, the config or a file.
    Usage = 2,
    /// A pack that does not load, traps, hits a limit, or answers `other`.
    Pack = 3,
    /// Engine not found, or lost before the first byte.
    Engine = 4,
    /// Model unknown or not loadable.
    Model = 5,
    /// It does not fit the context.
    Context = 6,
    /// Empty or rejected answer.
    Empty = 7,
    /// Interrupted.
    Interrupted = 130,
}

/// An error as people get it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, and where.
    pub message: String,
    /// What to type next.
    pub hints: Vec<String>,
}

impl Failure {
    /// An error without hints.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// What the user can mend in the command.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The user had enough.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Adds what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// The message with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn names(list: &[String]) -> String {
    list.iter()
        .map(|it| format!("`{it}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<pipeline::Error> for Failure {
    fn from(error: pipeline::Error) -> Self {
        match error {
            pipeline::Error::Pack(error) => error.into(),
            other => Self::usage(chain(&other)),
        }
    }
}

impl From<pack::Error> for Failure {
    fn from(error: pack::Error) -> Self {
        match error {
            pack::Error::Answer {
                pack,
                asked,
                answer,
            } => answered(&pack, &asked, answer),
            pack::Error::NotFound {
                ref searched,
                ref close,
                ..
            } => {
                let folders: Vec<String> =
                    searched.iter().map(|it| it.display().to_string()).collect();
                let failure = Self::new(Exit::Usage, chain(&error))
                    .hint(format!("packs are looked for in {}", folders.join(", ")));
                if close.is_empty() {
                    failure
                } else {
                    failure.hint(format!("did you mean {}?", names(close)))
                }
            }
            pack::Error::BadName { .. } | pack::Error::Read { .. } | pack::Error::Lacks { .. } => {
                Self::new(Exit::Usage, chain(&error))
            }
            pack::Error::Load { .. } | pack::Error::Guest(_) | pack::Error::Sandbox(_) => {
                Self::new(Exit::Pack, chain(&error))
            }
        }
    }
}

fn answered(pack: &str, asked: &str, answer: Answer) -> Failure {
    match answer {
        Answer::UnknownPrompt(close) => {
            let failure = Failure::usage(format!("pack `{pack}` has no prompt named `{asked}`"));
            let failure = if close.is_empty() {
                failure
            } else {
                failure.hint(format!("did you mean {}?", names(&close)))
            };
            failure.hint(format!(
                "to send `{asked}` itself: '{{{{text}}}}' --text '{asked}'"
            ))
        }
        Answer::UnknownProcessor(close) => {
            let failure = Failure::usage(format!("pack `{pack}` has no processor named `{asked}`"));
            if close.is_empty() {
                failure
            } else {
                failure.hint(format!("did you mean {}?", names(&close)))
            }
        }
        Answer::MissingParams(missing) => {
            let failure = Failure::usage(format!(
                "the prompt `{asked}` needs {} that {} not given: {}",
                if missing.len() == 1 {
                    "a parameter"
                } else {
                    "parameters"
                },
                if missing.len() == 1 { "was" } else { "were" },
                names(&missing)
            ));
            missing.iter().fold(failure, |failure, name| {
                failure.hint(if name == "text" {
                    "--text TEXT, --text-file FILE, or a pipe into stdin gives `text`".to_owned()
                } else {
                    format!("-p {name}=VALUE gives `{name}`")
                })
            })
        }
        Answer::InvalidParam { name, why } => Failure::usage(format!(
            "pack `{pack}`, `{asked}`: `{name}` is not valid: {why}"
        )),
        Answer::InvalidFile { .. } => Failure::usage(format!("pack `{pack}`: {answer}")),
        Answer::Rejected(why) => Failure::new(
            Exit::Empty,
            format!("`{pack}/{asked}` rejected the answer: {why}"),
        ),
    }
}

/// What to type when there is no engine to be had.
const EMBEDDED_HINT: &str = "--engine embedded runs the built-in demo model, and -m FILE.gguf a model's file; \
     nothing else needs to run";

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        use engine::embedded;
        let message = chain(&error);
        match error {
            engine::Error::NoEngine | engine::Error::UnknownEngine(_) => {
                Self::new(Exit::Engine, message).hint(EMBEDDED_HINT)
            }
            engine::Error::Lost(_) => Self::new(Exit::Engine, message)
                .hint("run it again; if it stays so, try another model"),
            engine::Error::UnknownModel { close, folder, .. } => {
                let failure = Self::new(Exit::Model, message);
                let failure = if close.is_empty() {
                    failure
                } else {
                    failure.hint(format!("did you mean {}?", names(&close)))
                };
                failure.hint(format!(
                    "models are GGUF files in {}; -m FILE.gguf names one anywhere",
                    folder.display()
                ))
            }
            engine::Error::Context(_) | engine::Error::Settings(_) => Self::usage(message),
            engine::Error::Embedded(error) => match error {
                embedded::Error::TooLong { .. } => Self::new(Exit::Context, message)
                    .hint("a shorter text, or a model with more context (--context)"),
                embedded::Error::NoTemplate => {
                    Self::new(Exit::Model, message).hint("--raw sends the text without a template")
                }
                embedded::Error::Refused { .. } => Self::usage(message)
                    .hint("a prompt without a system message, or --raw, may be accepted"),
                embedded::Error::Architecture { .. }
                | embedded::Error::Tokenizer { .. }
                | embedded::Error::TensorType { .. }
                | embedded::Error::Feature { .. } => Self::new(Exit::Model, message)
                    .hint("llama.cpp's llama-server, LM Studio and Ollama run such models"),
                embedded::Error::Compute(_) => Self::new(Exit::Broken, message),
                _ => Self::new(Exit::Model, message),
            },
        }
    }
}

impl From<sink::Error> for Failure {
    fn from(error: sink::Error) -> Self {
        match error {
            sink::Error::BrokenPipe => Self::new(Exit::Done, ""),
            sink::Error::Stdout(_) => Self::new(Exit::Broken, chain(&error)),
            sink::Error::File { .. } => Self::usage(chain(&error)),
        }
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Engine(error) => error.into(),
            Failed::Pack(error) => error.into(),
            Failed::Sink(error @ sink::Error::File { .. }) => {
                Self::new(Exit::Broken, chain(&error))
            }
            Failed::Sink(error) => error.into(),
            Failed::Empty => Self::new(Exit::Empty, "the answer has no text"),
            Failed::Interrupted => Self::interrupted(),
        }
    }
}
