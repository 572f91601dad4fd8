//! Exit codes and hints of the errors of journals.

use super::JournalError;
use crate::error::{Exit, Failure};
use crate::error_chain::error_chain;

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let message = error_chain(&error);
        match error {
            JournalError::Read { .. } => Self::new(Exit::Broken, message),
            JournalError::Write { .. } => Self::new(Exit::Broken, message).hint(
                "use -o with a writable folder, or free disk space and run the same command to \
                 resume",
            ),
            JournalError::Busy { .. } => Self::usage(message)
                .hint("wait until the other run ends, or use another folder (-o)"),
            JournalError::UnsupportedSchema { .. } => {
                Self::usage(message).hint("update lmstrix-host, or use another folder (-o)")
            }
            JournalError::NotFound { .. } => Self::usage(message),
        }
    }
}
