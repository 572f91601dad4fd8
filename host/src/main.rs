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
        Ok(runtime) => runtime.block_on(lmstrix_host::run(typed, &env, interrupted())),
        Err(_) => Exit::Broken,
    };
    // Not by returning: a pack or a model may still be at work on its thread.
    std::process::exit(exit as i32)
}

/// Completes at the first Ctrl-C, or when the system asks us to leave.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// The log is for finding faults: our own targets only, and never a prompt or
/// an answer.
fn log_to_stderr(typed: &Typed) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let verbose = match &typed.command {
        Command::Infer(args) => args.common.verbose,
        Command::Render(args) => args.common.verbose,
        Command::CompilePack { .. } => 0,
    };
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
