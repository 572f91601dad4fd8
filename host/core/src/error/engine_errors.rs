//! Errors of engines, and of the hub that model files come from.

use super::definition::{Error, ErrorKind};
use super::suggestion::{did_you_mean, quoted_list};
use crate::engine::{
    self, EmbeddedError, EmbeddedFault, FaultKind, LlamaServerFailure, LlamaServerFault,
    embedded_fault,
};
use crate::error_chain::error_chain;

/// Shown when no server can be used.
const EMBEDDED_HINT: &str = "to run without a server, use -m FILE.gguf for a model file, --engine llama.cpp with its \
     name or a pattern, or --engine embedded for the built-in demo model";

const API_KEY_HINT: &str = "set LMSTRIX_HOST_API_KEY together with --engine (for LM Studio also LM_API_TOKEN), or \
     the variable that `key_env` names in the config";

/// Shown when llama-server is missing or too old.
const LLAMA_CPP_HINT: &str = if cfg!(windows) {
    "install the newest llama.cpp: winget install llama.cpp"
} else if cfg!(target_os = "macos") {
    "install the newest llama.cpp: brew install llama.cpp"
} else {
    "install the newest llama.cpp: brew install llama.cpp, or a build from \
     https://github.com/ggml-org/llama.cpp/releases"
};

const MEMORY_HINT: &str = "unload other models, or use a smaller --context";

const CONTEXT_HINT: &str = "shorten the text, or load the model with more context (--context)";

pub(super) fn engine_error(error: &engine::Error) -> Error {
    let message = error_chain(error);
    match error {
        engine::Error::NoEngine { .. } => Error::new(ErrorKind::Engine, message)
            .hint("start a server (in LM Studio: the Developer tab, or `lms server start`), or use --engine URL")
            .hint(EMBEDDED_HINT),
        engine::Error::UnknownEngine(_) => {
            Error::new(ErrorKind::Engine, message).hint(EMBEDDED_HINT)
        }
        engine::Error::Unreachable { reason, .. } if reason.contains("certificate") => {
            Error::new(ErrorKind::Engine, message).hint(
                "trust the certificate in the config: [engines.NAME] url = \"…\", \
                 ca_file = \"certificate.pem\"",
            )
        }
        engine::Error::NotAServer { response, .. } if is_login_page(response) => {
            Error::new(ErrorKind::Engine, message).hint(
                "a gateway asks for a login; set `key_env` or `headers` in [engines.NAME] of the \
                 config",
            )
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
                return match loaded.is_empty() {
                    true => failure.hint("name a model with -m, or a model file with -m FILE.gguf"),
                    false => failure,
                };
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
        engine::Error::NoLlamaServer { .. } => {
            let failure = Error::new(ErrorKind::Engine, message).hint(LLAMA_CPP_HINT);
            failure.hint("or name the executable in the config: [llama_server] command = \"…\"")
        }
        engine::Error::LlamaServer(failure) => llama_server_error(message, failure),
        engine::Error::ModelFile { .. } => Error::new(ErrorKind::Model, message),
        engine::Error::NoEmbeddedEngine => Error::usage(message)
            .hint("use --engine with a server's URL, or install the program with its default features"),
    }
}

/// Parts of llama-server's messages about too little memory, in lower case: on a CPU, with
/// CUDA and with Vulkan.
const OUT_OF_MEMORY: [&str; 6] = [
    "out of memory",
    "outofdevicememory",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate",
    "bad_alloc",
];

/// Returns the failure of a llama-server that this program started.
fn llama_server_error(message: String, failure: &LlamaServerFailure) -> Error {
    let kind = match failure.fault {
        LlamaServerFault::NotStarted(_) | LlamaServerFault::Lacks(_) => ErrorKind::Engine,
        LlamaServerFault::ExitedEarly(_) | LlamaServerFault::Crashed => ErrorKind::Model,
        LlamaServerFault::NotReady(_) => ErrorKind::Expired,
    };
    let hint = match &failure.fault {
        LlamaServerFault::NotStarted(_) => {
            Some("`command` in [llama_server] of the config names the executable")
        }
        LlamaServerFault::Lacks(_) => Some(LLAMA_CPP_HINT),
        LlamaServerFault::NotReady(_) => {
            Some("--load-timeout, or `load` in [timeouts] of the config, sets this limit")
        }
        _ if failure.log_contains(&OUT_OF_MEMORY) => Some(MEMORY_HINT),
        _ if failure.log_contains(&["unknown model architecture"]) => Some(LLAMA_CPP_HINT),
        _ => None,
    };
    let error = match hint {
        Some(hint) => Error::new(kind, message).hint(hint),
        None => Error::new(kind, message),
    };
    match &failure.log {
        Some(log) => error.hint(format!("its whole output is in {}", log.display())),
        None => error,
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
            output_tokens,
            context_tokens,
        } => {
            let problem = match (prompt_tokens, output_tokens, context_tokens) {
                (Some(prompt), Some(output), Some(context)) if prompt < context => format!(
                    "prompt of {prompt} tokens and answer of {output} tokens exceed the context \
                     of {context} tokens: "
                ),
                (Some(prompt), _, Some(context)) => {
                    format!("prompt of {prompt} tokens exceeds the context of {context} tokens: ")
                }
                (None, _, Some(context)) => {
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

pub(super) fn hub_error(error: &engine::HubError) -> Error {
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

/// Returns true if the response of a server is a page that asks for a login.
fn is_login_page(response: &str) -> bool {
    let response = response.to_lowercase();
    ["sign in", "log in", "login", "single sign-on"]
        .iter()
        .any(|words| response.contains(words))
}
