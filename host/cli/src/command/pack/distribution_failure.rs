//! The errors of copied packs as the program shows them.

use lmstrix_distribution::Error;

use crate::error::{Exit, Failure};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = lmstrix::error_chain::error_chain(&error);
        match error {
            Error::Pack(error) => error.into(),
            Error::Unreachable { .. } | Error::Status { .. } | Error::Client(_) => {
                Self::new(Exit::Engine, message)
            }
            Error::Login { registry, .. } => Self::new(Exit::Engine, message).hint(format!(
                "to log in: docker login {registry}, or oras login {registry}"
            )),
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
            Error::FileExists(_) => {
                Self::usage(message).hint("move it elsewhere, or use --force to replace it")
            }
            Error::LinkedFolder(_) => Self::usage(message).hint("replace the link by a folder"),
            Error::Changed { .. } => Self::usage(message).hint("use --force to lose these changes"),
            Error::NotLocked { .. } => Self::usage(message).hint(
                "to list the packs: lmstrix-host pack verify; to remove a pack that is not locked, \
                 use --force",
            ),
            Error::SourceChanged { .. } => Self::usage(message)
                .hint("to accept the new one: lmstrix-host pack update, without --locked"),
            Error::Busy(_) => Self::new(Exit::Broken, message).hint("run the same command again"),
            Error::Write { .. } => Self::new(Exit::Broken, message),
            Error::NotAPack { .. }
            | Error::InvalidSource { .. }
            | Error::InvalidReference { .. }
            | Error::EmptyFolder(_)
            | Error::NoFolder(_)
            | Error::NotFound { .. } => Self::usage(message),
        }
    }
}
