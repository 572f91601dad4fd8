//! One file per command. A command may use every room; no room uses a command.

mod batch;
mod completions;
mod context_probe;
mod infer;
mod models;
mod pull;
mod render;
mod resolve_args;

use crate::client::{Notice, Notices};
use crate::sink::Messages;
pub(crate) use batch::batch;
pub use completions::completion_candidates;
pub(crate) use completions::completions;
pub(crate) use context_probe::test;
pub(crate) use infer::infer;
pub(crate) use models::{about, doctor, list, load, ps, reset, save, scan, unload};
pub(crate) use pull::pull;
pub(crate) use render::render;

/// Shows remarks as messages.
fn notices(messages: Messages) -> Notices {
    Notices::new(move |notice| match notice {
        Notice::Status(text) => messages.status(text),
        Notice::Warning(text) => messages.warning(text),
    })
}
