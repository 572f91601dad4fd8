//! Errors of the pack module: loading a pack, calling it, and the errors that a
//! pack itself returns.

use std::path::PathBuf;

use super::captured_output::{WrittenLines, reason_of_crash};
use super::limits::{ByteSize, LimitExceeded};

/// An error from loading or calling a pack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder contains a pack of this name.
    #[error("no pack named `{name}`")]
    NotFound {
        /// The requested pack name.
        name: String,
        /// The folders that were searched.
        searched: Vec<PathBuf>,
        /// The names of the packs that were found.
        available: Vec<String>,
    },
    /// The name is not a valid pack name.
    #[error("invalid pack name `{name}`: {reason}")]
    InvalidName {
        /// The rejected name.
        name: String,
        /// The rule that the name violates.
        reason: &'static str,
    },
    /// The pack file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The pack cannot be loaded.
    #[error("cannot load pack `{pack}`{}: {cause}", PathSuffix(path.as_ref()))]
    Load {
        /// Name of the pack.
        pack: String,
        /// Path of the pack file; `None` for the standard pack.
        path: Option<PathBuf>,
        /// The reason.
        cause: LoadError,
    },
    /// The pack failed or violated the contract during a call.
    #[error("{0}")]
    Guest(Box<GuestError>),
    /// The pack returned an error that the contract defines.
    #[error("{error}{}", WrittenLines(written))]
    Contract {
        /// Name of the pack.
        pack: Box<str>,
        /// The requested prompt or processor.
        item: Box<str>,
        /// The error that the pack returned.
        error: ContractError,
        /// The output of the pack on stdout and stderr.
        written: Box<str>,
    },
    /// The pack does not export the required interface.
    #[error("pack `{pack}` has no {interface}")]
    MissingInterface {
        /// Name of the pack.
        pack: String,
        /// `prompts` or `processors`.
        interface: &'static str,
    },
    /// A file cannot be a part of a pack.
    #[error("invalid pack `{pack}`: `{path}`: {reason}")]
    InvalidPackFile {
        /// Name of the pack.
        pack: String,
        /// Path of the file, relative to the packs folder.
        path: String,
        /// The rule that the file violates.
        reason: &'static str,
    },
    /// A lock file is invalid.
    #[error("invalid lock file `{}`: {reason}", path.display())]
    InvalidLockFile {
        /// Path of the file.
        path: PathBuf,
        /// The reason, with the line if it is known.
        reason: String,
    },
    /// The pack is not the one that is locked or pinned.
    #[error("pack `{pack}`{} is refused: {reason} ({rule})", PathSuffix(path.as_ref()))]
    Refused {
        /// Name of the pack.
        pack: String,
        /// Path of the pack file; `None` for the standard pack.
        path: Option<PathBuf>,
        /// The rule: `--locked` or `pins`.
        rule: &'static str,
        /// The difference.
        reason: String,
    },
    /// The sandbox or a thread for it could not be started.
    #[error("cannot start the sandbox: {0}")]
    Sandbox(String),
}

/// Displays a path in parentheses, or nothing.
struct PathSuffix<'a>(Option<&'a PathBuf>);

impl std::fmt::Display for PathSuffix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(path) => write!(f, " ({})", path.display()),
            None => Ok(()),
        }
    }
}

