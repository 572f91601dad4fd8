//! An inference as a stream of events. The producer, a thread or a task, sends
//! events through a bounded channel. Dropping the stream stops the producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lmstrix_inference::Event;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::Error;
use super::llama_server::ServerUsage;

/// The capacity of the event channel. The engine waits for a slow reader when it is
/// full.
pub(super) const EVENT_BUFFER: usize = 64;

/// Cancellation flag of an inference.
#[derive(Debug, Default)]
pub(super) struct CancelFlag {
    cancelled: AtomicBool,
    notify: Notify,
}

impl CancelFlag {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    #[cfg(feature = "embedded")]
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Completes when the inference is cancelled, also if that was before the call.
    /// Supports a single waiter.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// The events of one inference.
#[derive(Debug)]
pub struct InferenceStream {
    events: mpsc::Receiver<Result<Event, Error>>,
    cancel: Arc<CancelFlag>,
    task: Option<AbortHandle>,
    /// The server that this program started for the inference.
    server: Option<ServerUsage>,
}

impl InferenceStream {
    pub(super) fn new(
        events: mpsc::Receiver<Result<Event, Error>>,
        cancel: Arc<CancelFlag>,
        task: Option<AbortHandle>,
    ) -> Self {
        Self {
            events,
            cancel,
            task,
            server: None,
        }
    }

    /// Explains lost connections by the end of a server that this program started.
    pub(super) fn of_server(mut self, server: ServerUsage) -> Self {
        self.server = Some(server);
        self
    }

    /// Waits for the next event. `Finished` is the last one; a stream that ends
    /// without it is an error.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, the prompt does not fit, or
    /// the server or the computation fails. No event follows an error.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match (self.events.recv().await, &self.server) {
            (Some(Err(error)), Some(server)) => Err(server.explain(error).await),
            (Some(event), _) => event,
            (None, _) => Err(Error::EngineStopped("no finish event".to_owned())),
        }
    }

    /// Requests the engine to stop. The stream still ends with `Finished`.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for InferenceStream {
    fn drop(&mut self) {
        self.cancel();
        // Aborting the task closes its connection, at which the server stops.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
