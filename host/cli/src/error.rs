//! Errors as the program shows them: exit code, message and hints.

use lmstrix::{Error, ErrorKind};

/// The exit codes, as documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
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

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ReaderGone => Self::Done,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Pack => Self::Pack,
            ErrorKind::Engine => Self::Engine,
            ErrorKind::Model => Self::Model,
            ErrorKind::Context => Self::Context,
            ErrorKind::Empty => Self::Empty,
            ErrorKind::Expired => Self::Expired,
            ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Broken,
        }
    }
}

/// An error as it is shown to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What failed, and the cause.
    pub(crate) message: String,
    /// Suggestions, each with something to type.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// Creates a failure without hints.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Creates a failure with `Exit::Usage`.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates the failure of an interrupted run.
    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Error {
            kind,
            message,
            hints,
            ..
        } = error;
        Self {
            exit: kind.into(),
            message,
            hints,
        }
    }
}

/// Implements the conversion of the errors of the library's parts.
macro_rules! failure_from {
    ($($error:ty,)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Error::from(error).into()
            }
        })*
    };
}

failure_from! {
    lmstrix::batch::JournalError,
    lmstrix::engine::Error,
    lmstrix::engine::HubError,
    lmstrix::job::Expired,
    lmstrix::job::JobError,
    lmstrix::job::ResolveError,
    lmstrix::registry::Error,
    lmstrix::sink::Error,
    lmstrix::toml_file::TomlFileError,
    lmstrix_sandbox::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_numbers_of_the_journal() {
        for kind in [
            ErrorKind::ReaderGone,
            ErrorKind::Broken,
            ErrorKind::Usage,
            ErrorKind::Pack,
            ErrorKind::Engine,
            ErrorKind::Model,
            ErrorKind::Context,
            ErrorKind::Empty,
            ErrorKind::Expired,
            ErrorKind::Interrupted,
        ] {
            let code = lmstrix::batch::exit_code(kind);
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
    }
}
