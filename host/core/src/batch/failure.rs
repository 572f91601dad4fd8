//! The kinds and hints of the errors of journals.

use super::JournalError;
use crate::error::{Error, ErrorKind};
use crate::error_chain::error_chain;

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        journal_error(&error).caused_by(error)
    }
}

fn journal_error(error: &JournalError) -> Error {
    let message = error_chain(error);
    match error {
        JournalError::Read { .. } => Error::new(ErrorKind::Broken, message),
        JournalError::Write { .. } => Error::new(ErrorKind::Broken, message).hint(
            "use -o with a writable folder, or free disk space and run the same command to \
             resume",
        ),
        JournalError::Busy { .. } => {
            Error::usage(message).hint("wait until the other run ends, or use another folder (-o)")
        }
        JournalError::UnsupportedSchema { .. } => {
            Error::usage(message).hint("update lmstrix-host, or use another folder (-o)")
        }
        JournalError::NotFound { .. } => Error::usage(message),
    }
}
