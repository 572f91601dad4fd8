//! What `infer` does, for other programs: an answer as a stream of events, or
//! as one call that waits.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot};

use super::job::{Job, Wish};
use super::resolve_args;
use crate::args::{Asked, Common, Model, Patience, Sampling};
use crate::engine;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::inference::{Event, Finish, Usage};
use crate::job::{Account, Failed, Sinks, Timings, ensure, perform};
use crate::sink::{self, Messages, Sink};

/// What is asked of which model. The groups are those of the command line, and
/// mean the same; what is left alone comes from the environment, the config and
/// the prompt, as there.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Prompt, files, parameters, packs.
    pub asked: Asked,
    /// Engine, model, context.
    pub model: Model,
    /// Temperature and its like.
    pub sampling: Sampling,
    /// Limits of time.
    pub patience: Patience,
    /// Whether lost settings are errors.
    pub strict: bool,
}

impl Request {
    /// Asks for a prompt: its name, `pack/prompt`, or the prompt itself when it
    /// holds a space or `{{`.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            asked: Asked {
                prompt: prompt.into(),
                ..Asked::default()
            },
            ..Self::default()
        }
    }

    /// The text that the prompt works on.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.asked.text = Some(text.into());
        self
    }

    /// A parameter; unlike on the command line its value is never a file.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        let literal = if value.starts_with('@') { "@" } else { "" };
        self.asked.param.push(format!("{name}={literal}{value}"));
        self
    }

    /// A TOML file with prompts.
    #[must_use]
    pub fn prompts(mut self, file: impl Into<PathBuf>) -> Self {
        self.asked.prompts.push(file.into());
        self
    }

    /// `auto`, `embedded`, a server's URL or name.
    #[must_use]
    pub fn engine(mut self, engine: impl Into<String>) -> Self {
        self.model.engine = Some(engine.into());
        self
    }

    /// The model's name, or a GGUF file.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model.model = Some(model.into());
        self
    }

    /// Starts the inference on the tokio runtime that this is called in.
    #[must_use]
    pub fn start(self, env: &Env) -> Answering {
        let (sender, outputs) = mpsc::unbounded_channel();
        let (done, answer) = oneshot::channel();
        let cancel = Arc::new(Notify::new());
        let cancelled = Arc::clone(&cancel);
        let env = env.clone();
        tokio::spawn(async move {
            let interrupt = async move { cancelled.notified().await };
            let answered = self.answer(&env, sender, interrupt).await;
            let _nobody_waits = done.send(answered);
        });
        Answering {
            outputs,
            answer,
            cancel,
        }
    }

    /// Runs the inference to its end on a thread of its own, and waits for it.
    /// `each` gets every piece as it comes; when it breaks, the answer is
    /// cancelled, at the server, too.
    ///
    /// # Errors
    /// Whatever keeps `infer` from a complete answer; a cancelled one is
    /// [`Exit::Interrupted`].
    pub fn run(
        self,
        env: &Env,
        mut each: impl FnMut(&Output) -> ControlFlow<()> + Send,
    ) -> Result<Answer, Failure> {
        let broken = |e: std::io::Error| Failure::new(Exit::Broken, e.to_string());
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(broken)?;
            runtime.block_on(async {
                let mut answering = self.start(env);
                while let Some(output) = answering.next().await {
                    if each(&output).is_break() {
                        answering.cancel();
                        break;
                    }
                }
                answering.finish().await
            })
        };
        // The caller may be inside a runtime of its own, where waiting for
        // another is not allowed.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("inference".to_owned())
                .spawn_scoped(scope, work)
                .map_err(broken)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new(Exit::Broken, "the inference died")))
        })
    }

    async fn answer(
        self,
        env: &Env,
        sender: mpsc::UnboundedSender<Output>,
        interrupt: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let mut interrupt = pin!(interrupt);
        // Whoever embeds us decides what is printed.
        let messages = Messages::new(true, false, false);
        let config = resolve_args::config(&Common::default(), env)?;
        let wish = Wish {
            asked: &self.asked,
            model: &self.model,
            sampling: &self.sampling,
            patience: &self.patience,
            strict: self.strict,
            has_stdin: false,
        };
        let job = Job::open(wish, env, &config, messages, interrupt.as_mut()).await?;
        let mut warnings = job.warnings;
        for warning in &warnings {
            let _gone = sender.send(Output::Event(Event::Warning(warning.clone())));
        }
        let mut channel = Channel(sender);
        let mut sinks: Sinks<'_> = vec![&mut channel];
        let ready = ensure(
            job.chosen,
            &mut sinks,
            interrupt.as_mut(),
            job.limits,
            start,
        )
        .await?;
        warnings.extend(ready.warnings.iter().cloned());
        let stream = ready.infer(engine::Ask {
            prompt: job.resolved.prompt,
            settings: job.settings,
            reasoning_tags: true,
            required: job.required,
        })?;
        let (account, result) =
            perform(stream, job.chain, sinks, interrupt, job.limits, start).await;
        let Account {
            text,
            raw,
            reasoning,
            usage,
            timings,
            finish: _,
            warnings: later,
            extra: _,
        } = account;
        warnings.extend(later);
        match result {
            Ok(finish) => Ok(Answer {
                text,
                raw,
                reasoning,
                usage,
                timings,
                finish,
                warnings,
            }),
            Err(Failed::Sink(sink::Error::BrokenPipe)) => Err(Failure::interrupted()),
            Err(failed) => Err(failed.into()),
        }
    }
}

/// A piece of what goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Anything but text: loading, reasoning, counts, warnings, the end.
    Event(Event),
    /// A piece of the answer, as the processors made it.
    Text(String),
}

/// An answer that is complete.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the processors made of it.
    pub text: String,
    /// What the model said.
    pub raw: String,
    /// What the model thought.
    pub reasoning: String,
    /// Counts of tokens, where the engine tells them.
    pub usage: Option<Usage>,
    /// How long it took.
    pub timings: Timings,
    /// Why it ended.
    pub finish: Finish,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// An answer on its way. Dropping it cancels the inference.
#[derive(Debug)]
pub struct Answering {
    outputs: mpsc::UnboundedReceiver<Output>,
    answer: oneshot::Receiver<Result<Answer, Failure>>,
    cancel: Arc<Notify>,
}

impl Answering {
    /// The next piece; `None` when the answer is over, well or badly.
    pub async fn next(&mut self) -> Option<Output> {
        self.outputs.recv().await
    }

    /// Ends the inference, at the server, too.
    pub fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// The whole answer, when it is over.
    ///
    /// # Errors
    /// Whatever keeps `infer` from a complete answer.
    pub async fn finish(mut self) -> Result<Answer, Failure> {
        let answer = std::mem::replace(&mut self.answer, oneshot::channel().1);
        answer.await.unwrap_or_else(|_| Err(Failure::interrupted()))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Sends all on; a receiver that is gone has had enough.
struct Channel(mpsc::UnboundedSender<Output>);

impl Channel {
    fn send(&self, output: Output) -> Result<(), sink::Error> {
        self.0.send(output).map_err(|_| sink::Error::BrokenPipe)
    }
}

impl Sink for Channel {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            // What the user gets comes through `text`.
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
