//! The one border between errors and people: every error of every room gets
//! its exit code and its hints here, and nowhere else.

use crate::engine::FaultKind;
use crate::job::{self, Expired, Failed, Phase};
use crate::pack::{self, Answer};
use crate::{batch, config, engine, registry, sink};

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
    /// A limit of time was reached.
    Expired = 124,
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

impl From<engine::HubError> for Failure {
    fn from(error: engine::HubError) -> Self {
        use engine::HubError;
        let message = chain(&error);
        match error {
            HubError::BadReference(_) => Self::usage(message)
                .hint("as in `pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M`"),
            HubError::Unreachable { .. } | HubError::Garbage { .. } => {
                Self::new(Exit::Engine, message).hint("HF_ENDPOINT names another hub or a mirror")
            }
            HubError::Status { status, .. } => match status {
                401 | 403 => Self::new(Exit::Engine, message)
                    .hint("HF_TOKEN holds the token of an account that may read it"),
                404 => Self::new(Exit::Model, message),
                _ => Self::new(Exit::Broken, message),
            },
            HubError::Choice { repo, offered, .. } => {
                offered
                    .iter()
                    .fold(Self::new(Exit::Usage, message), |failure, (name, bytes)| {
                        failure.hint(format!(
                            "pull {repo}:{name}  ({})",
                            engine::gigabytes(*bytes)
                        ))
                    })
            }
            HubError::BuiltIn { name, .. } => Self::usage(message).hint(format!(
                "download it in a browser; -m ./{name}.gguf then names the file itself"
            )),
            HubError::Exists(_) => Self::usage(message).hint("--force replaces it"),
            HubError::Busy(_) => Self::new(Exit::Broken, message),
            HubError::NoRoom { .. } => Self::new(Exit::Broken, message)
                .hint("what has come so far is kept; LMSTRIX_HOST_HOME moves it to another disk"),
            HubError::Checksum { .. } => Self::new(Exit::Broken, message)
                .hint("it was removed; the same command downloads it anew"),
            HubError::Broken(_) | HubError::File { .. } => Self::new(Exit::Broken, message)
                .hint("what has come is kept; the same command goes on with it"),
        }
    }
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        let message = chain(&error);
        match error {
            registry::Error::Newer { .. } => {
                Self::usage(message).hint("update this program, or move the file away")
            }
            registry::Error::Locked { .. } => Self::new(Exit::Broken, message)
                .hint("the lock goes with its process; look for one that hangs"),
            registry::Error::Read { .. } | registry::Error::Write { .. } => {
                Self::new(Exit::Broken, message)
                    .hint("free some space or mend the folder's rights; LMSTRIX_HOST_HOME moves it")
            }
        }
    }
}

