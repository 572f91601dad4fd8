//! Runs prompts on local language models, with the prompt logic in sandboxed
//! WebAssembly components.
//!
//! In the order of the way through: what was typed (`args`) and written down
//! (`config`) meets the world (`environment`); packs resolve the prompt
//! (`pack`), an engine answers (`engine`), processors and sinks take the answer
//! (`pipeline`, `sink`), and what happened is told (`report`, `error`).
//! `inference` holds the words that all of them share; `batch` knows which jobs
//! there are and what became of them; `registry` keeps what is known of models, `studio_settings` writes LM Studio's own files, `tokens`
//! guesses how many there are.
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
mod duration;
pub mod engine;
pub mod environment;
pub mod error;
mod error_chain;
pub mod inference;
pub mod job;
pub mod pack;
mod quantity;
pub mod registry;
pub mod report;
pub mod secret;
pub mod sink;
mod source_snippet;
mod studio_settings;
mod suggest;
mod token_estimate;

use std::pin::pin;

pub use client::{AnswerStream, LoadPolicy, Output, Request, TimeoutOptions};
pub use command::completion_candidates;
pub use job::Answer;

use args::{Cli, Command};
use environment::Env;
use error::{Exit, Failure};
use sink::Messages;

/// Runs one command to its end and says how to leave. `interrupt` is what
/// Ctrl-C completes, `insisted` what a second one does: a batch lets its running
/// jobs end after the first.
pub async fn run(
    typed: Cli,
    env: &Env,
    interrupt: impl Future<Output = ()> + Send,
    insisted: impl Future<Output = ()> + Send,
) -> Exit {
    let mut interrupt = pin!(interrupt);
    let mut insisted = pin!(insisted);
    let result = match typed.command {
        Command::Infer(args) => command::infer(*args, env, interrupt.as_mut()).await,
        Command::Render(args) => command::render(*args, env, interrupt.as_mut()).await,
        Command::Batch(args) => {
            let interrupts = batch::Interrupts {
                first: interrupt.as_mut(),
                second: insisted.as_mut(),
            };
            command::batch(*args, env, interrupts).await
        }
        Command::Scan(args) => command::scan(args, env, interrupt.as_mut()).await,
        Command::List(args) => command::list(&args, env),
        Command::Load(args) => command::load(args, env, interrupt.as_mut()).await,
        Command::Unload(args) => command::unload(args, env, interrupt.as_mut()).await,
        Command::Ps(args) => command::ps(args, env, interrupt.as_mut()).await,
        Command::Test(args) => command::test(args, env, interrupt.as_mut()).await,
        Command::Reset(args) => command::reset(&args, env),
        Command::Save(args) => command::save(&args, env),
        Command::About(args) => command::about(&args, env),
        Command::Pull(args) => command::pull(args, env, interrupt.as_mut()).await,
        Command::Doctor(args) => command::doctor(args, env, interrupt.as_mut()).await,
        Command::Completions(args) => command::completions(&args, env),
        // `main` takes this road before it starts anything else.
        Command::CompilePack { .. } => {
            Err(Failure::usage("this command is for the program itself"))
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
