//! The error of the library. Maps the errors of all modules to kinds, messages and hints;
//! this is the only place that does so.

use std::fmt;

use lmstrix_sandbox::ContractError;

use crate::engine::{EmbeddedError, EmbeddedFault, FaultKind, embedded_fault};
use crate::error_chain::error_chain;
use crate::job::{self, Expired, JobError, TimeoutPhase};
use crate::suggest::similar_names;
use crate::toml_file::TomlFileError;
use crate::{engine, registry, sink};

/// What kind of failure an error is.
///
/// The numbers are those of the key `exit` in a batch's journal; the command-line program
/// exits with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// The reader of the output is gone, which is no failure of a program in a pipe.
    ReaderGone = 0,
    /// A failure after the first byte of output, or an I/O error.
    Broken = 1,
    /// An error in the request, the config or an input file.
    Usage = 2,
    /// A pack cannot be loaded, traps, exceeds a limit, or returns `other`.
    Pack = 3,
    /// No engine found, or the engine was lost before the first byte.
    Engine = 4,
    /// The model is unknown or cannot be loaded.
    Model = 5,
    /// The prompt does not fit into the context.
    Context = 6,
    /// The answer is empty or was rejected.
    Empty = 7,
    /// A timeout expired.
    Expired = 124,
    /// Cancelled.
    Interrupted = 130,
}

/// An error of the library.
///
/// It displays as the outermost cause; [`source`](std::error::Error::source) has the
/// others. [`message`](Error::message) has all of them in one text.
#[derive(Debug)]
pub struct Error {
    /// The kind of the failure.
    pub kind: ErrorKind,
    /// What failed, and the causes.
    pub message: String,
    /// Suggestions, each with something to do.
    pub hints: Vec<String>,
    pub(crate) cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => cause.fmt(f),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref()?.source()
    }
}

impl Error {
    /// Creates an error without hints.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            cause: None,
        }
    }

    /// Creates an error of the request.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Creates the error of a cancelled run.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the error with its cause.
    pub fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(Box::new(cause)),
            ..self
        }
    }
}

fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn hub_error(error: &engine::HubError) -> Error {
    use engine::HubError;
    let message = error_chain(error);
    match error {
        HubError::InvalidReference(_) => Error::usage(message)
            .hint("example: `pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M`"),
        HubError::Unreachable { .. } | HubError::InvalidFileList { .. } => {
            Error::new(ErrorKind::Engine, message)
                .hint("set HF_ENDPOINT to use another hub or a mirror")
        }
        HubError::Status { status, .. } => match status {
            401 | 403 => Error::new(ErrorKind::Engine, message)
                .hint("set HF_TOKEN to the token of an account with access"),
            404 => Error::new(ErrorKind::Model, message),
            _ => Error::new(ErrorKind::Broken, message),
        },
        HubError::SelectFile {
            repo,
            candidates: offered,
            ..
        } => offered.iter().fold(
            Error::new(ErrorKind::Usage, message),
            |failure, (name, bytes)| {
                failure.hint(format!(
                    "pull {repo}:{name}  ({})",
                    engine::format_bytes(*bytes)
                ))
            },
        ),
        HubError::ReservedName { name, .. } => Error::usage(message).hint(format!(
            "download it in a browser and use `-m ./{name}.gguf`"
        )),
        HubError::FileExists(_) => Error::usage(message).hint("use --force to replace it"),
        HubError::AlreadyDownloading(_) => Error::new(ErrorKind::Broken, message),
        HubError::InsufficientDiskSpace { .. } => Error::new(ErrorKind::Broken, message)
            .hint("partial download kept; set LMSTRIX_HOST_HOME to use another disk"),
        HubError::ChecksumMismatch { .. } => Error::new(ErrorKind::Broken, message)
            .hint("corrupt download removed; run the same command to download it again"),
        HubError::DownloadInterrupted(_) | HubError::WriteFile { .. } => {
            Error::new(ErrorKind::Broken, message)
                .hint("partial download kept; run the same command to resume")
        }
    }
}

fn registry_error(error: &registry::Error) -> Error {
    let message = error_chain(error);
    match error {
        registry::Error::Newer { .. } => {
            Error::usage(message).hint("update lmstrix-host, or move the file away")
        }
        registry::Error::Locked { .. } => Error::new(ErrorKind::Broken, message)
            .hint("the lock is released when its process ends; look for a hung process"),
        registry::Error::Read { .. } | registry::Error::Write { .. } => {
            Error::new(ErrorKind::Broken, message)
                .hint("free disk space or fix the folder's permissions, or set LMSTRIX_HOST_HOME to another folder")
        }
    }
}

