//! Sends the events of an inference to its stream.

use lmstrix_inference::Event;
use tokio::sync::mpsc;

use crate::engine::Error;

/// The sending end of an inference's stream.
#[derive(Debug)]
pub(super) struct EventSender(mpsc::Sender<Result<Event, Error>>);

impl EventSender {
    pub(super) fn new(sender: mpsc::Sender<Result<Event, Error>>) -> Self {
        Self(sender)
    }

    /// Sends an event. Returns `false` if the stream has been dropped.
    pub(super) async fn emit(&self, event: Event) -> bool {
        self.0.send(Ok(event)).await.is_ok()
    }

    /// Sends the last event or the error that ended the inference.
    pub(super) async fn end(&self, last: Result<Event, Error>) {
        let _dropped = self.0.send(last).await;
    }
}
