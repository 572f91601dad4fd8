//! Runs prompts on local language models, with the prompt logic in sandboxed WebAssembly
//! components.
//!
//! A [`Client`] answers a [`Request`] as a stream of events, or in one call that waits:
//!
//! ```
//! # #[cfg(feature = "embedded")] {
//! use std::ops::ControlFlow;
//!
//! use lmstrix::{Client, Environment, Output, Paths, Request};
//!
//! # let temporary = tempfile::tempdir().unwrap();
//! # std::env::set_current_dir(&temporary).unwrap();
//! // The folder holds the config, the models, and a cache of compiled packs.
//! let client = Client::new(Environment::new([], Paths::below("lmstrix")))?;
//! let request = Request::new("tldr")
//!     .text("The shop is closed on Mondays. It opens on Tuesday.")
//!     .engine("embedded");
//! let answer = client.run(request, |output| {
//!     if let Output::Text(piece) = output {
//!         print!("{piece}");
//!     }
//!     ControlFlow::Continue(()) // `Break` ends the answer early.
//! })?;
//! assert_eq!(answer.text, "The shop is closed on Mondays.");
//! # }
//! # Ok::<(), lmstrix::Error>(())
//! ```
//!
//! The engine `embedded` without a model runs the built-in demo model, which summarizes.
//!
//! The library reads no variables and prints nothing: what it may know of its process is
//! an [`Environment`], what happens are events, and what fails is an [`Error`].
//!
//! In the order of the data: `config` and `environment` (settings), `client` (a request
//! becomes a job), `job` (the one path of a job), `engine` (runs models), `sink` (writes
//! answers), `batch` (many jobs), `context_probe` (finds the largest context length).
//! `registry` holds the known facts about models, `studio_settings` LM Studio's own files.
//! These modules are public for the command-line program, which is not written against a
//! stable interface; other programs use what this page lists.

mod attachment;
#[doc(hidden)]
pub mod batch;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod context_probe;
mod distinct_name;
#[doc(hidden)]
pub mod duration;
#[doc(hidden)]
pub mod engine;
mod environment;
mod error;
#[doc(hidden)]
pub mod error_chain;
#[doc(hidden)]
pub mod job;
#[doc(hidden)]
pub mod quantity;
#[doc(hidden)]
pub mod registry;
mod secret;
#[doc(hidden)]
pub mod sink;
mod source_snippet;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod studio_settings;
#[doc(hidden)]
pub mod suggest;
mod text_encoding;
mod token_estimate;
#[doc(hidden)]
pub mod toml_file;

pub use client::{AnswerStream, Client, LoadPolicy, Output, Request, TimeoutOptions};
pub use duration::TimeLimit;
pub use environment::{Environment, Paths};
pub use error::{Error, ErrorKind};
pub use job::{Answer, ModelReference, Timings, Warning};
#[doc(no_inline)]
pub use lmstrix_inference::{ContextSize, Event, FinishReason, MaxTokens, SettingsLayer, Usage};
#[doc(no_inline)]
pub use lmstrix_sandbox::ProcessorRef;
pub use secret::Secret;
