//! Maps the errors of all modules to exit codes, messages and hints. This is
//! the only place that does so.

use crate::engine::FaultKind;
use crate::error_chain::error_chain;
use crate::job::{self, Expired, JobError, TimeoutPhase};
use crate::suggest::similar_names;
use crate::toml_file::TomlFileError;
use crate::{engine, registry, sink};
use lmstrix_sandbox::ContractError;

/// The exit codes, as documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success. A broken pipe counts as success.
    Done = 0,
    /// A failure after the first byte of output, or an I/O error.
    Broken = 1,
    /// An error in the command line, the config or an input file.
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
    /// Interrupted by a signal.
    Interrupted = 130,
}

/// An error as it is shown to the user.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed, and the cause.
    pub message: String,
    /// Suggestions, each with something to type.
    pub hints: Vec<String>,
}

impl Failure {
    /// Creates a failure without hints.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Creates a failure with `Exit::Usage`.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates the failure of an interrupted run.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl From<engine::HubError> for Failure {
    fn from(error: engine::HubError) -> Self {
        use engine::HubError;
        let message = error_chain(&error);
        match error {
            HubError::InvalidReference(_) => Self::usage(message)
                .hint("example: `pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M`"),
            HubError::Unreachable { .. } | HubError::InvalidFileList { .. } => {
                Self::new(Exit::Engine, message)
                    .hint("set HF_ENDPOINT to use another hub or a mirror")
            }
            HubError::Status { status, .. } => match status {
                401 | 403 => Self::new(Exit::Engine, message)
                    .hint("set HF_TOKEN to the token of an account with access"),
                404 => Self::new(Exit::Model, message),
                _ => Self::new(Exit::Broken, message),
            },
            HubError::SelectFile {
                repo,
                candidates: offered,
                ..
            } => offered
                .iter()
                .fold(Self::new(Exit::Usage, message), |failure, (name, bytes)| {
                    failure.hint(format!(
                        "pull {repo}:{name}  ({})",
                        engine::format_bytes(*bytes)
                    ))
                }),
            HubError::ReservedName { name, .. } => Self::usage(message).hint(format!(
                "download it in a browser and use `-m ./{name}.gguf`"
            )),
            HubError::FileExists(_) => Self::usage(message).hint("use --force to replace it"),
            HubError::AlreadyDownloading(_) => Self::new(Exit::Broken, message),
            HubError::InsufficientDiskSpace { .. } => Self::new(Exit::Broken, message)
                .hint("partial download kept; set LMSTRIX_HOST_HOME to use another disk"),
            HubError::ChecksumMismatch { .. } => Self::new(Exit::Broken, message)
                .hint("corrupt download removed; run the same command to download it again"),
            HubError::DownloadInterrupted(_) | HubError::WriteFile { .. } => {
                Self::new(Exit::Broken, message)
                    .hint("partial download kept; run the same command to resume")
            }
        }
    }
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Self {
        let message = error_chain(&error);
        match error {
            registry::Error::Newer { .. } => {
                Self::usage(message).hint("update lmstrix-host, or move the file away")
            }
            registry::Error::Locked { .. } => Self::new(Exit::Broken, message)
                .hint("the lock is released when its process ends; look for a hung process"),
            registry::Error::Read { .. } | registry::Error::Write { .. } => {
                Self::new(Exit::Broken, message)
                    .hint("free disk space or fix the folder's permissions, or set LMSTRIX_HOST_HOME to another folder")
            }
        }
    }
}

impl From<TomlFileError> for Failure {
    fn from(error: TomlFileError) -> Self {
        Self::usage(error_chain(&error))
    }
}

impl From<job::ResolveError> for Failure {
    fn from(error: job::ResolveError) -> Self {
        match error {
            job::ResolveError::Pack(error) => error.into(),
            other => Self::usage(error_chain(&other)),
        }
    }
}

impl From<lmstrix_sandbox::Error> for Failure {
    fn from(error: lmstrix_sandbox::Error) -> Self {
        match error {
            lmstrix_sandbox::Error::Contract { pack, item, error } => {
                contract_failure(&pack, &item, error)
            }
            lmstrix_sandbox::Error::NotFound {
                ref name,
                ref searched,
                ref available,
            } => {
                let folders: Vec<String> = searched
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect();
                let failure = Self::new(Exit::Usage, error_chain(&error))
                    .hint(format!("searched folders: {}", folders.join(", ")));
                let available = available.iter().map(String::as_str);
                did_you_mean(failure, &similar_names(name, available))
            }
            lmstrix_sandbox::Error::InvalidName { .. }
            | lmstrix_sandbox::Error::Read { .. }
            | lmstrix_sandbox::Error::MissingInterface { .. } => {
                Self::new(Exit::Usage, error_chain(&error))
            }
            lmstrix_sandbox::Error::Load { .. }
            | lmstrix_sandbox::Error::Guest(_)
            | lmstrix_sandbox::Error::Sandbox(_) => Self::new(Exit::Pack, error_chain(&error)),
        }
    }
}