fn toml_file_error(error: &TomlFileError) -> Error {
    Error::usage(error_chain(error))
}

fn resolve_error(error: &job::ResolveError) -> Error {
    match error {
        job::ResolveError::Pack(error) => pack_error(error),
        other => Error::usage(error_chain(other)),
    }
}

fn pack_error(error: &lmstrix_sandbox::Error) -> Error {
    match error {
        lmstrix_sandbox::Error::Contract { pack, item, error } => contract_error(pack, item, error),
        lmstrix_sandbox::Error::NotFound {
            name,
            searched,
            available,
        } => {
            let folders: Vec<String> = searched
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            let failure = Error::new(ErrorKind::Usage, error_chain(error))
                .hint(format!("searched folders: {}", folders.join(", ")));
            let available = available.iter().map(String::as_str);
            did_you_mean(failure, &similar_names(name, available))
        }
        lmstrix_sandbox::Error::InvalidName { .. }
        | lmstrix_sandbox::Error::Read { .. }
        | lmstrix_sandbox::Error::MissingInterface { .. } => {
            Error::new(ErrorKind::Usage, error_chain(error))
        }
        lmstrix_sandbox::Error::Load { .. }
        | lmstrix_sandbox::Error::Guest(_)
        | lmstrix_sandbox::Error::Sandbox(_) => Error::new(ErrorKind::Pack, error_chain(error)),
    }
}

fn contract_error(pack: &str, item: &str, error: &ContractError) -> Error {
    match error {
        ContractError::UnknownPrompt(similar) => {
            let failure = Error::usage(format!("pack `{pack}` has no prompt `{item}`"));
            did_you_mean(failure, similar).hint(format!(
                "to send `{item}` as text, use '{{{{text}}}}' --text '{item}'"
            ))
        }
        ContractError::UnknownProcessor(similar) => {
            let failure = Error::usage(format!("pack `{pack}` has no processor `{item}`"));
            did_you_mean(failure, similar)
        }
        ContractError::MissingParams(missing) => {
            let failure = Error::usage(format!(
                "prompt `{item}` is missing {}: {}",
                if missing.len() == 1 {
                    "a parameter"
                } else {
                    "parameters"
                },
                quoted_list(missing)
            ));
            missing.iter().fold(failure, |failure, name| {
                failure.hint(if name == "text" {
                    "set `text` with --text TEXT, --text-file FILE, or a pipe to stdin".to_owned()
                } else {
                    format!("set `{name}` with -p {name}=VALUE")
                })
            })
        }
        ContractError::InvalidParam { name, reason } => Error::usage(format!(
            "pack `{pack}`, `{item}`: invalid `{name}`: {reason}"
        )),
        ContractError::InvalidFile { .. } => Error::usage(format!("pack `{pack}`: {error}")),
        ContractError::Rejected(reason) => Error::new(
            ErrorKind::Empty,
            format!("`{pack}/{item}` rejected the answer: {reason}"),
        ),
    }
}

/// Implements the conversion of a module's error, which becomes the cause.
macro_rules! error_from {
    ($($error:ty: $describe:ident,)*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                $describe(&error).caused_by(error)
            }
        })*
    };
}

error_from! {
    engine::Error: engine_error,
    engine::HubError: hub_error,
    Expired: expired_error,
    job::ResolveError: resolve_error,
    JobError: job_error,
    lmstrix_sandbox::Error: pack_error,
    registry::Error: registry_error,
    sink::Error: sink_error,
    TomlFileError: toml_file_error,
}

/// Shown when no server can be used.
const EMBEDDED_HINT: &str = "to run without a server, use --engine embedded for the built-in demo model, or with \
     -m FILE.gguf for a model file";

const API_KEY_HINT: &str = "set LMSTRIX_HOST_API_KEY together with --engine (for LM Studio also LM_API_TOKEN), or \
     the variable that `key_env` names in the config";

const MEMORY_HINT: &str = "unload other models, or use a smaller --context";

const CONTEXT_HINT: &str = "shorten the text, or load the model with more context (--context)";

