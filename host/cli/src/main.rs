//! The command-line program: reads environment, arguments and signals, and
//! sets the exit code.
//!
//! `args` is the command line as clap parses it, `command` has one file per command, `ui`
//! shows messages and progress, `report` is the output of `infer --json`.

mod args;
mod command;
mod environment;
mod error;
mod report;
mod signals;
mod ui;

use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser;
use lmstrix::sink::{escape_controls, is_control};
use lmstrix::{batch, engine};

use args::{Cli, Command, answer_completion_request};
use environment::Env;
use error::{Exit, Failure};
use signals::watch_signals;
use ui::Messages;

/// Exit code of a child process whose parent has ended.
const ORPHANED_EXIT: i32 = 130;

#[allow(
    clippy::exit,
    reason = "threads of packs and models must not delay the exit"
)]
fn main() -> ExitCode {
    if let Some(code) = handle_completion() {
        std::process::exit(code);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => std::process::exit(print_usage(&error)),
    };
    if let Some(code) = run_hidden_command(&cli.command) {
        std::process::exit(code);
    }
    let env = Env::read();
    if let Err(failure) = check_limits(&cli.command) {
        let messages = Messages::new(false, env.stderr_is_terminal, env.colour);
        messages.error(&failure.message);
        failure.hints.iter().for_each(|hint| messages.hint(hint));
        std::process::exit(failure.exit as i32);
    }
    log_to_stderr(&cli);
    let is_batch_run = matches!(&cli.command, Command::Batch(batch) if batch.is_run());
    let watch = watch_signals(is_batch_run);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            let (first, second) = watch.ready();
            let exit = runtime.block_on(run(cli, &env, first, second));
            // A thread that opens a named pipe may be blocked.
            runtime.shutdown_background();
            exit
        }
        Err(e) => {
            Messages::new(false, false, false)
                .error(&format!("cannot start the async runtime: {e}"));
            Exit::Broken
        }
    };
    // Returning would wait for threads of packs and models that are still busy.
    std::process::exit(exit as i32)
}

/// Runs a command that only this program starts. Returns its exit code, or `None` for the
/// other commands.
fn run_hidden_command(command: &Command) -> Option<i32> {
    match command {
        Command::CompilePack {
            memory_bytes,
            seconds,
        } => Some(lmstrix_sandbox::run_compile_child(
            *memory_bytes,
            *seconds,
            std::io::stdin(),
            std::io::stdout(),
            std::io::stderr(),
            end_orphaned_process,
        )),
        Command::SuperviseServer { detached } => Some(supervise_server(*detached)),
        Command::RunTied {
            parent,
            program,
            args,
        } => {
            let error = engine::run_tied(*parent, program, args);
            let message = format!("cannot start `{}`: {error}", program.display());
            Messages::new(false, false, false).error(&message);
            Some(Exit::Broken as i32)
        }
        _ => None,
    }
}

/// Runs the supervisor of a server, in this program started again without inherited files.
fn supervise_server(is_detached: bool) -> i32 {
    if !is_detached && let Ok(program) = std::env::current_exe() {
        let args = [engine::SUPERVISOR_COMMAND, "--detached"];
        let _continue = engine::restart_without_inherited_files(&program, &args);
    }
    engine::run_supervisor(std::io::stdin(), std::io::stdout())
}

#[allow(
    clippy::exit,
    reason = "it is called on a thread of the compiler process"
)]
fn end_orphaned_process() {
    std::process::exit(ORPHANED_EXIT)
}

/// The open files without which the async runtime and its signals cannot start; with fewer,
/// tokio panics.
#[cfg(unix)]
const OPEN_FILES_MIN: u64 = 32;

/// The address space in bytes without which packs cannot run; with less, the process ends
/// where an allocation fails.
#[cfg(unix)]
const ADDRESS_SPACE_MIN: u64 = 1 << 30;

