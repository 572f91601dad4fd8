//! One file per command. A command may use every room; no room uses a command.

mod asking;
mod client;
mod infer;
mod job;
mod render;

pub use client::{Answer, Answering, Output, Request};
pub(crate) use infer::infer;
pub(crate) use render::render;
