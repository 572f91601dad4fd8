//! One file per command. A command may use every room; no room uses a command.

mod answer_check;
mod batch;
mod client;
mod completing;
mod context_probe;
mod infer;
mod job;
mod models;
mod pull;
mod render;
mod resolve_args;
mod run_stats;

pub(crate) use batch::{Interrupts, batch};
pub use client::{Answer, Answering, Output, Request};
pub(crate) use completing::completions;
pub use completing::offered;
pub(crate) use context_probe::test;
pub(crate) use infer::infer;
pub(crate) use models::{about, doctor, list, load, ps, reset, save, scan, unload};
pub(crate) use pull::pull;
pub(crate) use render::render;
