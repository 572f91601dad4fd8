//! A pack that is ready, and the calls into it. Every call gets a store of its
//! own; a processor keeps its store for as long as its job's answer runs.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::bindings::exports::lmstrix::prompts::post_processor;
use super::call::guarded;
use super::component::{self, Probed, Sandbox};
use super::contract::{
    Contents, Outcome, ProcessorContext, Pushed, Request, Resolved, Stop, TextFile,
};
use super::convert::{self, Most, Refusal};
use super::error::{Cause, Error, GuestError};
use super::find::Beside;
use super::limits::Limit;
use super::wasi::State;

/// A pack that is loaded, checked and ready to be called.
///
/// Cheap to clone. Calls block, and must be made on a thread that serves no
/// other job; its stack must have at least [`THREAD_STACK_BYTES`].
#[derive(Clone)]
pub struct Pack {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) path: Option<PathBuf>,
    pub(super) beside: Beside,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) probed: Probed,
}

/// What a thread's stack must have that calls packs: the guest's own 1 MiB,
/// and room for the host below and above it.
pub const THREAD_STACK_BYTES: usize = 4 << 20;

/// How many digits of a digest are shown to people.
const SHOWN_DIGITS: usize = 12;

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish()
    }
}

impl Pack {
    /// The name that prompts and processors are addressed by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sha256 of the component, in hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The file; the standard pack has none.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// Files with the pack's stem, which are handed to it.
    #[must_use]
    pub fn beside(&self) -> &[TextFile] {
        &self.beside.files
    }

    /// Files beside the pack that it is not given, and why.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.beside.left_out
    }

    /// Whether it offers prompts.
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.probed.resolver.is_some()
    }

    /// Whether it offers processors.
    #[must_use]
    pub fn processes(&self) -> bool {
        self.probed.post.is_some()
    }

    /// Asks the pack what it has to offer.
    ///
    /// # Errors
    /// The pack fails, breaks a limit, or says that a file is invalid.
    pub fn describe(&self, files: &[TextFile]) -> Result<Contents, Error> {
        const FUNCTION: &str = "describe";
        let limits = &self.sandbox.limits;
        let (mut store, instance) = self.instantiate(FUNCTION, "")?;
        let input = files_bytes(files);
        let files = convert::files(files);
        let found = guarded(
            &mut store,
            limits.describe_time,
            "describe",
            input,
            |store| {
                let guest = self.probed.catalog.load(&mut *store, &instance)?;
                guest.call_describe(store, &files)
            },
        );
        let found = self.answered(found, &store, FUNCTION, "")?;
        convert::contents(found, Most(limits.list_entries))
            .map_err(|cause| self.signed(cause, &store, FUNCTION, ""))
    }

    /// Turns a prompt's name and parameters into what the model is sent.
    ///
    /// # Errors
    /// The pack offers no prompts, answers that it cannot, fails, or breaks a
    /// limit.
    pub fn resolve(&self, request: &Request) -> Result<Resolved, Error> {
        const FUNCTION: &str = "resolve";
        let limits = &self.sandbox.limits;
        let asked = request.prompt.as_str();
        let Some(resolver) = &self.probed.resolver else {
            return Err(Error::Lacks {
                pack: self.name.clone(),
                lacks: "prompts",
            });
        };
        let (mut store, instance) = self.instantiate(FUNCTION, asked)?;
        let input = files_bytes(&request.files) + pairs_bytes(&request.params);
        let wire = convert::request(request);
        let found = guarded(&mut store, limits.resolve_time, "resolve", input, |store| {
            let guest = resolver.load(&mut *store, &instance)?;
            guest.call_resolve(store, &wire)
        });
        let found = self.answered(found, &store, FUNCTION, asked)?;
        convert::resolved(found, Most(limits.list_entries))
            .map_err(|cause| self.signed(cause, &store, FUNCTION, asked))
    }

    /// Opens one of the pack's processors for one job.
    ///
    /// # Errors
    /// The pack offers no processors, answers that it cannot, fails, or breaks
    /// a limit.
    pub fn open(&self, context: &ProcessorContext) -> Result<Processor, Error> {
        const FUNCTION: &str = "open";
        let limits = &self.sandbox.limits;
        let asked = context.processor.as_str();
        let Some(post) = &self.probed.post else {
            return Err(Error::Lacks {
                pack: self.name.clone(),
                lacks: "processors",
            });
        };
        let (mut store, instance) = self.instantiate(FUNCTION, asked)?;
        let input = files_bytes(&context.files) + pairs_bytes(&context.params);
        let wire = convert::context(context);
        let found = guarded(&mut store, limits.resolve_time, "resolve", input, |store| {
            let guest = post.load(&mut *store, &instance)?;
            let opened = guest.processor().call_open(store, &wire)?;
            Ok(opened.map(|handle| (guest, handle)))
        });
        let (guest, handle) = self.answered(found, &store, FUNCTION, asked)?;
        Ok(Processor {
            pack: self.clone(),
            asked: asked.to_owned(),
            store,
            guest,
            handle,
            input_bytes: 0,
            output_bytes: 0,
        })
    }

    fn instantiate(
        &self,
        function: &'static str,
        asked: &str,
    ) -> Result<(Store<State>, wasmtime::component::Instance), Error> {
        component::instantiate(&self.sandbox, &self.probed)
            .map_err(|(cause, stderr)| self.guest_error(cause, stderr, function, asked))
    }

    /// Sorts what a call gave into a value, an answer and a failure.
    fn answered<T>(
        &self,
        found: Result<Result<T, super::bindings::lmstrix::prompts::types::Error>, Cause>,
        store: &Store<State>,
        function: &'static str,
        asked: &str,
    ) -> Result<T, Error> {
        let refused = match found {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(refused)) => convert::refusal(refused, Most(self.sandbox.limits.list_entries)),
            Err(cause) => Refusal::Failure(cause),
        };
        Err(match refused {
            Refusal::Answer(answer) => Error::Answer {
                pack: self.name.clone(),
                asked: asked.to_owned(),
                answer,
            },
            Refusal::Failure(cause) => self.signed(cause, store, function, asked),
        })
    }

    fn signed(
        &self,
        cause: Cause,
        store: &Store<State>,
        function: &'static str,
        asked: &str,
    ) -> Error {
        self.guest_error(cause, store.data().output.text(), function, asked)
    }

    fn guest_error(
        &self,
        cause: Cause,
        stderr: String,
        function: &'static str,
        asked: &str,
    ) -> Error {
        Error::Guest(Box::new(GuestError {
            pack: self.name.clone(),
            digest: self.digest.chars().take(SHOWN_DIGITS).collect(),
            function,
            asked: asked.to_owned(),
            cause,
            stderr,
        }))
    }
}