/// The reason why a pack cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path is a folder, a device or a pipe.
    #[error("not a regular file")]
    NotRegular,
    /// The file is a symbolic link to a target outside its packs folder.
    #[error("the symbolic link points outside its folder")]
    LinkOutsideFolder,
    /// The file exceeds the size limit.
    #[error("the file has {}, the limit is {} (limits.pack_file_bytes)", ByteSize(*bytes), ByteSize(*limit))]
    TooLarge {
        /// Size of the file in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not WebAssembly.
    #[error("not a WebAssembly file")]
    NotWasm,
    /// The file is a core module, not a component.
    #[error(
        "a core WebAssembly module, not a component; build it for wasm32-wasip2, \
         or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The file is precompiled machine code (`.cwasm` or ELF).
    #[error(
        "precompiled machine code is not accepted; use the .wasm file that it was compiled from"
    )]
    Precompiled,
    /// The component fails validation.
    #[error("invalid WebAssembly: {0}")]
    Invalid(String),
    /// The component imports something that packs have no access to.
    #[error("imports `{0}`, which is not available to packs")]
    ForbiddenImport(String),
    /// The component implements an incompatible version of the contract.
    #[error("exports `{export}`, but this host supports lmstrix:prompts 0.1; update {update}")]
    ContractVersion {
        /// Name of the export.
        export: String,
        /// Either `lmstrix-host` or `the pack`.
        update: &'static str,
    },
    /// The component exports no interface of the contract.
    #[error("exports no interface of lmstrix:prompts@0.1.0 (exports: {0})")]
    NoContract(String),
    /// The types of the exports differ from those of the contract.
    #[error("types differ from lmstrix:prompts@0.1.0: {0}")]
    TypeMismatch(String),
    /// The trial instantiation failed.
    #[error("instantiation failed: {0}")]
    Instantiation(GuestFailure),
    /// Compilation failed.
    #[error("compilation failed: {0}")]
    Compile(String),
    /// Compilation exceeded the time limit, in seconds.
    #[error("compilation took more than {0} s (limits.pack_compile_seconds)")]
    CompileTimeout(u64),
}

/// A failed call into a pack, with the pack, the function and what the pack wrote.
#[derive(Debug)]
pub struct GuestError {
    /// Name of the pack.
    pub pack: String,
    /// The first twelve hex digits of the component's SHA-256.
    pub digest: String,
    /// The called function of the contract.
    pub function: &'static str,
    /// The requested prompt or processor; empty for `describe`.
    pub item: String,
    /// The reason.
    pub cause: GuestFailure,
    /// The output of the pack on stdout and stderr.
    pub written: String,
}

impl std::fmt::Display for GuestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pack,
            digest,
            function,
            item,
            cause,
            written,
        } = self;
        write!(f, "pack `{pack}` (sha256 {digest}) failed in {function}")?;
        if !item.is_empty() {
            write!(f, " for `{item}`")?;
        }
        match (cause, reason_of_crash(written)) {
            (GuestFailure::Trap(trap), Some(reason)) => {
                write!(f, ": crashed: {reason} ({trap})")?;
            }
            _ => write!(f, ": {cause}")?,
        }
        write!(f, "{}", WrittenLines(written))
    }
}

/// The reason why a call into a pack failed.
#[derive(Debug, thiserror::Error)]
pub enum GuestFailure {
    /// The pack exceeded a limit.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The pack trapped, for example by a panic, an abort or a division by zero.
    #[error("crashed ({0})")]
    Trap(String),
    /// The pack exhausted its stack.
    #[error("stack overflow (the stack has 1 MiB)")]
    StackOverflow,
    /// The pack called `wasi:cli/exit` with this status.
    #[error("called exit({0}), which packs must not do")]
    Exit(u8),
    /// The sandbox ended the call for another reason.
    #[error("call ended by the sandbox: {0}")]
    Sandbox(String),
    /// The returned value violates the contract.
    #[error("contract violation: {0}")]
    Contract(String),
    /// The pack returned the contract's `other` error.
    #[error("{message} (code `{code}`)")]
    Other {
        /// A stable error code.
        code: String,
        /// The error message.
        message: String,
    },
}

/// An error that a pack returns, as defined by the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The pack has no prompt of the requested name. Contains similar names.
    #[error("unknown prompt")]
    UnknownPrompt(Vec<String>),
    /// The pack has no processor of the requested name. Contains similar names.
    #[error("unknown processor")]
    UnknownProcessor(Vec<String>),
    /// Required parameters are missing. Contains their names.
    #[error("missing parameters: {}", .0.join(", "))]
    MissingParams(Vec<String>),
    /// A parameter or option has an invalid value.
    #[error("{name}: {reason}")]
    InvalidParam {
        /// Name of the parameter or option.
        name: String,
        /// The reason.
        reason: String,
    },
    /// A file has invalid content.
    #[error("{file}: {message}")]
    InvalidFile {
        /// The file name without its folder.
        file: String,
        /// Line number, starting at 1.
        line: Option<u32>,
        /// Column in characters, starting at 1.
        column: Option<u32>,
        /// The error message.
        message: String,
    },
    /// A processor rejected the model's answer.
    #[error("{0}")]
    Rejected(String),
}
