//! What can go wrong with packs, one variant per decision that somebody makes.

use std::path::PathBuf;

use super::limits::{Bytes, Limit};

/// Something went wrong in the pack room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pack of that name in any folder.
    #[error("no pack named `{name}`")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
        /// Packs with names like it.
        close: Vec<String>,
    },
    /// A name that no pack can have.
    #[error("`{name}` cannot be a pack's name: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The pack cannot be used at all.
    #[error("pack `{pack}`{} does not load: {cause}", Located(path.as_ref()))]
    Load {
        /// Its name.
        pack: String,
        /// Its file; the standard pack has none.
        path: Option<PathBuf>,
        /// Why.
        cause: LoadError,
    },
    /// The pack broke off, or broke the contract, while it worked.
    #[error("{0}")]
    Guest(Box<GuestError>),
    /// The pack answered, by the contract, that it cannot.
    #[error("{answer}")]
    Answer {
        /// The pack.
        pack: String,
        /// The prompt or processor it was asked for.
        asked: String,
        /// What it answered.
        answer: Answer,
    },
    /// The pack lacks an interface.
    #[error("pack `{pack}` offers no {lacks}")]
    Lacks {
        /// The pack.
        pack: String,
        /// `prompts` or `processors`.
        lacks: &'static str,
    },
    /// The machine lets us down: threads, memory, the sandbox itself.
    #[error("the sandbox cannot start: {0}")]
    Sandbox(String),
}

struct Located<'a>(Option<&'a PathBuf>);

impl std::fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(path) => write!(f, " ({})", path.display()),
            None => Ok(()),
        }
    }
}

/// Why a pack cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A folder, a device, a pipe.
    #[error("it is not a regular file")]
    NotRegular,
    /// A link that leads out of the packs folder.
    #[error("it is a link that leaves its folder")]
    Escapes,
    /// Too large.
    #[error("it has {}, the most is {} (limits.pack_file_bytes)", Bytes(*found), Bytes(*most))]
    TooLarge {
        /// Its size.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// Not WebAssembly.
    #[error("it is not a WebAssembly file")]
    NotWasm,
    /// A core module.
    #[error(
        "it is a core WebAssembly module, not a component; build it for wasm32-wasip2, \
         or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Machine code, made by somebody's wasmtime.
    #[error(
        "it is compiled machine code, which this program never runs; use the .wasm it was made from"
    )]
    Precompiled,
    /// Not valid.
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    /// It imports what a pack must not have.
    #[error("it imports `{0}`, which a pack is not given")]
    Import(String),
    /// It speaks another version of the contract.
    #[error("it exports {found}, and this host speaks lmstrix:prompts 0.1; update {update}")]
    Track {
        /// The export found.
        found: String,
        /// The side to update.
        update: &'static str,
    },
    /// It exports nothing of ours.
    #[error("it exports nothing of lmstrix:prompts@0.1.0 (found: {0})")]
    NoContract(String),
    /// Its types are not those of the contract.
    #[error("its types differ from lmstrix:prompts@0.1.0: {0}")]
    Shape(String),
    /// Trial instantiation broke off.
    #[error("it fails as soon as it starts: {0}")]
    Start(Cause),
    /// The compiling process failed.
    #[error("compiling it failed: {0}")]
    Compile(String),
    /// The compiling process took too long.
    #[error("compiling it took more than {0} s (limits.pack_compile_seconds)")]
    CompileTime(u64),
}

/// A guest's failure, signed: who, in which function, why, and what it said.
#[derive(Debug)]
pub struct GuestError {
    /// The pack's name.
    pub pack: String,
    /// The first twelve digits of its sha256.
    pub digest: String,
    /// The contract's function.
    pub function: &'static str,
    /// The prompt or processor that was asked for.
    pub asked: String,
    /// Why it failed.
    pub cause: Cause,
    /// The first lines of what it wrote to stderr.
    pub stderr: String,
}

/// How many lines of a guest's stderr an error shows.
const STDERR_LINES: usize = 5;

impl std::fmt::Display for GuestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pack,
            digest,
            function,
            asked,
            cause,
            stderr,
        } = self;
        write!(f, "pack `{pack}` (sha256 {digest}) failed in {function}")?;
        if !asked.is_empty() {
            write!(f, " for `{asked}`")?;
        }
        write!(f, ": {cause}")?;
        for line in stderr.lines().take(STDERR_LINES) {
            write!(f, "\n  {pack} says: {line}")?;
        }
        Ok(())
    }
}

/// Why a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It ran into a limit.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// It trapped: panicked, aborted, divided by zero.
    #[error("it crashed ({0})")]
    Trap(String),
    /// It recursed without end.
    #[error("it recursed too deeply (the stack has 1 MiB)")]
    Stack,
    /// It called `wasi:cli/exit`.
    #[error("it called exit({0}), which a pack must not")]
    Exit(u8),
    /// The sandbox ended the call, for a reason that has no name of its own.
    #[error("the sandbox ended it: {0}")]
    Sandbox(String),
    /// What it returned is not what the contract says.
    #[error("it broke the contract: {0}")]
    Contract(String),
    /// Its own code and message.
    #[error("{message} (code `{code}`)")]
    Other {
        /// A stable code.
        code: String,
        /// What happened.
        message: String,
    },
}

/// What a pack answers when it cannot do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Answer {
    /// No prompt of that name.
    #[error("no prompt named that")]
    UnknownPrompt(Vec<String>),
    /// No processor of that name.
    #[error("no processor named that")]
    UnknownProcessor(Vec<String>),
    /// Parameters that the prompt needs.
    #[error("missing parameters: {}", .0.join(", "))]
    MissingParams(Vec<String>),
    /// A parameter or option, and what is wrong with it.
    #[error("{name}: {why}")]
    InvalidParam {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// What is wrong with a file, and where.
    #[error("{file}: {message}")]
    InvalidFile {
        /// The bare file name.
        file: String,
        /// Counts from 1.
        line: Option<u32>,
        /// Counts from 1, in characters.
        column: Option<u32>,
        /// What is wrong.
        message: String,
    },
    /// The answer did not pass the processor's check.
    #[error("{0}")]
    Rejected(String),
}
