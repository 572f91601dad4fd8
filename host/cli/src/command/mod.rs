//! One file per command. Commands may use all other modules; no module uses a command.

mod batch;
mod completions;
mod infer;
mod models;
mod pack;
mod pull;
mod render;
mod resolve_args;
mod test;

use crate::ui::Messages;
pub(crate) use batch::batch;
pub(crate) use completions::completion_candidates;
pub(crate) use completions::completions;
pub(crate) use infer::infer;
use lmstrix::client::{Notice, Notices};
pub(crate) use models::{about, doctor, list, load, ps, reset, save, scan, unload};
pub(crate) use pack::pack;
pub(crate) use pull::pull;
pub(crate) use render::render;
pub(crate) use test::test;

/// Shows remarks as messages.
fn notices(messages: Messages) -> Notices {
    Notices::new(move |notice| match notice {
        Notice::Status(text) => messages.status(text),
        Notice::Warning(text) => messages.warning(text),
    })
}
