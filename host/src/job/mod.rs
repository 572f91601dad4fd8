//! The way of a job: prepare (a pack resolves the prompt), and perform (an
//! engine answers, processors work on the answer, sinks take it). Every
//! command that runs prompts walks this one path.

mod loop_guard;
mod pack_set;
mod prepare;
mod processor_chain;
mod run;
mod timeouts;

pub use pack_set::PackSet;
pub use prepare::{Address, Error, PromptRequest, ResolvedJob, Step, prepare};
pub use processor_chain::ProcessorChain;
pub use run::{Account, Failed, Interrupt, Sinks, Timings, ensure, perform};
pub use timeouts::{Expired, Phase, Timeouts};

/// Runs `work`, which may call packs, on a thread that serves nothing else.
///
/// # Errors
/// The machine gives us no thread, or the thread died.
pub async fn on_pack_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, crate::pack::Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("packs".to_owned())
        .stack_size(crate::pack::THREAD_STACK_BYTES)
        .spawn(move || {
            let _nobody_waits = sender.send(work());
        })
        .map_err(|e| crate::pack::Error::Sandbox(e.to_string()))?;
    let died = |_| crate::pack::Error::Sandbox("a thread that called packs died".to_owned());
    receiver.await.map_err(died)
}
