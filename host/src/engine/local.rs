//! The embedded engine on a thread of its own.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::embedded::{Model, ModelFile};
use super::reasoning::Splitter;
use super::stream::{Cancel, Stream, WAITING_EVENTS};
use super::{Ask, Error};
use crate::inference::{Event, Support};

/// Below this many parameters a model is computed by one thread: a piece of
/// work that takes microseconds is not worth handing over, and on a busy
/// machine the wait for the other thread took a hundred times as long.
const PARAMETERS_PER_THREAD: u64 = 20_000_000;

/// The stack of a computing thread. A hostile chat template can nest values
/// deeply, and a stack that overflows ends the whole program; only the pages
/// that are touched cost memory.
const STACK_BYTES: usize = 256 << 20;

/// A model of this process: loaded by the first inference, kept for the next
/// ones. It goes with this value, after what it is at.
#[derive(Debug)]
pub(super) struct Worker {
    work: std::sync::mpsc::Sender<Work>,
}

/// One inference that waits for its turn.
#[derive(Debug)]
struct Work {
    ask: Ask,
    cancelled: Arc<Cancel>,
    sender: mpsc::Sender<Result<Event, Error>>,
}

impl Worker {
    /// Starts the thread; nothing is loaded.
    ///
    /// # Errors
    /// The machine gives us no thread.
    pub(super) fn start(file: Arc<ModelFile>, context: u32) -> Result<Self, Error> {
        let (work, waiting) = std::sync::mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || {
                let mut model = None;
                let pool = threads(file.parameters()).build();
                while let Ok(work) = waiting.recv() {
                    let done = match &pool {
                        Ok(pool) => pool.install(|| run(&file, context, &mut model, &work)),
                        Err(e) => Err(Error::Stopped(e.to_string())),
                    };
                    // A reader that is gone wants nothing, not even the error.
                    if let Err(error) = done {
                        let _gone = work.sender.blocking_send(Err(error));
                    }
                }
            })
            .map_err(|e| Error::Stopped(e.to_string()))?;
        Ok(Self { work })
    }

    /// Runs one inference, after those that came before it.
    ///
    /// # Errors
    /// The thread died.
    pub(super) fn infer(&self, ask: Ask) -> Result<Stream, Error> {
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let cancelled = Arc::new(Cancel::default());
        let stream = Stream::new(events, Arc::clone(&cancelled), None);
        let work = Work {
            ask,
            cancelled,
            sender,
        };
        self.work
            .send(work)
            .map_err(|_| Error::Stopped("its thread died".to_owned()))?;
        Ok(stream)
    }
}

fn threads(parameters: u64) -> rayon::ThreadPoolBuilder {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let useful = usize::try_from(parameters / PARAMETERS_PER_THREAD).unwrap_or(usize::MAX);
    rayon::ThreadPoolBuilder::new()
        .num_threads(useful.clamp(1, cores))
        .stack_size(STACK_BYTES)
}

fn run(
    file: &ModelFile,
    context: u32,
    model: &mut Option<Model>,
    work: &Work,
) -> Result<(), Error> {
    let Work {
        ask,
        cancelled,
        sender,
    } = work;
    let emit = |event| {
        if sender.blocking_send(Ok(event)).is_err() {
            cancelled.wish();
        }
    };
    let model = match model {
        Some(model) => model,
        None => {
            emit(Event::Loading(None));
            model.insert(file.load(context)?)
        }
    };
    check_required(model, ask)?;
    let mut splitter = Splitter::new(ask.reasoning_tags);
    let is_cancelled = || cancelled.is_wished();
    model.infer(
        &ask.prompt,
        &ask.settings,
        &is_cancelled,
        &mut |event| match event {
            Event::Text(text) => splitter
                .push(&text)
                .into_iter()
                .for_each(|it| emit(it.into())),
            Event::Finished(_) => {
                splitter.finish().into_iter().for_each(|it| emit(it.into()));
                emit(event);
            }
            other => emit(other),
        },
    )?;
    Ok(())
}

fn check_required(model: &Model, ask: &Ask) -> Result<(), Error> {
    let lost: Vec<&str> = ask
        .required
        .iter()
        .map(String::as_str)
        .filter(|name| model.support(name) != Support::Honoured)
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::Settings(lost.join(", ")))
}
