//! The errors of copied packs as the program shows them.

use lmstrix_distribution::Error;

use crate::error::{Exit, Failure};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = lmstrix::error_chain::error_chain(&error);
        match error {
            Error::Pack(error) => error.into(),
            Error::Unreachable { .. } => Self::new(Exit::Engine, message),
            Error::Status { status, .. } => match status {
                401 | 403 => Self::new(Exit::Engine, message).hint(
                    "credentials are those of `docker login` or `oras login`, \
                     in ~/.docker/config.json",
                ),
                _ => Self::new(Exit::Engine, message),
            },
            Error::CutOff { .. } => Self::new(Exit::Broken, message)
                .hint("nothing was changed; run the same command again"),
            Error::WrongDigest { .. } => {
                Self::new(Exit::Broken, message).hint("nothing was changed")
            }
            Error::TooLarge { limit_name, .. } => match limit_name.strip_prefix("limits.") {
                Some(key) => Self::usage(message).hint(format!(
                    "nothing was changed; to raise the limit, set `{key}` in the section \
                     `[limits]` of the config file"
                )),
                None => Self::usage(message).hint("nothing was changed"),
            },
            Error::Exists { .. } => {
                Self::usage(message).hint("use --force to replace it, or --name for another name")
            }
            Error::ChangedByHand { .. } => {
                Self::usage(message).hint("use --force to lose these changes")
            }
            Error::NotLocked { .. } => Self::usage(message).hint(
                "to record it as it is: lmstrix-host pack lock; to remove it all the same: --force",
            ),
            Error::SourceChanged { .. } => Self::usage(message)
                .hint("to accept the new one: lmstrix-host pack update, without --locked"),
            Error::Busy(_) | Error::Write { .. } => Self::new(Exit::Broken, message),
            Error::NotAPack { .. }
            | Error::InvalidSource { .. }
            | Error::InvalidReference { .. }
            | Error::EmptyFolder(_)
            | Error::NotFound { .. } => Self::usage(message),
        }
    }
}
