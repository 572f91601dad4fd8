//! Runs prompts on local language models, with the prompt logic in sandboxed
//! WebAssembly components.
//!
//! In the order of the data: `args` (the command line), `config` and `environment`
//! (other settings), `client` (a request becomes a job), `job` (the one path of a job),
//! `pack` (resolves prompts, processes answers), `engine` (runs models), `sink` (writes
//! answers and progress), `batch` (many jobs), `context_probe` (finds the largest context
//! length), `command` (one file per command).
//! `inference` holds the types that all of them share, `registry` the known facts about
//! models, `studio_settings` LM Studio's own files, `error` exit codes and hints.
//!
//! Other programs use it through [`Request`]: what `infer` does, as a stream of
//! events or as one call that waits.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use lmstrix_host::environment::Env;
//! use lmstrix_host::{Output, Request};
//!
//! let request = Request::new("tldr").text("A long text. Very long.").engine("embedded");
//! let answer = request.run(&Env::read(), |output| {
//!     if let Output::Text(text) = output {
//!         // Each piece as it comes; `Break` ends the answer early.
//!         let _ = text;
//!     }
//!     ControlFlow::Continue(())
//! });
//! # let _ = answer;
//! ```

pub mod args;
pub mod batch;
mod client;
mod command;
pub mod config;
pub mod context_probe;
mod duration;
pub mod engine;
pub mod environment;
pub mod error;
mod error_chain;
pub mod job;
mod quantity;
pub mod registry;
pub mod report;
pub mod secret;
pub mod sink;
mod source_snippet;
mod studio_settings;
mod suggest;
mod token_estimate;
mod toml_file;
pub mod ui;

use std::pin::pin;

pub use client::{AnswerStream, LoadPolicy, Output, Request, TimeoutOptions};
pub use command::completion_candidates;
pub use job::Answer;

use args::{Cli, Command};
use environment::Env;
use error::{Exit, Failure};
use ui::Messages;

/// Runs one command and returns its exit code. `first_signal` completes at Ctrl-C,
/// `second_signal` at the next one: a batch lets its running jobs end after the first.
pub async fn run(
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
        // `main` handles it before it starts anything else.
        Command::CompilePack { .. } => Err(Failure::usage("this command is for internal use")),
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
