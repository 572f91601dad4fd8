//! One inference as a stream: a thread computes, a bounded channel carries its
//! events, and a dropped stream ends the thread at its next token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::embedded::{Model, ModelFile};
use super::reasoning::{Piece, Splitter};
use super::{Ask, Error};
use crate::inference::{Event, Support};

/// Events that may wait for a slow reader before the model waits too.
const WAITING_EVENTS: usize = 64;

/// Below this many parameters a model is computed by one thread: a piece of
/// work that takes microseconds is not worth handing over, and on a busy
/// machine the wait for the other thread took a hundred times as long.
const PARAMETERS_PER_THREAD: u64 = 20_000_000;

/// The stack of a computing thread. A hostile chat template can nest values
/// deeply, and a stack that overflows ends the whole program; only the pages
/// that are touched cost memory.
const STACK_BYTES: usize = 256 << 20;

/// The events of one inference.
#[derive(Debug)]
pub struct Stream {
    events: mpsc::Receiver<Result<Event, Error>>,
    cancelled: Arc<AtomicBool>,
}

impl Stream {
    /// The next event; `Finished` is the last. An end without it is an error.
    ///
    /// # Errors
    /// The model cannot be loaded, the prompt does not fit, or computing broke
    /// off. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::Lost("its events ended".to_owned())),
        }
    }

    /// Asks the engine to stop; it says `Finished` when it has.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}

pub(super) fn start(file: ModelFile, context: u32, ask: Ask) -> Result<Stream, Error> {
    let (sender, events) = mpsc::channel(WAITING_EVENTS);
    let cancelled = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&cancelled);
    std::thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            let work = || run(&file, context, &ask, &watched, &sender);
            let done = match threads(file.parameters()).build() {
                Ok(pool) => pool.install(work),
                Err(e) => Err(Error::Lost(e.to_string())),
            };
            // A reader that is gone wants nothing, not even the error.
            if let Err(error) = done {
                let _gone = sender.blocking_send(Err(error));
            }
        })
        .map_err(|e| Error::Lost(e.to_string()))?;
    Ok(Stream { events, cancelled })
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
    ask: &Ask,
    cancelled: &AtomicBool,
    sender: &mpsc::Sender<Result<Event, Error>>,
) -> Result<(), Error> {
    let emit = |event| {
        if sender.blocking_send(Ok(event)).is_err() {
            cancelled.store(true, Ordering::Relaxed);
        }
    };
    emit(Event::Loading(None));
    let mut model = file.load(context)?;
    check_required(&model, ask)?;
    let mut splitter = Splitter::new(ask.reasoning_tags);
    let is_cancelled = || cancelled.load(Ordering::Relaxed);
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

impl From<Piece> for Event {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Reasoning(text) => Self::Reasoning(text),
            Piece::Text(text) => Self::Text(text),
        }
    }
}