fn engine_error(error: &engine::Error) -> Error {
    let message = error_chain(error);
    match error {
        engine::Error::NoEngine { .. } => Error::new(ErrorKind::Engine, message)
            .hint("start a server (in LM Studio: the Developer tab, or `lms server start`), or use --engine URL")
            .hint(EMBEDDED_HINT),
        engine::Error::UnknownEngine(_) => {
            Error::new(ErrorKind::Engine, message).hint(EMBEDDED_HINT)
        }
        engine::Error::Unreachable { .. } | engine::Error::NotAServer { .. } => {
            Error::new(ErrorKind::Engine, message)
                .hint("--engine takes the base URL of a server, such as http://127.0.0.1:1234")
                .hint(EMBEDDED_HINT)
        }
        engine::Error::ConnectTimeout { .. } => {
            Error::new(ErrorKind::Expired, message).hint("--connect-timeout sets this limit")
        }
        engine::Error::StillLoading { .. } => {
            Error::new(ErrorKind::Expired, message).hint("--load-timeout sets this limit")
        }
        engine::Error::Unauthorised { .. } => {
            Error::new(ErrorKind::Engine, message).hint(API_KEY_HINT)
        }
        engine::Error::EngineStopped(_)
        | engine::Error::ConnectionLost { .. }
        | engine::Error::IncompleteResponse { .. }
        | engine::Error::InvalidResponse { .. } => Error::new(ErrorKind::Engine, message)
            .hint("run the command again; if it still fails, check the server's log"),
        engine::Error::UnknownModel { similar, models_dir, .. } => {
            let failure = did_you_mean(Error::new(ErrorKind::Model, message), similar);
            failure.hint(format!(
                "models are GGUF files in {}; use -m FILE.gguf for a file elsewhere",
                models_dir.display()
            ))
        }
        engine::Error::UnknownServerModel { similar, available, .. } => {
            let failure = did_you_mean(Error::new(ErrorKind::Model, message), similar);
            if available.is_empty() {
                return failure.hint("the server has no chat models");
            }
            failure.hint(format!("available models: {}", quoted_list(available)))
        }
        engine::Error::ModelNotSpecified { loaded, not_loaded, .. } => {
            let failure = Error::usage(message);
            let failure = if loaded.is_empty() {
                failure
            } else {
                failure.hint(format!(
                    "use -m with a loaded model: {}",
                    quoted_list(loaded)
                ))
            };
            if not_loaded.is_empty() {
                return failure;
            }
            failure.hint(format!("not loaded: {}", quoted_list(not_loaded)))
        }
        engine::Error::InsufficientMemory { largest_context, .. } => {
            let failure = Error::new(ErrorKind::Model, message);
            let failure = match largest_context {
                Some(context) => failure.hint(format!("--context {context} fits")),
                None => failure.hint(MEMORY_HINT),
            };
            failure.hint("the estimate is rough; use --force to load the model anyway")
        }
        engine::Error::PromptTooLong { .. } => Error::new(ErrorKind::Context, message).hint(CONTEXT_HINT),
        engine::Error::Refused { .. } => Error::new(ErrorKind::Model, message),
        engine::Error::WriteState { .. } => Error::new(ErrorKind::Broken, message)
            .hint("this folder records which models were loaded by lmstrix-host; set LMSTRIX_HOST_HOME to use another one"),
        engine::Error::WrongModel { .. } => Error::new(ErrorKind::Model, message)
            .hint("the answer was discarded; load the model at the server and run the command again"),
        engine::Error::LoadFailed { fault, .. } => match fault.kind {
            FaultKind::OutOfMemory => Error::new(ErrorKind::Model, message).hint(MEMORY_HINT),
            FaultKind::Auth => Error::new(ErrorKind::Engine, message),
            _ => Error::new(ErrorKind::Model, message),
        },
        engine::Error::Server { fault, .. } => server_error(message, fault),
        engine::Error::InvalidContext(_) | engine::Error::UnsupportedSettings(_) => Error::usage(message),
        engine::Error::Embedded(error) => embedded_error(message, error),
        engine::Error::NoEmbeddedEngine => Error::usage(message)
            .hint("use --engine with a server's URL, or install the program with its default features"),
    }
}

fn did_you_mean(failure: Error, similar: &[String]) -> Error {
    if similar.is_empty() {
        failure
    } else {
        failure.hint(format!("did you mean {}?", quoted_list(similar)))
    }
}

