//! Reads files that may be pipes, without blocking the caller.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::job::{Cancel, Expired, TimeoutPhase};

/// Reads files on a thread for blocking work, since opening a named pipe blocks until it has
/// a writer.
///
/// # Errors
/// Returns the error of `read`, and an error if the limit is reached or the caller cancels.
/// The thread stays blocked then.
pub async fn read_files<T: Send + 'static, E: From<Error> + Send + 'static>(
    limit: Option<Duration>,
    cancel: Cancel<'_>,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let expired = async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                Expired {
                    phase: TimeoutPhase::Total,
                    limit,
                }
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cancel => Err(Error::interrupted().into()),
        read = tokio::task::spawn_blocking(read) => {
            read.unwrap_or_else(|error| {
                Err(Error::new(ErrorKind::Broken, error.to_string()).into())
            })
        }
        expired = expired => Err(Error::from(expired).into()),
    }
}