fn contract_failure(pack: &str, item: &str, error: ContractError) -> Failure {
    match error {
        ContractError::UnknownPrompt(similar) => {
            let failure = Failure::usage(format!("pack `{pack}` has no prompt `{item}`"));
            did_you_mean(failure, &similar).hint(format!(
                "to send `{item}` as text, use '{{{{text}}}}' --text '{item}'"
            ))
        }
        ContractError::UnknownProcessor(similar) => {
            let failure = Failure::usage(format!("pack `{pack}` has no processor `{item}`"));
            did_you_mean(failure, &similar)
        }
        ContractError::MissingParams(missing) => {
            let failure = Failure::usage(format!(
                "prompt `{item}` is missing {}: {}",
                if missing.len() == 1 {
                    "a parameter"
                } else {
                    "parameters"
                },
                quoted_list(&missing)
            ));
            missing.iter().fold(failure, |failure, name| {
                failure.hint(if name == "text" {
                    "set `text` with --text TEXT, --text-file FILE, or a pipe to stdin".to_owned()
                } else {
                    format!("set `{name}` with -p {name}=VALUE")
                })
            })
        }
        ContractError::InvalidParam { name, reason } => Failure::usage(format!(
            "pack `{pack}`, `{item}`: invalid `{name}`: {reason}"
        )),
        ContractError::InvalidFile { .. } => Failure::usage(format!("pack `{pack}`: {error}")),
        ContractError::Rejected(reason) => Failure::new(
            Exit::Empty,
            format!("`{pack}/{item}` rejected the answer: {reason}"),
        ),
    }
}

/// Shown when no server can be used.
const EMBEDDED_HINT: &str = "to run without a server, use --engine embedded for the built-in demo model, or with \
     -m FILE.gguf for a model file";

const API_KEY_HINT: &str = "set LMSTRIX_HOST_API_KEY together with --engine (for LM Studio also LM_API_TOKEN), or \
     the variable that `key_env` names in the config";

const MEMORY_HINT: &str = "unload other models, or use a smaller --context";

const CONTEXT_HINT: &str = "shorten the text, or load the model with more context (--context)";

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let message = error_chain(&error);
        match error {
            engine::Error::NoEngine { .. } => Self::new(Exit::Engine, message)
                .hint("start a server (in LM Studio: the Developer tab, or `lms server start`), or use --engine URL")
                .hint(EMBEDDED_HINT),
            engine::Error::UnknownEngine(_) => {
                Self::new(Exit::Engine, message).hint(EMBEDDED_HINT)
            }
            engine::Error::Unreachable { .. } | engine::Error::NotAServer { .. } => {
                Self::new(Exit::Engine, message)
                    .hint("--engine takes the base URL of a server, such as http://127.0.0.1:1234")
                    .hint(EMBEDDED_HINT)
            }
            engine::Error::ConnectTimeout { .. } => {
                Self::new(Exit::Expired, message).hint("--connect-timeout sets this limit")
            }
            engine::Error::StillLoading { .. } => {
                Self::new(Exit::Expired, message).hint("--load-timeout sets this limit")
            }
            engine::Error::Unauthorised { .. } => {
                Self::new(Exit::Engine, message).hint(API_KEY_HINT)
            }
            engine::Error::EngineStopped(_)
            | engine::Error::ConnectionLost { .. }
            | engine::Error::IncompleteResponse { .. }
            | engine::Error::InvalidResponse { .. } => Self::new(Exit::Engine, message)
                .hint("run the command again; if it still fails, check the server's log"),
            engine::Error::UnknownModel { similar, models_dir, .. } => {
                let failure = did_you_mean(Self::new(Exit::Model, message), &similar);
                failure.hint(format!(
                    "models are GGUF files in {}; use -m FILE.gguf for a file elsewhere",
                    models_dir.display()
                ))
            }
            engine::Error::UnknownServerModel { similar, available, .. } => {
                let failure = did_you_mean(Self::new(Exit::Model, message), &similar);
                if available.is_empty() {
                    return failure.hint("the server has no chat models");
                }
                failure.hint(format!("available models: {}", quoted_list(&available)))
            }
            engine::Error::ModelNotSpecified { loaded, not_loaded, .. } => {
                let failure = Self::usage(message);
                let failure = if loaded.is_empty() {
                    failure
                } else {
                    failure.hint(format!(
                        "use -m with a loaded model: {}",
                        quoted_list(&loaded)
                    ))
                };
                if not_loaded.is_empty() {
                    return failure;
                }
                failure.hint(format!("not loaded: {}", quoted_list(&not_loaded)))
            }
            engine::Error::InsufficientMemory { largest_context, .. } => {
                let failure = Self::new(Exit::Model, message);
                let failure = match largest_context {
                    Some(context) => failure.hint(format!("--context {context} fits")),
                    None => failure.hint(MEMORY_HINT),
                };
                failure.hint("the estimate is rough; use --force to load the model anyway")
            }
            engine::Error::PromptTooLong { .. } => Self::new(Exit::Context, message).hint(CONTEXT_HINT),
            engine::Error::Refused { .. } => Self::new(Exit::Model, message),
            engine::Error::WriteState { .. } => Self::new(Exit::Broken, message)
                .hint("this folder records which models were loaded by lmstrix-host; set LMSTRIX_HOST_HOME to use another one"),
            engine::Error::WrongModel { .. } => Self::new(Exit::Model, message)
                .hint("the answer was discarded; load the model at the server and run the command again"),
            engine::Error::LoadFailed { fault, .. } => match fault.kind {
                FaultKind::OutOfMemory => Self::new(Exit::Model, message).hint(MEMORY_HINT),
                FaultKind::Auth => Self::new(Exit::Engine, message),
                _ => Self::new(Exit::Model, message),
            },
            engine::Error::Server { fault, .. } => server_failure(message, &fault),
            engine::Error::InvalidContext(_) | engine::Error::UnsupportedSettings(_) => Self::usage(message),
            engine::Error::Embedded(error) => embedded_failure(message, &error),
        }
    }
}

