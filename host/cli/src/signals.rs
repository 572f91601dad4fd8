//! Ctrl-C and termination signals.

use tokio::sync::oneshot;

use crate::error::Exit;

/// Time to exit after a stop request. A write to a pipe without a reader would
/// otherwise block the exit forever.
const EXIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// The same for a batch run, which unloads models and syncs its results.
const BATCH_EXIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(35);

/// Handles signals on a thread of its own. The thread exits the process if the program does not
/// exit in time, or at a further signal. In a batch run the time starts only at the second Ctrl-C,
/// since running jobs can take minutes to end; otherwise the first one completes both futures of
/// [`SignalWatch::ready`].
#[allow(clippy::exit, reason = "a blocked program cannot exit by itself")]
pub(crate) fn watch_signals(is_batch_run: bool) -> SignalWatch {
    let (first_sender, first) = oneshot::channel();
    let (second_sender, second) = oneshot::channel();
    let (ready_sender, ready) = std::sync::mpsc::channel();
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::new() else {
                drop(ready_sender);
                return std::future::pending().await;
            };
            let _dropped = ready_sender.send(());
            let signal = signals.next().await;
            if is_batch_run && signal == StopSignal::Interrupt {
                let _dropped = first_sender.send(());
                signals.next().await;
                let _dropped = second_sender.send(());
            } else {
                // In this order, so that a batch does not announce a wait for its jobs.
                let _dropped = second_sender.send(());
                let _dropped = first_sender.send(());
            }
            let exit_timeout = if is_batch_run {
                BATCH_EXIT_TIMEOUT
            } else {
                EXIT_TIMEOUT
            };
            let _timed_out = tokio::time::timeout(exit_timeout, signals.next()).await;
            std::process::exit(Exit::Interrupted as i32)
        })
    };
    let is_watching = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .is_ok();
    SignalWatch {
        is_watching,
        ready,
        first,
        second,
    }
}

/// The thread that handles signals, while it starts.
#[derive(Debug)]
pub(crate) struct SignalWatch {
    is_watching: bool,
    ready: std::sync::mpsc::Receiver<()>,
    first: oneshot::Receiver<()>,
    second: oneshot::Receiver<()>,
}

impl SignalWatch {
    /// Waits until signals are handled. Before that, a signal would end the program at any point,
    /// possibly while it writes a file. Returns two futures: the first completes at the first
    /// Ctrl-C, the second at the second Ctrl-C; a termination signal completes both.
    pub(crate) fn ready(
        self,
    ) -> (
        impl Future<Output = ()> + Send,
        impl Future<Output = ()> + Send,
    ) {
        let _timed_out = self.ready.recv_timeout(EXIT_TIMEOUT);
        let wait_for = move |signal: oneshot::Receiver<()>| async move {
            if !self.is_watching || signal.await.is_err() {
                std::future::pending().await
            }
        };
        (wait_for(self.first), wait_for(self.second))
    }
}

/// A request to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    /// Ctrl-C (SIGINT).
    Interrupt,
    /// SIGTERM or SIGHUP.
    #[cfg(unix)]
    Terminate,
}

/// The signal number is the same on Linux (x86, Arm), macOS and the BSDs.
#[cfg(unix)]
const SIGXFSZ: i32 = 25;

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// Never awaited. Handling the signal turns a write beyond `ulimit -f` into
    /// an I/O error; by default it ends the process.
    _file_too_large: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            _file_too_large: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.hang_up.recv() => StopSignal::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> StopSignal {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        StopSignal::Interrupt
    }
}
