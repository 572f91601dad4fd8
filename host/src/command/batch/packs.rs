//! The thread that calls packs for a whole batch: it resolves prompts, one after
//! the other, while models are at work.

use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::error::Failure;
use crate::job::{self, PackSet, PromptRequest, ResolvedJob};
use crate::pack::{self, ModelFacts, THREAD_STACK_BYTES};

type Work = Box<dyn FnOnce(&mut [PackSet]) + Send>;

/// The thread, and its packs: a shelf for each prompt of the plan, since each
/// may name its own.
#[derive(Debug)]
pub(super) struct Packs {
    work: mpsc::Sender<Work>,
}

/// What a pack is asked for.
#[derive(Debug)]
pub(super) struct Question {
    /// Which prompt of the plan.
    pub(super) entry: usize,
    pub(super) ask: PromptRequest,
    pub(super) model: ModelFacts,
}

fn died() -> Failure {
    pack::Error::Sandbox("the thread that called packs died".to_owned()).into()
}

impl Packs {
    pub(super) fn start(mut shelves: Vec<PackSet>) -> Result<Self, Failure> {
        let (work, waiting) = mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("packs".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                while let Ok(work) = waiting.recv() {
                    work(&mut shelves);
                }
            })
            .map_err(|e| pack::Error::Sandbox(e.to_string()))?;
        Ok(Self { work })
    }

    fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut [PackSet]) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        // When the thread died, the receiver says so.
        let _died = self.work.send(Box::new(move |shelves| {
            let _nobody_waits = sender.send(work(shelves));
        }));
        receiver
    }

    /// Begins to prepare a job; it is ready when somebody waits for it.
    pub(super) fn prepare(&self, question: Question) -> Preparing {
        Preparing(self.begin(move |shelves| prepare(shelves, &question)))
    }
}

/// A job that is being prepared.
#[derive(Debug)]
pub(super) struct Preparing(oneshot::Receiver<Result<ResolvedJob, Failure>>);

impl Preparing {
    pub(super) async fn wait(self) -> Result<ResolvedJob, Failure> {
        self.0.await.map_err(|_| died())?
    }
}

/// Prepares a job on the thread itself.
fn prepare(shelves: &mut [PackSet], question: &Question) -> Result<ResolvedJob, Failure> {
    let Some(shelf) = shelves.get_mut(question.entry) else {
        return Err(died());
    };
    // A batch never reads stdin.
    let prepared = job::prepare(shelf, &question.ask, Some(&question.model), &mut || {
        Ok(None)
    })?;
    super::super::resolve_args::check(&prepared)?;
    Ok(prepared)
}
