//! A loaded pack and the calls into it. Every call uses a new store; a processor keeps its
//! store until the answer of its job ends.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::bindings::exports::lmstrix::prompts::post_processor;
use super::call::call_with_limits;
use super::component::{self, ComponentExports, Sandbox};
use super::contract::{
    FinishedText, PackContents, ProcessorContext, PushOutput, ResolveRequest, ResolvedPrompt,
    StopReason, TextFile,
};
use super::convert::{self, CallError, ListLimit};
use super::discovery::SidecarFiles;
use super::error::{Error, GuestError, GuestFailure};
use super::limits::LimitExceeded;
use super::wasi::StoreState;

/// A pack that is loaded and checked.
///
/// Cheap to clone. Calls block and must be made on a thread that serves no other job and
/// whose stack has at least [`THREAD_STACK_BYTES`].
#[derive(Clone)]
pub struct Pack {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) path: Option<PathBuf>,
    pub(super) sidecar_files: SidecarFiles,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) exports: ComponentExports,
}

/// Minimum stack size in bytes of a thread that calls packs: 1 MiB for the guest, and the
/// rest for host code below and above it.
pub const THREAD_STACK_BYTES: usize = 4 << 20;

/// Number of hex digits of a digest in messages.
const DISPLAYED_DIGEST_DIGITS: usize = 12;

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish()
    }
}

impl Pack {
    /// Returns the name of the pack, as used in `pack/prompt`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the SHA-256 of the component in hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns whether this is the standard pack, or a copy of it under another name.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        static DIGEST: OnceLock<String> = OnceLock::new();
        self.digest == *DIGEST.get_or_init(|| super::cache::sha256(super::STANDARD_WASM))
    }

    /// Returns the path of the pack file, or `None` for the standard pack.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// Returns the sidecar files, which are passed to the pack.
    #[must_use]
    pub fn sidecar_files(&self) -> &[TextFile] {
        &self.sidecar_files.files
    }

    /// Returns warnings about sidecar files that are not passed to the pack.
    #[must_use]
    pub fn skipped_files(&self) -> &[String] {
        &self.sidecar_files.skipped
    }

    /// Returns the names of the interfaces that the component imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.exports.names.imports
    }

    /// Returns the names of the interfaces that the component exports.
    #[must_use]
    pub fn exports(&self) -> &[String] {
        &self.exports.names.exports
    }

    /// Returns true if the pack exports the `resolver` interface.
    #[must_use]
    pub fn has_prompts(&self) -> bool {
        self.exports.resolver.is_some()
    }

    /// Returns true if the pack exports the `post-processor` interface.
    #[must_use]
    pub fn has_processors(&self) -> bool {
        self.exports.post_processor.is_some()
    }

    /// Returns the prompts and processors of the pack.
    ///
    /// # Errors
    /// Returns an error if the pack fails, exceeds a limit, or rejects a file.
    pub fn describe(&self, files: &[TextFile]) -> Result<PackContents, Error> {
        const FUNCTION: &str = "describe";
        let limits = &self.sandbox.limits;
        let (mut store, instance) = self.instantiate(FUNCTION, "")?;
        let input_bytes = file_bytes(files);
        let files = convert::files(files);
        let result = call_with_limits(
            &mut store,
            limits.describe_time,
            "describe",
            input_bytes,
            |store| {
                let guest = self.exports.catalog.load(&mut *store, &instance)?;
                guest.call_describe(store, &files)
            },
        );
        let contents = self.check_call_result(result, &store, FUNCTION, "")?;
        convert::contents(contents, ListLimit(limits.list_entries))
            .map_err(|cause| self.guest_error(cause, &store, FUNCTION, ""))
    }

    /// Resolves a prompt's name and parameters to the prompt to send to the model.
    ///
    /// # Errors
    /// Returns an error if the pack has no prompts, returns an error, fails, or exceeds a
    /// limit.
    pub fn resolve(&self, request: &ResolveRequest) -> Result<ResolvedPrompt, Error> {
        const FUNCTION: &str = "resolve";
        let limits = &self.sandbox.limits;
        let item = request.prompt.as_str();
        let Some(resolver) = &self.exports.resolver else {
            return Err(Error::MissingInterface {
                pack: self.name.clone(),
                interface: "prompts",
            });
        };
        let (mut store, instance) = self.instantiate(FUNCTION, item)?;
        let input_bytes = file_bytes(&request.files) + pair_bytes(&request.params);
        let wit_request = convert::request(request);
        let result = call_with_limits(
            &mut store,
            limits.resolve_time,
            "resolve",
            input_bytes,
            |store| {
                let guest = resolver.load(&mut *store, &instance)?;
                guest.call_resolve(store, &wit_request)
            },
        );
        let resolved = self.check_call_result(result, &store, FUNCTION, item)?;
        let mut resolved = convert::resolved_prompt(resolved, ListLimit(limits.list_entries))
            .map_err(|cause| self.guest_error(cause, &store, FUNCTION, item))?;
        resolved.written = store.data().output.text();
        Ok(resolved)
    }

    /// Opens a processor for one job.
    ///
    /// # Errors
    /// Returns an error if the pack has no processors, returns an error, fails, or exceeds
    /// a limit.
    pub fn open(&self, context: &ProcessorContext) -> Result<Processor, Error> {
        const FUNCTION: &str = "open";
        let limits = &self.sandbox.limits;
        let item = context.processor.as_str();
        let Some(post_processor) = &self.exports.post_processor else {
            return Err(Error::MissingInterface {
                pack: self.name.clone(),
                interface: "processors",
            });
        };
        let (mut store, instance) = self.instantiate(FUNCTION, item)?;
        let input_bytes = file_bytes(&context.files) + pair_bytes(&context.params);
        let wit_context = convert::context(context);
        let result = call_with_limits(
            &mut store,
            limits.resolve_time,
            "resolve",
            input_bytes,
            |store| {
                let guest = post_processor.load(&mut *store, &instance)?;
                let opened = guest.processor().call_open(store, &wit_context)?;
                Ok(opened.map(|handle| (guest, handle)))
            },
        );
        let (guest, handle) = self.check_call_result(result, &store, FUNCTION, item)?;
        Ok(Processor {
            pack: self.clone(),
            item: item.to_owned(),
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
        item: &str,
    ) -> Result<(Store<StoreState>, wasmtime::component::Instance), Error> {
        component::instantiate(&self.sandbox, &self.exports)
            .map_err(|(cause, written)| self.guest_error_with(cause, written, function, item))
    }

    /// Returns the value of a call, or converts its error.
    fn check_call_result<T>(
        &self,
        result: Result<Result<T, super::bindings::lmstrix::prompts::types::Error>, GuestFailure>,
        store: &Store<StoreState>,
        function: &'static str,
        item: &str,
    ) -> Result<T, Error> {
        let call_error = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let limit = ListLimit(self.sandbox.limits.list_entries);
                convert::call_error(error, function, limit)
            }
            Err(cause) => CallError::Failure(cause),
        };
        Err(match call_error {
            CallError::Contract(error) => Error::Contract {
                pack: self.name.as_str().into(),
                item: item.into(),
                error,
                written: store.data().output.text().into(),
            },
            CallError::Failure(cause) => self.guest_error(cause, store, function, item),
        })
    }

    fn guest_error(
        &self,
        cause: GuestFailure,
        store: &Store<StoreState>,
        function: &'static str,
        item: &str,
    ) -> Error {
        self.guest_error_with(cause, store.data().output.text(), function, item)
    }

    fn guest_error_with(
        &self,
        cause: GuestFailure,
        written: String,
        function: &'static str,
        item: &str,
    ) -> Error {
        Error::Guest(Box::new(GuestError {
            pack: self.name.clone(),
            digest: self.digest.chars().take(DISPLAYED_DIGEST_DIGITS).collect(),
            function,
            item: item.to_owned(),
            cause,
            written,
        }))
    }
}