fn did_you_mean(failure: Failure, similar: &[String]) -> Failure {
    if similar.is_empty() {
        failure
    } else {
        failure.hint(format!("did you mean {}?", quoted_list(similar)))
    }
}

/// Returns the failure for a fault that a server reported.
fn server_failure(message: String, fault: &engine::ServerFault) -> Failure {
    match &fault.kind {
        FaultKind::Auth => Failure::new(Exit::Engine, message).hint(API_KEY_HINT),
        FaultKind::UnknownModel => Failure::new(Exit::Model, message),
        FaultKind::Unloaded => Failure::new(Exit::Model, message).hint(
            "the server unloaded the model (in LM Studio, `Auto-Evict` does this); run the \
             command again",
        ),
        FaultKind::OutOfMemory => Failure::new(Exit::Model, message).hint(MEMORY_HINT),
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
            Failure::new(Exit::Context, format!("{problem}{message}")).hint(CONTEXT_HINT)
        }
        FaultKind::Busy | FaultKind::Loading => Failure::new(Exit::Engine, message)
            .hint("the server is busy; run the command again later"),
        FaultKind::Unsupported(_) => Failure::usage(message),
        FaultKind::Other => {
            let exit = match fault.status {
                Some(400..500) => Exit::Usage,
                _ => Exit::Broken,
            };
            Failure::new(exit, message)
        }
    }
}

fn embedded_failure(message: String, error: &lmstrix_gguf::Error) -> Failure {
    use lmstrix_gguf::Error;
    match error {
        Error::PromptTooLong { .. } => Failure::new(Exit::Context, message).hint(CONTEXT_HINT),
        Error::NoChatTemplate => {
            Failure::new(Exit::Model, message).hint("use --raw to send the text without a template")
        }
        Error::TemplateRejected { .. } => {
            Failure::usage(message).hint("try a prompt without a system message, or --raw")
        }
        Error::UnsupportedArchitecture { .. }
        | Error::UnsupportedTokenizer { .. }
        | Error::UnsupportedTensorType { .. }
        | Error::UnsupportedFeature { .. } => Failure::new(Exit::Model, message)
            .hint("run this model with llama-server, LM Studio or Ollama"),
        Error::Compute(_) => Failure::new(Exit::Engine, message),
        _ => Failure::new(Exit::Model, message),
    }
}

impl From<Expired> for Failure {
    fn from(expired: Expired) -> Self {
        let limit = engine::format_seconds(expired.limit);
        let (failed, flag) = match expired.phase {
            TimeoutPhase::Load => ("model not loaded", "--load-timeout"),
            TimeoutPhase::FirstToken => ("no first token", "--first-token-timeout"),
            TimeoutPhase::Stream => ("no further token", "--stream-timeout"),
            TimeoutPhase::Total => ("answer not complete", "--timeout"),
        };
        Self::new(Exit::Expired, format!("{failed} within {limit}"))
            .hint(format!("{flag} sets this limit; 0 disables it"))
    }
}

impl From<sink::Error> for Failure {
    fn from(error: sink::Error) -> Self {
        match error {
            sink::Error::BrokenPipe => Self::new(Exit::Done, ""),
            sink::Error::Stdout(_) => Self::new(Exit::Broken, error_chain(&error)),
            sink::Error::File { .. } => Self::usage(error_chain(&error)),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Engine(error) => error.into(),
            JobError::Pack(error) => error.into(),
            JobError::Sink(error @ sink::Error::File { .. }) => {
                Self::new(Exit::Broken, error_chain(&error))
            }
            JobError::Sink(error) => error.into(),
            JobError::Empty | JobError::Cut(_) => Self::new(Exit::Empty, error.to_string()),
            JobError::Expired(expired) => expired.into(),
            JobError::Cancelled => Self::interrupted(),
        }
    }
}

impl Failure {
    /// Returns the failure of a job. `has_output` distinguishes a connection that was
    /// lost during an answer from one that was lost before.
    #[must_use]
    pub fn of_job(error: JobError, has_output: bool) -> Self {
        let is_broken = matches!(
            &error,
            JobError::Engine(error) if has_output && (error.is_response_lost() || error.is_unreachable())
        );
        let failure = Self::from(error);
        if is_broken {
            Self {
                exit: Exit::Broken,
                ..failure
            }
        } else {
            failure
        }
    }
}
