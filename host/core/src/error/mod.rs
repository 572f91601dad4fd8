//! The error of the library. The files beside this one map the errors of all modules to
//! kinds, messages and hints.

mod definition;
mod engine_errors;
mod file_errors;
mod job_errors;
mod pack_errors;
mod suggestion;

pub use definition::{Error, ErrorKind};
use engine_errors::{engine_error, hub_error};
use file_errors::{attachment_error, registry_error, toml_file_error};
pub(crate) use job_errors::VISION_HINT;
use job_errors::{expired_error, job_error, sink_error};
use pack_errors::{pack_error, resolve_error};

use crate::attachment::AttachmentError;
use crate::job::{self, Expired, JobError};
use crate::toml_file::TomlFileError;
use crate::{engine, registry, sink};

/// Implements the conversion of a module's error, which becomes the cause.
macro_rules! error_from {
    ($($error:ty: $describe:ident,)*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                $describe(&error).caused_by(error)
            }
        })*
    };
}

error_from! {
    AttachmentError: attachment_error,
    engine::Error: engine_error,
    engine::HubError: hub_error,
    Expired: expired_error,
    job::ResolveError: resolve_error,
    JobError: job_error,
    lmstrix_sandbox::Error: pack_error,
    registry::Error: registry_error,
    sink::Error: sink_error,
    TomlFileError: toml_file_error,
}

impl Error {
    /// Returns the failure of a job. `has_output` distinguishes a connection that was
    /// lost during an answer from one that was lost before.
    #[must_use]
    pub fn of_job(error: JobError, has_output: bool) -> Self {
        let is_broken = matches!(
            &error,
            JobError::Engine(error) if has_output && (error.is_response_lost() || error.is_unreachable())
        );
        let error = Self::from(error);
        Self {
            kind: if is_broken {
                ErrorKind::Broken
            } else {
                error.kind
            },
            ..error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_displays_its_cause_and_has_the_rest_as_sources() {
        let error = Error::from(TomlFileError::Read {
            kind: "config file",
            path: "c.toml".into(),
            source: std::io::Error::other("no such file"),
        });
        assert_eq!(error.kind, ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot read config file `c.toml`");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("no such file"));
        assert_eq!(
            error.message,
            "cannot read config file `c.toml`: no such file"
        );
    }
}