/// A processor that processes one answer. It must not be used again after an error.
pub struct Processor {
    pack: Pack,
    item: String,
    store: Store<StoreState>,
    guest: post_processor::Guest,
    handle: ResourceAny,
    input_bytes: usize,
    output_bytes: usize,
}

impl Processor {
    /// Returns `pack/processor` for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.pack.name, self.item)
    }

    /// Passes the next piece of the answer to the processor and returns its output.
    ///
    /// # Errors
    /// Returns an error if the processor fails, rejects the answer, or exceeds a limit.
    pub fn push(&mut self, chunk: &str) -> Result<PushOutput, Error> {
        self.input_bytes += chunk.len();
        let budget = self.pack.sandbox.limits.push_time;
        let (guest, handle) = (&self.guest, self.handle);
        // Each push may return all text that the processor has buffered, so the limit
        // depends on the input so far.
        let result = call_with_limits(&mut self.store, budget, "push", self.input_bytes, |store| {
            guest.processor().call_push(store, handle, chunk)
        });
        let pushed = self
            .pack
            .check_call_result(result, &self.store, "push", &self.item)?;
        let output = convert::push_output(pushed);
        self.count_output("push", output.text.len())?;
        Ok(output)
    }

    /// Ends the answer, also if it was truncated, and returns the remaining output. The
    /// second value is the error of the processor's destructor, if any; it is only a
    /// warning, because the output is complete by then.
    ///
    /// # Errors
    /// Returns an error if the processor fails, rejects the answer, or exceeds a limit.
    pub fn finish(mut self, reason: &StopReason) -> Result<(FinishedText, Option<Error>), Error> {
        const FUNCTION: &str = "finish";
        let limits = self.pack.sandbox.limits;
        let reason = convert::stop_reason(reason);
        let (guest, handle) = (&self.guest, self.handle);
        let result = call_with_limits(
            &mut self.store,
            limits.finish_time,
            "finish",
            self.input_bytes,
            |store| guest.processor().call_finish(store, handle, &reason),
        );
        let outcome = self
            .pack
            .check_call_result(result, &self.store, FUNCTION, &self.item)?;
        let mut finished = convert::finished_text(outcome, ListLimit(limits.list_entries))
            .map_err(|cause| {
                self.pack
                    .guest_error(cause, &self.store, FUNCTION, &self.item)
            })?;
        self.count_output(FUNCTION, finished.tail.len())?;
        let drop_result =
            call_with_limits(&mut self.store, limits.finish_time, "finish", 0, |store| {
                handle.resource_drop(store)
            });
        let warning = drop_result.err().map(|cause| {
            self.pack
                .guest_error(cause, &self.store, "the destructor", &self.item)
        });
        finished.written = self.store.data().output.text();
        Ok((finished, warning))
    }

    /// Adds `bytes` to the output so far. Returns an error if the limit is exceeded.
    fn count_output(&mut self, function: &'static str, bytes: usize) -> Result<(), Error> {
        self.output_bytes += bytes;
        let limit = self.pack.sandbox.limits.output_bytes_for(self.input_bytes);
        if self.output_bytes > limit {
            let cause = GuestFailure::Limit(LimitExceeded::Output(limit));
            return Err(self
                .pack
                .guest_error(cause, &self.store, function, &self.item));
        }
        Ok(())
    }
}

fn file_bytes(files: &[TextFile]) -> usize {
    files
        .iter()
        .map(|file| file.name.len() + file.text.len())
        .sum()
}

fn pair_bytes(pairs: &[(String, String)]) -> usize {
    pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}
