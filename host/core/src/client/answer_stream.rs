//! A client that answers requests, as a stream or in one call.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use lmstrix_inference::Event;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Notices, OpenContext, PackSource, Request, open, pack_source, registry_store};
use crate::config::Config;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::job::{Answer, Cancel, End, RunContext, Sinks, announce, load_for, run};
use crate::sink::{self, Ready, Sink};

/// Pieces of an answer that wait for their reader. A reader that is slower than the model
/// stops the model until it catches up.
const PIECES_MAX: usize = 64;

/// A piece of an answer that arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Anything but text: loading, reasoning, counts, warnings, the end.
    Event(Event),
    /// A piece of the answer, as the processors made it. After the event
    /// `TextWasReasoning` the answer begins again: the text so far belongs to the reasoning.
    Text(String),
}

/// An answer that arrives. Dropping it cancels the inference.
#[derive(Debug)]
pub struct AnswerStream {
    outputs: mpsc::Receiver<Output>,
    answer: oneshot::Receiver<Result<Answer, Error>>,
    cancel: Arc<Notify>,
}

impl AnswerStream {
    /// Returns the next piece; `None` when the answer has ended or failed.
    pub async fn next(&mut self) -> Option<Output> {
        self.outputs.recv().await
    }

    /// Ends the inference, also at the server.
    pub fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// Waits for the end and returns the whole answer.
    ///
    /// # Errors
    /// Returns an error if the answer is not complete; [`ErrorKind::Interrupted`] if it
    /// was cancelled.
    pub async fn finish(mut self) -> Result<Answer, Error> {
        let mut answer = std::mem::replace(&mut self.answer, oneshot::channel().1);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.unwrap_or_else(|_| Err(Error::interrupted()));
                }
                // Unread pieces would stop the model.
                piece = self.outputs.recv() => {
                    if piece.is_none() {
                        return answer.await.unwrap_or_else(|_| Err(Error::interrupted()));
                    }
                }
            }
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Answers requests with the config, the packs and the registry of a user.
#[derive(Clone, Debug)]
pub struct Client {
    environment: Environment,
    config: Config,
    packs: PackSource,
}

impl Client {
    /// Creates a client: reads the config file, if there is one, and starts the sandbox.
    ///
    /// # Errors
    /// Returns an error if the config file is invalid, or the sandbox cannot be started.
    pub fn new(environment: Environment) -> Result<Self, Error> {
        let config = Config::load(&environment.paths.config, false)?;
        let packs = pack_source(&environment, &config, &Notices::ignore())?;
        Ok(Self {
            environment,
            config,
            packs,
        })
    }

    /// Starts an inference on the tokio runtime of the caller.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    #[must_use]
    pub fn start(&self, request: Request) -> AnswerStream {
        let (sender, outputs) = mpsc::channel(PIECES_MAX);
        let (done, answer) = oneshot::channel();
        let cancel = Arc::new(Notify::new());
        let cancelled = Arc::clone(&cancel);
        let client = self.clone();
        tokio::spawn(async move {
            let mut cancel = pin!(async move { cancelled.notified().await });
            let mut channel = Channel {
                sender,
                waiting: VecDeque::new(),
            };
            let result = client.answer(request, &mut channel, cancel.as_mut()).await;
            channel.send_waiting().await;
            let _receiver_gone = done.send(result);
        });
        AnswerStream {
            outputs,
            answer,
            cancel,
        }
    }

