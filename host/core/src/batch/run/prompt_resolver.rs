//! The thread that calls packs for a whole batch: it resolves one prompt after the
//! other while models work.

use std::sync::mpsc;

use lmstrix_sandbox::{ContractError, ModelFacts, THREAD_STACK_BYTES};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::job::{self, PackSet, PromptRequest, ResolvedJob, resolve};

type Work = Box<dyn FnOnce(&mut [PackSet]) + Send>;

/// The thread and its packs: several sets, since each prompt of a plan may name its own.
#[derive(Debug)]
pub(super) struct PromptResolver {
    work: mpsc::Sender<Work>,
}

/// The request to a pack for a job.
#[derive(Debug)]
pub(super) struct ResolveJob {
    /// The index of the prompt's packs.
    pub(super) pack_set: usize,
    pub(super) prompt: PromptRequest,
    pub(super) model: ModelFacts,
}

fn died() -> Error {
    lmstrix_sandbox::Error::Sandbox("the thread that calls packs died".to_owned()).into()
}

impl PromptResolver {
    pub(super) fn start(mut packs: Vec<PackSet>) -> Result<Self, Error> {
        let (work, waiting) = mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("packs".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                while let Ok(work) = waiting.recv() {
                    work(&mut packs);
                }
            })
            .map_err(|error| lmstrix_sandbox::Error::Sandbox(error.to_string()))?;
        Ok(Self { work })
    }

    /// Begins to resolve a prompt.
    pub(super) fn resolve(&self, job: ResolveJob) -> Resolving {
        let (sender, receiver) = oneshot::channel();
        // If the thread died, the receiver returns the error.
        let _died = self.work.send(Box::new(move |packs| {
            let _receiver_gone = sender.send(resolve_on_thread(packs, &job));
        }));
        Resolving(receiver)
    }
}

/// A prompt that is being resolved.
#[derive(Debug)]
pub(super) struct Resolving(oneshot::Receiver<Result<ResolvedJob, Error>>);

impl Resolving {
    pub(super) async fn wait(self) -> Result<ResolvedJob, Error> {
        self.0.await.map_err(|_| died())?
    }
}

fn resolve_on_thread(packs: &mut [PackSet], job: &ResolveJob) -> Result<ResolvedJob, Error> {
    let Some(packs) = packs.get_mut(job.pack_set) else {
        return Err(died());
    };
    // A batch never reads stdin, so that it can be run again.
    resolve(packs, &job.prompt, Some(&job.model), &mut || Ok(None)).map_err(failure)
}

/// Returns the failure with hints that suit a batch.
fn failure(error: job::ResolveError) -> Error {
    let text_hint = match &error {
        job::ResolveError::Pack(lmstrix_sandbox::Error::Contract {
            error: ContractError::MissingParams(names),
            ..
        }) => names.iter().position(|name| name == "text"),
        _ => None,
    };
    let mut failure = Error::from(error);
    // There is one hint for each missing parameter, in the same order.
    if let Some(hint) = text_hint.and_then(|at| failure.hints.get_mut(at)) {
        "set `text` with --text, --text-file, or a column of --inputs".clone_into(hint);
    }
    failure
}
