//! The common processors, which convert the model's answer to the output while it streams.
//!
//! The total output never depends on how the answer is split into chunks. A processor holds
//! back only text that it cannot decide yet, and sets `done` as soon as further text cannot
//! change its output.

mod fallback;
mod fence;
pub mod json;
mod line_reader;
mod lines;
mod options;
mod reasoning;
mod replace;
mod scan;
mod tag;
mod trim;

use crate::suggest::similar_names;
use crate::types::{Entry, Error, StopReason};

pub use options::{OptionInfo, ProcessorOptions};

/// A processor that is open for one answer.
pub trait Processor {
    /// Processes the next chunk of the answer. Not called again after it returned `done`.
    ///
    /// # Errors
    /// Returns an error if the processor rejects the answer.
    fn push(&mut self, chunk: &str) -> Result<PushOutput, Error>;
    /// Ends the answer. Called once, after the last chunk.
    ///
    /// # Errors
    /// Returns an error if the processor rejects the answer.
    fn finish(&mut self, stop: StopReason) -> Result<FinishedText, Error>;
}

/// The result of [`Processor::push`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOutput {
    /// Output text; may be empty.
    pub text: String,
    /// True if the processor needs no more input.
    pub done: bool,
}

/// The result of [`Processor::finish`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedText {
    /// The remaining output text.
    pub tail: String,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// A processor of this pack.
#[derive(Debug)]
pub struct ProcessorKind {
    /// The name in prompts.
    pub name: &'static str,
    /// A one-line description.
    pub summary: &'static str,
    /// The options.
    pub options: &'static [OptionInfo],
    open: fn(&ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error>,
}

/// All processors, in the order of listings.
pub static PROCESSORS: [ProcessorKind; 7] = [
    reasoning::KIND,
    tag::KIND,
    fence::KIND,
    lines::KIND,
    trim::KIND,
    json::KIND,
    replace::KIND,
];

/// Opens a processor by name.
///
/// # Errors
/// Returns an error if the name is unknown or an option is invalid.
pub fn open(name: &str, options: &[Entry]) -> Result<Box<dyn Processor>, Error> {
    let Some(kind) = PROCESSORS.iter().find(|kind| kind.name == name) else {
        let names = PROCESSORS.iter().map(|kind| kind.name);
        return Err(Error::UnknownProcessor(similar_names(name, names)));
    };
    (kind.open)(&ProcessorOptions::new(kind.options, options)?)
}
