//! The one path of a job. A `JobSpec` describes it; `resolve` calls the pack of its
//! prompt; `prepare` settles the settings and opens the processors; `run` sends it to
//! the model and returns the `Outcome`.
//!
//! `infer`, the library and batches all call these functions. Nothing here knows
//! the command line, exit codes or a terminal.

mod declared;
mod loop_guard;
mod outcome;
mod pack_set;
mod placement;
mod prepare;
mod processor_chain;
mod processor_steps;
mod resolve;
mod resolve_error;
mod run;
mod run_context;
mod spec;
mod statistics;
mod stream;
mod timeouts;
mod warning;

pub use outcome::{
    Answer, Cancellation, End, FailureClass, InstanceUsed, JobError, JobFacts, Outcome, PackOutput,
    PackUsed, Timings,
};
pub use pack_set::PackSet;
pub use placement::PlacementError;
pub use prepare::{PreparedJob, add_token_facts, model_facts, prepare};
pub use processor_chain::ProcessorChain;
pub use processor_steps::ProcessorStep;
pub use resolve::{ResolvedJob, resolve};
pub use resolve_error::ResolveError;
pub use run::{announce, load_for, run};
pub use run_context::RunContext;
pub use spec::{JobSpec, ModelReference, PromptRequest, SettingsByOrigin};
pub use stream::{Cancel, Sinks, load};
pub use timeouts::{Expired, TimeoutPhase, Timeouts};
pub use warning::Warning;

/// Runs `work`, which may call packs, on a thread of its own.
///
/// # Errors
/// Returns an error if the thread cannot be started, or panicked.
pub async fn on_pack_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, lmstrix_sandbox::Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("packs".to_owned())
        .stack_size(lmstrix_sandbox::THREAD_STACK_BYTES)
        .spawn(move || {
            let _receiver_gone = sender.send(work());
        })
        .map_err(|error| lmstrix_sandbox::Error::Sandbox(error.to_string()))?;
    receiver
        .await
        .map_err(|_| lmstrix_sandbox::Error::Sandbox("the thread that calls packs died".to_owned()))
}