/// Checks the limits of open files (`ulimit -n`) and, for commands that run packs, of address
/// space (`ulimit -v`).
#[cfg(unix)]
fn check_limits(command: &Command) -> Result<(), Failure> {
    use rustix::process::{Resource, getrlimit};

    let runs_packs = matches!(
        command,
        Command::Infer(_) | Command::Render(_) | Command::Batch(_) | Command::Pack(_)
    );
    let open_files = getrlimit(Resource::Nofile).current;
    let address_space = getrlimit(Resource::As).current.filter(|_| runs_packs);
    if let Some(limit) = open_files.filter(|limit| *limit < OPEN_FILES_MIN) {
        return Err(Failure::new(
            Exit::Broken,
            format!("the limit of open files is {limit}, and at least {OPEN_FILES_MIN} are needed"),
        )
        .hint("raise it with `ulimit -n 1024`"));
    }
    if let Some(limit) = address_space.filter(|limit| *limit < ADDRESS_SPACE_MIN) {
        return Err(Failure::new(
            Exit::Broken,
            format!(
                "the limit of address space is {}, and packs need at least {}",
                engine::format_bytes(limit),
                engine::format_bytes(ADDRESS_SPACE_MIN)
            ),
        )
        .hint("raise it with `ulimit -v unlimited`"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_limits(_command: &Command) -> Result<(), Failure> {
    Ok(())
}

/// Runs one command and returns its exit code. `first_signal` completes at Ctrl-C,
/// `second_signal` at the next one: a batch lets its running jobs end after the first.
async fn run(
    cli: Cli,
    env: &Env,
    first_signal: impl Future<Output = ()> + Send,
    second_signal: impl Future<Output = ()> + Send,
) -> Exit {
    let mut first_signal = pin!(first_signal);
    let mut second_signal = pin!(second_signal);
    let result = match cli.command {
        Command::Infer(args) => command::infer(*args, env, first_signal.as_mut()).await,
        Command::Render(args) => command::render(*args, env, first_signal.as_mut()).await,
        Command::Batch(args) => {
            let interrupts = batch::Interrupts {
                first: first_signal.as_mut(),
                second: second_signal.as_mut(),
            };
            command::batch(*args, env, interrupts).await
        }
        Command::Pack(args) => command::pack(args, env, first_signal.as_mut()).await,
        Command::Scan(args) => command::scan(args, env, first_signal.as_mut()).await,
        Command::List(args) => command::list(&args, env),
        Command::Load(args) => command::load(args, env, first_signal.as_mut()).await,
        Command::Unload(args) => command::unload(args, env, first_signal.as_mut()).await,
        Command::Ps(args) => command::ps(args, env, first_signal.as_mut()).await,
        Command::Test(args) => command::test(args, env, first_signal.as_mut()).await,
        Command::Reset(args) => command::reset(&args, env),
        Command::Save(args) => command::save(&args, env),
        Command::About(args) => command::about(&args, env),
        Command::Pull(args) => command::pull(args, env, first_signal.as_mut()).await,
        Command::Doctor(args) => command::doctor(args, env, first_signal.as_mut()).await,
        Command::Completions(args) => command::completions(&args, env),
        // `main` handles them before it starts anything else.
        Command::CompilePack { .. } | Command::SuperviseServer { .. } | Command::RunTied { .. } => {
            Err(Failure::usage("this command is for internal use"))
        }
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            let messages = Messages::new(false, env.stderr_is_terminal, env.colour);
            if failure.exit != Exit::Done {
                messages.error(&failure.message);
            }
            for hint in &failure.hints {
                messages.hint(hint);
            }
            failure.exit
        }
    }
}

/// Prints help, the version or a usage error. Returns the exit code.
fn print_usage(error: &clap::Error) -> i32 {
    let text = error.render();
    // The arguments that the message repeats may come from a script.
    let has_controls = text.to_string().chars().any(|c| c != '\n' && is_control(c));
    let written = if has_controls {
        let escaped = escape_controls(&text.to_string());
        std::io::stderr().write_all(escaped.as_bytes())
    } else {
        error.print()
    };
    let flushed = written.and_then(|()| std::io::stdout().flush());
    match flushed {
        Err(cause) if !error.use_stderr() && cause.kind() != ErrorKind::BrokenPipe => {
            Messages::new(false, false, false).error(&format!("cannot write to stdout: {cause}"));
            Exit::Broken as i32
        }
        _ => error.exit_code(),
    }
}

/// Answers a completion request of a shell. Returns the exit code, or `None` if
/// the program was not called for completion.
fn handle_completion() -> Option<i32> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    let names = move |kind| command::completion_candidates(&Env::read(), kind, &words);
    let folder = std::env::current_dir().ok();
    match answer_completion_request(std::env::args_os(), folder.as_deref(), names) {
        Ok(true) => Some(Exit::Done as i32),
        Ok(false) => None,
        Err(_) => Some(Exit::Broken as i32),
    }
}

/// Logs events of this program's crates to stderr at the level set by `-v`. Prompts and
/// answers are never logged.
fn log_to_stderr(cli: &Cli) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let verbose = cli.command.common().map_or(0, |common| common.verbose);
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .without_time();
    let _already_set = tracing_subscriber::registry()
        .with(layer)
        .with(Targets::new().with_target("lmstrix", level))
        .try_init();
}
