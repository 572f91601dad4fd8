//! One inference as a stream: whoever works, a thread or a task, sends its
//! events through a bounded channel, and a dropped stream ends the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::Error;
use crate::inference::Event;

/// Events that may wait for a slow reader before the engine waits too.
pub(super) const WAITING_EVENTS: usize = 64;

/// The wish that an inference stop.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    wished: AtomicBool,
    told: Notify,
}

impl Cancel {
    pub(super) fn wish(&self) {
        self.wished.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    pub(super) fn is_wished(&self) -> bool {
        self.wished.load(Ordering::Relaxed)
    }

    /// Completes when it is wished, also when that was before; for one waiter.
    pub(super) async fn wait(&self) {
        self.told.notified().await;
    }
}

/// The events of one inference.
#[derive(Debug)]
pub struct Stream {
    events: mpsc::Receiver<Result<Event, Error>>,
    cancel: Arc<Cancel>,
    task: Option<AbortHandle>,
}

impl Stream {
    pub(super) fn new(
        events: mpsc::Receiver<Result<Event, Error>>,
        cancel: Arc<Cancel>,
        task: Option<AbortHandle>,
    ) -> Self {
        Self {
            events,
            cancel,
            task,
        }
    }

    /// The next event; `Finished` is the last. An end without it is an error.
    ///
    /// # Errors
    /// The model cannot be loaded, the prompt does not fit, the server fails or
    /// computing broke off. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::Stopped("its events ended".to_owned())),
        }
    }

    /// Asks the engine to stop; it says `Finished` when it has.
    pub fn cancel(&self) {
        self.cancel.wish();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
        // A task holds a connection, and servers stop when that closes.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
