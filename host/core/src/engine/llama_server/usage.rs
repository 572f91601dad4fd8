//! The use of a server by this process: what keeps the server running, and how the use ends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::ChildStdin;

use super::failure::{LlamaServerFailure, LlamaServerFault};
use super::run_files::{Control, RunFiles};
use super::server_log::LOG_EXTENSION;
use crate::engine::lease::{Lease, is_used};
use crate::engine::{Error, LLAMA_CPP, UnloadResult};

/// The time in which a supervisor ends its server.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Interval between looks at other users of a server that is to end.
const WAIT_STEP: Duration = Duration::from_millis(100);
/// The time in which a supervisor notices that its server has ended.
pub(super) const NOTICE_LIMIT: Duration = Duration::from_secs(1);

/// The use of a server, shared by all that may end it.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ServerUsage {
    state: Arc<Mutex<UsageState>>,
    pub(super) files: RunFiles,
    /// The state folder of servers.
    state_dir: PathBuf,
    /// The model file, by which leases are named.
    file: String,
    program: PathBuf,
    model: String,
}

#[derive(Debug, Default)]
struct UsageState {
    held: Option<HeldServer>,
    /// The server that is used or is being started.
    id: Option<String>,
}

/// The claims of this process on a server, which keep it running.
#[derive(Debug)]
struct HeldServer {
    _lease: Lease,
    /// Closing it lets the supervisor look for users at once.
    _supervisor: Option<ChildStdin>,
}

impl ServerUsage {
    pub(super) fn new(state_dir: PathBuf, file: String, program: PathBuf, model: String) -> Self {
        Self {
            state: Arc::default(),
            files: RunFiles::new(&state_dir),
            state_dir,
            file,
            program,
            model,
        }
    }

    fn state(&self) -> MutexGuard<'_, UsageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the server that is being started.
    pub(super) fn starts(&self, id: &str) {
        self.state().id = Some(id.to_owned());
    }

    /// Keeps the server running until the use ends.
    pub(super) fn hold(&self, id: &str, lease: Lease, supervisor: Option<ChildStdin>) {
        *self.state() = UsageState {
            held: Some(HeldServer {
                _lease: lease,
                _supervisor: supervisor,
            }),
            id: Some(id.to_owned()),
        };
    }

    /// Begins a use of servers of the model file.
    ///
    /// # Errors
    /// Returns an error if the state folder cannot be written.
    pub(super) fn lease(&self) -> Result<Lease, Error> {
        Lease::acquire(&self.state_dir, LLAMA_CPP, &self.file)
    }

    /// Returns whether a process uses a server of the model file, apart from `own`.
    pub(super) fn is_shared(&self, own: Option<&Lease>) -> bool {
        is_used(&self.state_dir, LLAMA_CPP, &self.file, own)
    }

    /// Ends the use. A server that no other process uses and that is not to stay has ended
    /// when this returns.
    ///
    /// # Errors
    /// Returns an error if the server does not end.
    pub(in crate::engine) async fn release(&self) -> Result<UnloadResult, Error> {
        let Some(id) = self.end_use() else {
            return Ok(UnloadResult::NothingToUnload);
        };
        let record = self.files.read_record(&id);
        let ends_unused = record.is_none_or(|record| self.files.idle_ms(&record) == Some(0));
        match ends_unused && self.ends_or_is_shared(&id).await? {
            true => Ok(UnloadResult::Unloaded),
            false => Ok(UnloadResult::NothingToUnload),
        }
    }

    /// Ends the use, and the server unless another process uses it; then it ends with its
    /// last user.
    ///
    /// # Errors
    /// Returns an error if the server does not end.
    pub(in crate::engine) async fn unload(&self) -> Result<UnloadResult, Error> {
        let Some(id) = self.end_use() else {
            return Ok(UnloadResult::NothingToUnload);
        };
        if self.files.is_supervised(&id) {
            self.files.write_control(&id, Control::END_UNUSED)?;
        }
        match self.ends_or_is_shared(&id).await? {
            true => Ok(UnloadResult::Unloaded),
            false => Ok(UnloadResult::InUse),
        }
    }

    /// Ends the use. Returns the server, if there was one.
    fn end_use(&self) -> Option<String> {
        let state = std::mem::take(&mut *self.state());
        drop(state.held);
        state.id
    }

    /// Waits for a server that ends with its last user. Returns `false` if another process
    /// uses it.
    ///
    /// # Errors
    /// Returns an error if it does not end.
    async fn ends_or_is_shared(&self, id: &str) -> Result<bool, Error> {
        let is_shared = || self.is_shared(None);
        ends_or_is_shared(&self.files, id, &self.model, is_shared).await
    }

    /// Returns the failure of a load that was not ready in time, if a server was started.
    pub(in crate::engine) fn slow_load(&self, limit: Duration) -> Option<Error> {
        let id = self.state().id.clone()?;
        Some(self.failure(&id, LlamaServerFault::NotReady(limit)))
    }

    /// Returns the failure of a server with the last lines of its output.
    pub(super) fn failure(&self, id: &str, fault: LlamaServerFault) -> Error {
        let log = self.files.path(id, LOG_EXTENSION);
        let (program, model) = (self.program.clone(), self.model.clone());
        Error::LlamaServer(Box::new(LlamaServerFailure::with_log(
            program, model, fault, log,
        )))
    }

    /// Returns the reason of a lost connection if that is the end of the server, else the
    /// error itself.
    pub(in crate::engine) async fn explain(&self, error: Error) -> Error {
        if !error.is_unreachable() && !error.is_response_lost() {
            return error;
        }
        let id = self.state().id.clone();
        match id {
            Some(id) if self.files.wait_until_ended(&id, NOTICE_LIMIT).await => {
                self.failure(&id, LlamaServerFault::Crashed)
            }
            _ => error,
        }
    }
}

/// Ends a server, also one that is used, and waits for its end.
///
/// # Errors
/// Returns an error if it does not end.
pub(super) async fn stop(files: &RunFiles, id: &str, model: &str) -> Result<(), Error> {
    files.write_control(id, Control::STOP)?;
    let ended = ends_or_is_shared(files, id, model, || false).await;
    ended.map(|_| ())
}

/// Waits for the end of a server. Returns `false` as soon as another process uses it.
///
/// # Errors
/// Returns an error if it does not end.
pub(super) async fn ends_or_is_shared(
    files: &RunFiles,
    id: &str,
    model: &str,
    is_shared: impl Fn() -> bool,
) -> Result<bool, Error> {
    let end = Instant::now() + STOP_LIMIT;
    while Instant::now() < end {
        if files.wait_until_ended(id, WAIT_STEP).await {
            // The supervisor may have been killed, and instructions written after its end.
            match files.read_record(id) {
                Some(record) => files.clean_up(&record),
                None => files.remove(id),
            }
            return Ok(true);
        }
        if is_shared() {
            return Ok(false);
        }
    }
    Err(Error::Refused {
        engine: LLAMA_CPP.to_owned(),
        model: model.to_owned(),
        reason: format!("its server did not end within {} s", STOP_LIMIT.as_secs()),
    })
}
