//! Errors of a running job: its end, its timeouts, its output.

use super::definition::{Error, ErrorKind};
use super::engine_errors::engine_error;
use super::file_errors::attachment_error;
use super::pack_errors::pack_error;
use crate::error_chain::error_chain;
use crate::job::{Expired, JobError, TimeoutPhase};
use crate::{engine, sink};

/// The hint for a model without vision.
pub(crate) const VISION_HINT: &str =
    "after a `scan`, `list --vision` shows the models that are known to take images";

pub(super) fn job_error(error: &JobError) -> Error {
    match error {
        JobError::Engine(error) => engine_error(error),
        JobError::Pack(error) => pack_error(error),
        JobError::Attachment(error) => attachment_error(error),
        JobError::NoVision { .. } => {
            Error::new(ErrorKind::Model, error.to_string()).hint(VISION_HINT)
        }
        JobError::Sink(error @ sink::Error::File { .. }) => {
            Error::new(ErrorKind::Broken, error_chain(error))
        }
        JobError::Sink(error) => sink_error(error),
        JobError::OnlyReasoning(_) => Error::new(ErrorKind::Empty, error.to_string())
            .hint("raise the limit by `--max-tokens`, or turn reasoning off by `--reasoning off`"),
        JobError::PromptTruncated { .. } => Error::new(ErrorKind::Context, error.to_string()),
        JobError::Empty | JobError::Cut(_) => Error::new(ErrorKind::Empty, error.to_string()),
        JobError::Expired(expired) => expired_error(expired),
        JobError::Cancelled => Error::interrupted(),
    }
}

pub(super) fn expired_error(expired: &Expired) -> Error {
    let limit = engine::format_seconds(expired.limit);
    let (failed, flag) = match expired.phase {
        TimeoutPhase::Input => ("input files not read", "--timeout"),
        TimeoutPhase::Load => ("model not loaded", "--load-timeout"),
        TimeoutPhase::FirstToken => ("no first token", "--first-token-timeout"),
        TimeoutPhase::Stream => ("no further token", "--stream-timeout"),
        TimeoutPhase::Total => ("answer not complete", "--timeout"),
    };
    Error::new(ErrorKind::Expired, format!("{failed} within {limit}"))
        .hint(format!("{flag} sets this limit; 0 disables it"))
}

pub(super) fn sink_error(error: &sink::Error) -> Error {
    match error {
        sink::Error::BrokenPipe => Error::new(ErrorKind::ReaderGone, ""),
        sink::Error::Stdout(_) => Error::new(ErrorKind::Broken, error_chain(error)),
        sink::Error::File { .. } => Error::usage(error_chain(error)),
    }
}
