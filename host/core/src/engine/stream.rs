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

/// The size in bytes from which text is not joined with further text. A processor that ends the
/// answer, and the limits on it, act after the whole piece.
const TEXT_BYTES_MAX: usize = 1 << 10;

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
    /// An event that was received behind the text before it.
    following: Option<Result<Event, Error>>,
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
            following: None,
        }
    }

    /// Explains lost connections by the end of a server that this program started.
    pub(super) fn of_server(mut self, server: ServerUsage) -> Self {
        self.server = Some(server);
        self
    }

    /// Waits for the next event. `Finished` is the last one; a stream that ends
    /// without it is an error. Joins text that has already arrived into one event, without
    /// waiting for more: each event passes the processors on another thread.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, the prompt does not fit, or
    /// the server or the computation fails. No event follows an error.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let event = match self.following.take() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        };
        match (event, &self.server) {
            (Some(Err(error)), Some(server)) => Err(server.explain(error).await),
            (Some(Err(error)), None) => Err(error),
            (Some(Ok(event)), _) => Ok(self.with_arrived_text(event)),
            (None, _) => Err(Error::EngineStopped("no finish event".to_owned())),
        }
    }

    /// Appends the text of the events that have already arrived to that of `event`.
    fn with_arrived_text(&mut self, mut event: Event) -> Event {
        while let Some(length) = text_length(&event)
            && length < TEXT_BYTES_MAX
            && let Ok(following) = self.events.try_recv()
        {
            match (&mut event, following) {
                (Event::Text(text), Ok(Event::Text(more)))
                | (Event::Reasoning(text), Ok(Event::Reasoning(more))) => text.push_str(&more),
                (_, following) => {
                    self.following = Some(following);
                    break;
                }
            }
        }
        event
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

/// Returns the length in bytes of a text event.
fn text_length(event: &Event) -> Option<usize> {
    match event {
        Event::Text(text) | Event::Reasoning(text) => Some(text.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lmstrix_inference::FinishReason;

    use super::*;

    #[tokio::test]
    async fn text_that_has_arrived_is_one_event_and_the_order_stays() {
        let text = |text: &str| Ok(Event::Text(text.to_owned()));
        let reasoning = |text: &str| Ok(Event::Reasoning(text.to_owned()));
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let mut stream = InferenceStream::new(events, Arc::default(), None);
        let arrived = [
            reasoning("h"),
            reasoning("m"),
            text("a"),
            text("b"),
            Ok(Event::TextWasReasoning),
            text("c"),
            text("d"),
            Err(Error::EngineStopped("x".to_owned())),
        ];
        for event in arrived {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let mut received = Vec::new();
        let error = loop {
            match stream.next().await {
                Ok(event) => received.push(event),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().ends_with('x'), "{error}");
        assert_eq!(
            received,
            [
                reasoning("hm").unwrap(),
                text("ab").unwrap(),
                Event::TextWasReasoning,
                text("cd").unwrap(),
            ]
        );

        // Nothing else has arrived, so nothing is waited for.
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let mut stream = InferenceStream::new(events, Arc::default(), None);
        sender.send(text("e")).await.unwrap();
        assert_eq!(stream.next().await.unwrap(), text("e").unwrap());
        sender
            .send(Ok(Event::Finished(FinishReason::End)))
            .await
            .unwrap();
        let last = stream.next().await.unwrap();
        assert_eq!(last, Event::Finished(FinishReason::End));
    }

    #[tokio::test]
    async fn long_text_is_not_joined() {
        let (sender, events) = mpsc::channel(EVENT_BUFFER);
        let mut stream = InferenceStream::new(events, Arc::default(), None);
        let piece = "x".repeat(TEXT_BYTES_MAX / 2);
        for _ in 0..3 {
            sender.send(Ok(Event::Text(piece.clone()))).await.unwrap();
        }
        let first = stream.next().await.unwrap();
        assert_eq!(text_length(&first), Some(TEXT_BYTES_MAX));
        let second = stream.next().await.unwrap();
        assert_eq!(text_length(&second), Some(TEXT_BYTES_MAX / 2));
    }
}