/// Returns the failure for a fault that a server reported.
fn server_error(message: String, fault: &engine::ServerFault) -> Error {
    match &fault.kind {
        FaultKind::Auth => Error::new(ErrorKind::Engine, message).hint(API_KEY_HINT),
        FaultKind::UnknownModel => Error::new(ErrorKind::Model, message),
        FaultKind::Unloaded => Error::new(ErrorKind::Model, message).hint(
            "the server unloaded the model (in LM Studio, `Auto-Evict` does this); run the \
             command again",
        ),
        FaultKind::OutOfMemory => Error::new(ErrorKind::Model, message).hint(MEMORY_HINT),
        FaultKind::Overflow {
            prompt_tokens,
            context_tokens,
        } => {
            let problem = match (prompt_tokens, context_tokens) {
                (Some(prompt), Some(context)) => {
                    format!("prompt of {prompt} tokens exceeds the context of {context} tokens: ")
                }
                (None, Some(context)) => {
                    format!("prompt exceeds the context of {context} tokens: ")
                }
                _ => "prompt exceeds the context: ".to_owned(),
            };
            Error::new(ErrorKind::Context, format!("{problem}{message}")).hint(CONTEXT_HINT)
        }
        FaultKind::Busy | FaultKind::Loading => Error::new(ErrorKind::Engine, message)
            .hint("the server is busy; run the command again later"),
        FaultKind::Unsupported(_) => Error::usage(message),
        FaultKind::Other => {
            let kind = match fault.status {
                Some(400..500) => ErrorKind::Usage,
                _ => ErrorKind::Broken,
            };
            Error::new(kind, message)
        }
    }
}

fn embedded_error(message: String, error: &EmbeddedError) -> Error {
    match embedded_fault(error) {
        EmbeddedFault::PromptTooLong { .. } => {
            Error::new(ErrorKind::Context, message).hint(CONTEXT_HINT)
        }
        EmbeddedFault::NoChatTemplate => Error::new(ErrorKind::Model, message)
            .hint("use --raw to send the text without a template"),
        EmbeddedFault::TemplateRejected => {
            Error::usage(message).hint("try a prompt without a system message, or --raw")
        }
        EmbeddedFault::Unsupported => Error::new(ErrorKind::Model, message)
            .hint("run this model with llama-server, LM Studio or Ollama"),
        EmbeddedFault::Compute => Error::new(ErrorKind::Engine, message),
        EmbeddedFault::File => Error::new(ErrorKind::Model, message),
    }
}

fn expired_error(expired: &Expired) -> Error {
    let limit = engine::format_seconds(expired.limit);
    let (failed, flag) = match expired.phase {
        TimeoutPhase::Load => ("model not loaded", "--load-timeout"),
        TimeoutPhase::FirstToken => ("no first token", "--first-token-timeout"),
        TimeoutPhase::Stream => ("no further token", "--stream-timeout"),
        TimeoutPhase::Total => ("answer not complete", "--timeout"),
    };
    Error::new(ErrorKind::Expired, format!("{failed} within {limit}"))
        .hint(format!("{flag} sets this limit; 0 disables it"))
}

fn sink_error(error: &sink::Error) -> Error {
    match error {
        sink::Error::BrokenPipe => Error::new(ErrorKind::ReaderGone, ""),
        sink::Error::Stdout(_) => Error::new(ErrorKind::Broken, error_chain(error)),
        sink::Error::File { .. } => Error::usage(error_chain(error)),
    }
}

fn job_error(error: &JobError) -> Error {
    match error {
        JobError::Engine(error) => engine_error(error),
        JobError::Pack(error) => pack_error(error),
        JobError::Sink(error @ sink::Error::File { .. }) => {
            Error::new(ErrorKind::Broken, error_chain(error))
        }
        JobError::Sink(error) => sink_error(error),
        JobError::Empty | JobError::Cut(_) => Error::new(ErrorKind::Empty, error.to_string()),
        JobError::Expired(expired) => expired_error(expired),
        JobError::Cancelled => Error::interrupted(),
    }
}

impl Error {
    /// Returns the failure of a job. `has_output` distinguishes a connection that was
    /// lost during an answer from one that was lost before.
    #[must_use]
    pub fn of_job(error: JobError, has_output: bool) -> Self {
        let is_broken = matches!(
            &error,
            JobError::Engine(error) if has_output && (error.is_response_lost() || error.is_unreachable())
        );
        let error = Self::from(error);
        Self {
            kind: if is_broken {
                ErrorKind::Broken
            } else {
                error.kind
            },
            ..error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_displays_its_cause_and_has_the_rest_as_sources() {
        let error = Error::from(TomlFileError::Read {
            kind: "config file",
            path: "c.toml".into(),
            source: std::io::Error::other("no such file"),
        });
        assert_eq!(error.kind, ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot read config file `c.toml`");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("no such file"));
        assert_eq!(
            error.message,
            "cannot read config file `c.toml`: no such file"
        );
    }
}
