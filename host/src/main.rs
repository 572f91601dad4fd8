//! The command line's door: environment, arguments and signals are read here,
//! and the exit code leaves here.

use std::process::ExitCode;

use clap::Parser;
use lmstrix_host::args::{Command, Typed};
use lmstrix_host::environment::Env;
use lmstrix_host::error::Exit;
use lmstrix_host::pack;

/// What a child leaves with whose parent has gone.
const ORPHANED: i32 = 130;

#[allow(
    clippy::exit,
    reason = "threads of packs and models must not hold up the end"
)]
fn main() -> ExitCode {
    if let Some(code) = completed() {
        std::process::exit(code);
    }
    let typed = Typed::parse();
    if let Command::CompilePack {
        memory_bytes,
        seconds,
    } = typed.command
    {
        let code = pack::compile_child(
            memory_bytes,
            seconds,
            std::io::stdin(),
            std::io::stdout(),
            std::io::stderr(),
            || std::process::exit(ORPHANED),
        );
        std::process::exit(code);
    }
    let env = Env::read();
    log_to_stderr(&typed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            // A run of a batch has jobs that may take minutes to end well.
            let is_patient = matches!(&typed.command, Command::Batch(it) if it.is_run());
            let (first, second) = interrupted(is_patient);
            runtime.block_on(lmstrix_host::run(typed, &env, first, second))
        }
        Err(e) => {
            lmstrix_host::sink::Messages::new(false, false, false)
                .error(&format!("the program cannot start: {e}"));
            Exit::Broken
        }
    };
    // Not by returning: a pack or a model may still be at work on its thread.
    std::process::exit(exit as i32)
}

/// Answers a shell that asks for completions; with the exit code when it did.
fn completed() -> Option<i32> {
    let offered = |what| lmstrix_host::offered(&Env::read(), what);
    let folder = std::env::current_dir().ok();
    match lmstrix_host::args::answer_shell(std::env::args_os(), folder.as_deref(), offered) {
        Ok(true) => Some(Exit::Done as i32),
        Ok(false) => None,
        Err(_) => Some(Exit::Broken as i32),
    }
}

/// How long the program may take to leave after it was asked to. A write into
/// a pipe that nobody reads would hold it for ever.
const LEAVE_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Two futures: the first completes at the first Ctrl-C, the second at the second
/// one, or when the system asks us to leave, which completes both. Signals are
/// watched by a thread of their own, which ends the program itself when it does
/// not leave in time, or at one more Ctrl-C. A patient program has all the time
/// that it wants between the first and the second.
#[allow(
    clippy::exit,
    reason = "whoever holds up the program cannot be asked any more"
)]
fn interrupted(
    is_patient: bool,
) -> (
    impl Future<Output = ()> + Send,
    impl Future<Output = ()> + Send,
) {
    let (first, is_first) = tokio::sync::oneshot::channel();
    let (second, is_second) = tokio::sync::oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::new() else {
                drop(ready);
                return std::future::pending().await;
            };
            let _gone = ready.send(());
            let wish = signals.next().await;
            let _gone = first.send(());
            if is_patient && wish == Wish::Interrupt {
                signals.next().await;
            }
            let _gone = second.send(());
            let _more = tokio::time::timeout(LEAVE_AFTER, signals.next()).await;
            std::process::exit(Exit::Interrupted as i32)
        })
    };
    let watching = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .is_ok();
    // A signal before this would end the program where it stands, perhaps in
    // the middle of a file.
    let _in_time = is_ready.recv_timeout(LEAVE_AFTER);
    let of = move |signal: tokio::sync::oneshot::Receiver<()>| async move {
        if !watching || signal.await.is_err() {
            std::future::pending().await
        }
    };
    (of(is_first), of(is_second))
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Ctrl-C.
    Interrupt,
    /// The system wants us to leave.
    Leave,
}

/// The same number on Linux (x86, Arm), macOS and the BSDs.
#[cfg(unix)]
const SIGXFSZ: i32 = 25;

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// Never waited for: that it is watched makes a write beyond `ulimit -f`
    /// an error that can be told, where it would end the program.
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

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::Leave,
            _ = self.hang_up.recv() => Wish::Leave,
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

    async fn next(&mut self) -> Wish {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        Wish::Interrupt
    }
}

/// The log is for finding faults: our own targets only, and never a prompt or
/// an answer.
fn log_to_stderr(typed: &Typed) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let verbose = typed.command.common().map_or(0, |it| it.verbose);
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .without_time();
    let _already = tracing_subscriber::registry()
        .with(layer)
        .with(Targets::new().with_target("lmstrix_host", level))
        .try_init();
}
