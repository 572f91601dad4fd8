//! One file per command. A command may use every room; no room uses a command.

mod asking;
mod infer;
mod render;

pub(crate) use infer::infer;
pub(crate) use render::render;
