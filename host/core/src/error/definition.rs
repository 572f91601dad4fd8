//! The error and its kinds.

use std::fmt;

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The reader of the output has closed it; not a failure.
    ReaderGone,
    /// A failure after the first byte of output, or an I/O error.
    Broken,
    /// An error in the request, the config or an input file.
    Usage,
    /// A pack cannot be loaded, traps, exceeds a limit, or returns `other`.
    Pack,
    /// No engine found, or the engine was lost before the first byte.
    Engine,
    /// The model is unknown or cannot be loaded.
    Model,
    /// The prompt does not fit into the context.
    Context,
    /// The answer is empty or was rejected.
    Empty,
    /// A timeout expired.
    Expired,
    /// Cancelled.
    Interrupted,
}

/// An error of the library.
///
/// It displays as the outermost cause; [`source`](std::error::Error::source) has the
/// others. `message` has all of them in one text.
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
        // Some errors have a text that says more than that of their cause.
        match self.cause.as_ref().map(ToString::to_string) {
            Some(cause) if self.message.starts_with(&cause) => f.write_str(&cause),
            _ => f.write_str(&self.message),
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

    /// Appends a hint if there is one.
    pub(crate) fn optional_hint(self, hint: Option<&str>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Returns the error with its cause.
    pub fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(Box::new(cause)),
            ..self
        }
    }
}
