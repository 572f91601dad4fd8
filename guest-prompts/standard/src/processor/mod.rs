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
mod tag;
mod trim;

use lmstrix_pack::{Entry, Error, Processor, ProcessorInfo, similar_names};

pub use options::{OptionInfo, ProcessorOptions};

/// The maximum length in bytes of a text that a processor searches for. It bounds the text that
/// is held back.
const MAX_NEEDLE_BYTES: usize = 256;

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

impl ProcessorKind {
    /// Returns the description for `describe`.
    pub fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            options: self.options.iter().map(OptionInfo::info).collect(),
            ..ProcessorInfo::new(self.name, self.summary)
        }
    }
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
