//! An answer as it arrives, for programs that embed this one.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot};

use super::{Notices, Request, open, registry_store};
use crate::config::Config;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::{Answer, Cancel, End, RunContext, Sinks, announce, load_for, run};
use crate::sink::{self, Sink};
use lmstrix_inference::Event;

/// A piece of an answer that arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Anything but text: loading, reasoning, counts, warnings, the end.
    Event(Event),
    /// A piece of the answer, as the processors made it.
    Text(String),
}

/// An answer that arrives. Dropping it cancels the inference.
#[derive(Debug)]
pub struct AnswerStream {
    outputs: mpsc::UnboundedReceiver<Output>,
    answer: oneshot::Receiver<Result<Answer, Failure>>,
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
    /// Returns an error if the answer is not complete; [`Exit::Interrupted`] if it was
    /// cancelled.
    pub async fn finish(mut self) -> Result<Answer, Failure> {
        let answer = std::mem::replace(&mut self.answer, oneshot::channel().1);
        answer.await.unwrap_or_else(|_| Err(Failure::interrupted()))
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Request {
    /// Starts the inference on the tokio runtime of the caller.
    #[must_use]
    pub fn start(self, env: &Env) -> AnswerStream {
        let (sender, outputs) = mpsc::unbounded_channel();
        let (done, answer) = oneshot::channel();
        let cancel = Arc::new(Notify::new());
        let cancelled = Arc::clone(&cancel);
        let env = env.clone();
        tokio::spawn(async move {
            let mut cancel = pin!(async move { cancelled.notified().await });
            let mut channel = Channel(sender);
            let result = self.answer(&env, &mut channel, cancel.as_mut()).await;
            let _receiver_gone = done.send(result);
        });
        AnswerStream {
            outputs,
            answer,
            cancel,
        }
    }

    /// Runs the inference on a thread of its own and waits for its end. `each` gets
    /// every piece as it arrives; returning `Break` cancels the inference, also at the
    /// server.
    ///
    /// # Errors
    /// Returns an error if the answer is not complete; [`Exit::Interrupted`] if it was
    /// cancelled.
    pub fn run(
        self,
        env: &Env,
        mut each: impl FnMut(&Output) -> ControlFlow<()> + Send,
    ) -> Result<Answer, Failure> {
        let broken = |error: std::io::Error| Failure::new(Exit::Broken, error.to_string());
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(broken)?;
            runtime.block_on(async {
                let mut answer = self.start(env);
                while let Some(output) = answer.next().await {
                    if each(&output).is_break() {
                        answer.cancel();
                        break;
                    }
                }
                answer.finish().await
            })
        };
        // The caller may be inside a runtime, where blocking on another is not allowed.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("inference".to_owned())
                .spawn_scoped(scope, work)
                .map_err(broken)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new(Exit::Broken, "the inference thread died")))
        })
    }

    async fn answer(
        self,
        env: &Env,
        channel: &mut Channel,
        mut cancel: Cancel<'_>,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let config = Config::load(&env.paths.config, false)?;
        let notices = Notices::ignore();
        let opening = open(&self, env, &config, false, &notices, cancel.as_mut());
        let (model, mut job) = opening.await?;
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
            End::Failed(error) => Err(Failure::of_job(error, has_output)),
            // A caller that drops its end of the channel does not wait for the answer.
            End::Cancelled(_) => Err(Failure::interrupted()),
        }
    }
}

/// Sends everything on; a closed receiver counts as a closed pipe.
struct Channel(mpsc::UnboundedSender<Output>);

impl Channel {
    fn send(&self, output: Output) -> Result<(), sink::Error> {
        self.0.send(output).map_err(|_| sink::Error::BrokenPipe)
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
}