impl From<batch::PlanError> for Failure {
    fn from(error: batch::PlanError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<batch::JournalError> for Failure {
    fn from(error: batch::JournalError) -> Self {
        let message = chain(&error);
        match error {
            batch::JournalError::Read { .. } => Self::new(Exit::Broken, message),
            batch::JournalError::Write { .. } => Self::new(Exit::Broken, message).hint(
                "-o names a folder that can be written; with some space free the same command \
                 goes on",
            ),
            batch::JournalError::Busy { .. } => Self::usage(message)
                .hint("the lock goes with its process; another folder (-o) is another run"),
            batch::JournalError::Newer { .. } => {
                Self::usage(message).hint("update this program, or take another folder (-o)")
            }
            batch::JournalError::Absent { .. } => Self::usage(message),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<job::Error> for Failure {
    fn from(error: job::Error) -> Self {
        match error {
            job::Error::Pack(error) => error.into(),
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
        let message = chain(&error);
        match error {
            engine::Error::NoEngine { .. } => Self::new(Exit::Engine, message)
                .hint("start a server (in LM Studio: the Developer tab, or `lms server start`), or give --engine URL")
                .hint(EMBEDDED_HINT),
            engine::Error::UnknownEngine(_) => {
                Self::new(Exit::Engine, message).hint(EMBEDDED_HINT)
            }
            engine::Error::Unreachable { .. } | engine::Error::NotAServer { .. } => {
                Self::new(Exit::Engine, message)
                    .hint("--engine takes the address of a server's root, as http://127.0.0.1:1234")
                    .hint(EMBEDDED_HINT)
            }
            engine::Error::ConnectTimeout { .. } => {
                Self::new(Exit::Expired, message).hint("--connect-timeout sets this limit")
            }
            engine::Error::StillLoading { .. } => {
                Self::new(Exit::Expired, message).hint("--load-timeout sets this limit")
            }
            engine::Error::Unauthorised { .. } => Self::new(Exit::Engine, message).hint(
                "the key goes into LMSTRIX_HOST_API_KEY with --engine (for LM Studio also \
                 LM_API_TOKEN), or into the variable that `key_env` names in the config",
            ),
            engine::Error::Stopped(_)
            | engine::Error::Lost { .. }
            | engine::Error::Cut { .. }
            | engine::Error::Garbage { .. } => Self::new(Exit::Engine, message)
                .hint("run it again; if it stays so, the server's log says why"),
            engine::Error::UnknownModel { close, folder, .. } => {
                let failure = did_you_mean(Self::new(Exit::Model, message), &close);
                failure.hint(format!(
                    "models are GGUF files in {}; -m FILE.gguf names one anywhere",
                    folder.display()
                ))
            }
            engine::Error::UnknownServerModel { close, known, .. } => {
                let failure = did_you_mean(Self::new(Exit::Model, message), &close);
                if known.is_empty() {
                    return failure.hint("it has no models that can answer");
                }
                failure.hint(format!("it has {}", names(&known)))
            }
            engine::Error::NoModel { loaded, others, .. } => {
                let failure = Self::usage(message);
                let failure = if loaded.is_empty() {
                    failure
                } else {
                    failure.hint(format!("loaded: -m with one of {}", names(&loaded)))
                };
                if others.is_empty() {
                    return failure;
                }
                failure.hint(format!("not loaded: {}", names(&others)))
            }
            engine::Error::Memory { largest, .. } => {
                let failure = Self::new(Exit::Model, message);
                let failure = match largest {
                    Some(largest) => failure.hint(format!("--context {largest} fits")),
                    None => failure.hint("unload other models, or give a smaller --context"),
                };
                failure.hint("the estimate is rough; --force loads it all the same")
            }
            engine::Error::TooLong { .. } => Self::new(Exit::Context, message)
                .hint("a shorter text, or a model loaded with more context (--context)"),
            engine::Error::Refused { .. } => Self::new(Exit::Model, message),
            engine::Error::State { .. } => Self::new(Exit::Broken, message)
                .hint("this folder keeps who loaded which model; LMSTRIX_HOST_HOME moves it"),
            engine::Error::WrongModel { .. } => Self::new(Exit::Model, message)
                .hint("nothing of its answer was kept; load the model at the server, and run it again"),
            engine::Error::NotLoaded { fault, .. } => match fault.kind {
                FaultKind::OutOfMemory => Self::new(Exit::Model, message)
                    .hint("unload other models, or give a smaller --context"),
                FaultKind::Auth => Self::new(Exit::Engine, message),
                _ => Self::new(Exit::Model, message),
            },
            engine::Error::Server { fault, .. } => served(message, &fault),
            engine::Error::Context(_) | engine::Error::Settings(_) => Self::usage(message),
            engine::Error::Embedded(error) => embedded(message, &error),
        }
    }
}

fn did_you_mean(failure: Failure, close: &[String]) -> Failure {
    if close.is_empty() {
        failure
    } else {
        failure.hint(format!("did you mean {}?", names(close)))
    }
}

/// What a server said of its failure.
fn served(message: String, fault: &engine::Fault) -> Failure {
    let of_status = |status: Option<u16>| match status {
        Some(400..500) => Exit::Usage,
        _ => Exit::Broken,
    };
    match &fault.kind {
        FaultKind::Auth => Failure::new(Exit::Engine, message).hint(
            "the key goes into LMSTRIX_HOST_API_KEY with --engine (for LM Studio also \
             LM_API_TOKEN), or into the variable that `key_env` names in the config",
        ),
        FaultKind::UnknownModel => Failure::new(Exit::Model, message),
        FaultKind::Unloaded => Failure::new(Exit::Model, message).hint(
            "the server took the model out of memory; in LM Studio `Auto-Evict` does that. \
             Run it again",
        ),
        FaultKind::OutOfMemory => Failure::new(Exit::Model, message)
            .hint("unload other models, or give a smaller --context"),
        FaultKind::Overflow {
            prompt_tokens,
            context_tokens,
        } => {
            let numbers = match (prompt_tokens, context_tokens) {
                (Some(prompt), Some(context)) => {
                    format!("the prompt has {prompt} tokens, the context only {context}: ")
                }
                (None, Some(context)) => format!("the context has only {context} tokens: "),
                _ => "the prompt does not fit the context: ".to_owned(),
            };
            Failure::new(Exit::Context, format!("{numbers}{message}"))
                .hint("a shorter text, or a model loaded with more context (--context)")
        }
        FaultKind::Busy | FaultKind::Loading => Failure::new(Exit::Engine, message)
            .hint("the server has too much to do; run it again later"),
        FaultKind::Unsupported(_) => Failure::usage(message),
        FaultKind::Other => Failure::new(of_status(fault.status), message),
    }
}

fn embedded(message: String, error: &engine::embedded::Error) -> Failure {
    use engine::embedded::Error;
    match error {
        Error::TooLong { .. } => Failure::new(Exit::Context, message)
            .hint("a shorter text, or a model with more context (--context)"),
        Error::NoTemplate => {
            Failure::new(Exit::Model, message).hint("--raw sends the text without a template")
        }
        Error::Refused { .. } => Failure::usage(message)
            .hint("a prompt without a system message, or --raw, may be accepted"),
        Error::Architecture { .. }
        | Error::Tokenizer { .. }
        | Error::TensorType { .. }
        | Error::Feature { .. } => Failure::new(Exit::Model, message)
            .hint("llama.cpp's llama-server, LM Studio and Ollama run such models"),
        Error::Compute(_) => Failure::new(Exit::Engine, message),
        _ => Failure::new(Exit::Model, message),
    }
}

impl From<Expired> for Failure {
    fn from(expired: Expired) -> Self {
        let span = engine::seconds(expired.limit);
        let (what, flag) = match expired.phase {
            Phase::Load => ("the model was not loaded within", "--load-timeout"),
            Phase::FirstToken => ("no token came within", "--first-token-timeout"),
            Phase::Stream => ("the answer stood still for", "--stream-timeout"),
            Phase::Whole => ("the answer was not complete within", "--timeout"),
        };
        Self::new(Exit::Expired, format!("{what} {span}"))
            .hint(format!("{flag} sets this limit; 0 is off"))
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
            Failed::Expired(expired) => expired.into(),
        }
    }
}
