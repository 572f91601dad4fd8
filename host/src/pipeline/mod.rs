//! The way of a job: prepare (a pack resolves the prompt), and perform (an
//! engine answers, processors work on the answer, sinks take it). Every
//! command that runs prompts walks this one path.

mod chain;
mod perform;
mod prepare;
mod repeat;
mod shelf;
mod watch;

pub use chain::Chain;
pub use perform::{Account, Failed, Interrupt, Sinks, Timings, ensure, perform};
pub use prepare::{Address, Ask, Error, Prepared, Step, prepare};
pub use shelf::Shelf;
pub use watch::{Expired, Limits, Phase};

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
