//! What a person sees besides the answer: messages, warnings and progress, on stderr.
//!
//! `progress` shows a single run and a batch with the same rows and texts; JSON lines
//! about a batch go to stdout.

mod download;
mod messages;
mod progress;
mod warnings;

pub(crate) use download::DownloadProgress;
pub(crate) use messages::Messages;
pub(crate) use progress::{BatchProgress, InferProgress, ProgressMode, WriteError};
pub(crate) use warnings::{Warnings, print_pack_output};
