//! What a person sees besides the answer: messages, warnings and progress, on stderr.
//!
//! `progress` shows a single run and a batch with the same rows and texts; JSON lines
//! about a batch go to stdout.

mod download;
mod messages;
mod progress;
mod warnings;

pub use download::DownloadProgress;
pub use messages::Messages;
pub use progress::{BatchProgress, InferProgress, ProgressMode};
pub use warnings::Warnings;