    /// Runs an inference on a thread of its own and waits for its end. `each` gets every
    /// piece as it arrives; returning `Break` cancels the inference, also at the server.
    ///
    /// # Errors
    /// Returns an error if the answer is not complete; [`ErrorKind::Interrupted`] if it
    /// was cancelled.
    pub fn run(
        &self,
        request: Request,
        mut each: impl FnMut(&Output) -> ControlFlow<()> + Send,
    ) -> Result<Answer, Error> {
        let broken = |error: std::io::Error| Error::new(ErrorKind::Broken, error.to_string());
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(broken)?;
            let answer = runtime.block_on(async {
                let mut answer = self.start(request);
                while let Some(output) = answer.next().await {
                    if each(&output).is_break() {
                        answer.cancel();
                        break;
                    }
                }
                answer.finish().await
            });
            // A thread that opens a named pipe may be blocked.
            runtime.shutdown_background();
            answer
        };
        // The caller may be inside a runtime, where blocking on another is not allowed.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("inference".to_owned())
                .spawn_scoped(scope, work)
                .map_err(broken)?;
            let died = || Error::new(ErrorKind::Broken, "the inference thread died");
            thread.join().unwrap_or_else(|_| Err(died()))
        })
    }

    async fn answer(
        &self,
        request: Request,
        channel: &mut Channel,
        mut cancel: Cancel<'_>,
    ) -> Result<Answer, Error> {
        let start = Instant::now();
        let (env, config) = (&self.environment, &self.config);
        let notices = Notices::ignore();
        let context = OpenContext {
            env,
            config,
            packs: &self.packs,
            reads_stdin: false,
            notices: &notices,
            start,
        };
        let (model, mut job) = open(&request, context, cancel.as_mut()).await?;
        let store = registry_store(env);
        let mut sinks: Sinks<'_> = vec![channel];
        announce(&job.warnings, &mut sinks);
        let mut context = RunContext {
            statistics: Some(&store),
            start,
            load_s: None,
        };
        let loading = load_for(&mut job, model, &mut sinks, cancel.as_mut(), context);
        let outcome = match loading.await {
            Ok(instance) => {
                context.load_s = instance.load_s();
                run(job, &instance, sinks, cancel, context).await
            }
            Err(outcome) => *outcome,
        };
        let has_output = outcome.has_output();
        match outcome.end {
            End::Done => Ok(outcome.answer),
            End::Failed(error) => Err(Error::of_job(error, has_output)),
            // A caller that drops its end of the channel does not wait for the answer.
            End::Cancelled(_) => Err(Error::interrupted()),
        }
    }
}

/// Sends everything to the reader; a closed receiver counts as a closed pipe.
struct Channel {
    sender: mpsc::Sender<Output>,
    /// Pieces that did not fit into the channel.
    waiting: VecDeque<Output>,
}

impl Channel {
    fn send(&mut self, output: Output) -> Result<(), sink::Error> {
        if !self.waiting.is_empty() {
            self.waiting.push_back(output);
            return Ok(());
        }
        match self.sender.try_send(output) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(output)) => {
                self.waiting.push_back(output);
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(sink::Error::BrokenPipe),
        }
    }

    /// Waits until the reader has taken all pieces but those of the channel.
    async fn send_waiting(&mut self) {
        while let Some(output) = self.waiting.pop_front() {
            // The next piece finds out that the reader is gone.
            let _reader_gone = self.sender.send(output).await;
        }
    }
}

impl Sink for Channel {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            // The text reaches the caller as the processors made it.
            Event::Text(_) => Ok(()),
            event => self.send(Output::Event(event.clone())),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), sink::Error> {
        if text.is_empty() {
            return Ok(());
        }
        self.send(Output::Text(text.to_owned()))
    }

    fn ready(&mut self) -> Option<Ready<'_>> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(Box::pin(self.send_waiting()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_makes_the_model_wait_and_loses_nothing() {
        let (sender, mut outputs) = mpsc::channel(PIECES_MAX);
        let mut channel = Channel {
            sender,
            waiting: VecDeque::new(),
        };
        let pieces: Vec<String> = (0..PIECES_MAX + 3).map(|piece| piece.to_string()).collect();
        for piece in &pieces {
            channel.text(piece).unwrap();
        }
        assert!(channel.ready().is_some());
        let reading = async {
            let mut read = Vec::new();
            while read.len() < pieces.len() {
                if let Some(Output::Text(text)) = outputs.recv().await {
                    read.push(text);
                }
            }
            read
        };
        let (read, ()) = tokio::join!(reading, channel.send_waiting());
        assert_eq!(read, pieces);
        assert!(channel.ready().is_none());
        drop(outputs);
        let closed = channel.text("more").unwrap_err();
        assert!(matches!(closed, sink::Error::BrokenPipe));
    }
}
