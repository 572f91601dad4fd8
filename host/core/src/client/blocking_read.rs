//! Reads files that may be pipes, without blocking the caller.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::job::{Cancel, Expired, TimeoutPhase};

/// The time limit of a whole run, and its start.
#[derive(Clone, Copy, Debug)]
pub struct RunLimit {
    /// The limit, if there is one.
    pub limit: Option<Duration>,
    /// The start of the run.
    pub start: Instant,
}

impl RunLimit {
    /// Completes when the limit is reached.
    pub(super) async fn expired(self, phase: TimeoutPhase) -> Error {
        match self.limit {
            Some(limit) => {
                tokio::time::sleep(limit.saturating_sub(self.start.elapsed())).await;
                Expired { phase, limit }.into()
            }
            None => std::future::pending().await,
        }
    }
}

/// Reads files on a thread for blocking work, since opening a named pipe blocks until it has
/// a writer. Without files (`names_files` is false), `read` needs no thread.
///
/// # Errors
/// Returns the error of `read`, and an error if the limit is reached or the caller cancels.
/// The thread stays blocked then.
pub async fn read_files<T: Send + 'static, E: From<Error> + Send + 'static>(
    names_files: bool,
    limit: RunLimit,
    cancel: Cancel<'_>,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    if !names_files {
        return read();
    }
    tokio::select! {
        biased;
        () = cancel => Err(Error::interrupted().into()),
        read = tokio::task::spawn_blocking(read) => {
            read.unwrap_or_else(|error| {
                Err(Error::new(ErrorKind::Broken, error.to_string()).into())
            })
        }
        expired = limit.expired(TimeoutPhase::Input) => Err(expired.into()),
    }
}