/// One processor at work on one answer. It owns its store; after an error it
/// must not be used again.
pub struct Processor {
    pack: Pack,
    asked: String,
    store: Store<State>,
    guest: post_processor::Guest,
    handle: ResourceAny,
    input_bytes: usize,
    output_bytes: usize,
}

impl Processor {
    /// `pack/processor`, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}/{}", self.pack.name, self.asked)
    }

    /// Takes the next piece of the answer.
    ///
    /// # Errors
    /// The processor fails, rejects, or breaks a limit.
    pub fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        self.input_bytes += chunk.len();
        let budget = self.pack.sandbox.limits.push_time;
        let (guest, handle) = (&self.guest, self.handle);
        // A processor may give back all that it held at any push.
        let found = guarded(&mut self.store, budget, "push", self.input_bytes, |store| {
            guest.processor().call_push(store, handle, chunk)
        });
        let pushed = self
            .pack
            .answered(found, &self.store, "push", &self.asked)?;
        let pushed = convert::pushed(pushed);
        self.count("push", pushed.text.len())?;
        Ok(pushed)
    }

    /// Ends the answer; called once, also when the answer was cut. The second
    /// value is what the processor's destructor did wrong, if anything: by then
    /// the text is whole, so it is a warning.
    ///
    /// # Errors
    /// The processor fails, rejects, or breaks a limit.
    pub fn finish(mut self, reason: &Stop) -> Result<(Outcome, Option<Error>), Error> {
        const FUNCTION: &str = "finish";
        let limits = self.pack.sandbox.limits;
        let reason = convert::stop(reason);
        let (guest, handle) = (&self.guest, self.handle);
        let found = guarded(
            &mut self.store,
            limits.finish_time,
            "finish",
            self.input_bytes,
            |store| guest.processor().call_finish(store, handle, &reason),
        );
        let found = self
            .pack
            .answered(found, &self.store, FUNCTION, &self.asked)?;
        let outcome = convert::outcome(found, Most(limits.list_entries))
            .map_err(|cause| self.pack.signed(cause, &self.store, FUNCTION, &self.asked))?;
        self.count(FUNCTION, outcome.tail.len())?;
        let dropped = guarded(&mut self.store, limits.finish_time, "finish", 0, |store| {
            handle.resource_drop(store)
        });
        let warning = dropped.err().map(|cause| {
            self.pack
                .signed(cause, &self.store, "the destructor", &self.asked)
        });
        Ok((outcome, warning))
    }

    fn count(&mut self, function: &'static str, bytes: usize) -> Result<(), Error> {
        self.output_bytes += bytes;
        let most = self.pack.sandbox.limits.output_bytes_for(self.input_bytes);
        if self.output_bytes > most {
            let cause = Cause::Limit(Limit::Output(most));
            return Err(self.pack.signed(cause, &self.store, function, &self.asked));
        }
        Ok(())
    }
}

fn files_bytes(files: &[TextFile]) -> usize {
    files.iter().map(|f| f.name.len() + f.text.len()).sum()
}

fn pairs_bytes(pairs: &[(String, String)]) -> usize {
    pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}
