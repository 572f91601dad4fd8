//! The common processors: from what a model says, piece by piece, to what the
//! user gets.
//!
//! What comes out in total never depends on how the answer was cut. A processor
//! holds back only what it cannot yet decide, and says `done` as soon as nothing
//! that may follow can matter.

mod fallback;
mod fence;
pub mod json;
mod line;
mod lines;
mod options;
mod reasoning;
mod replace;
mod scan;
mod tag;
mod trim;

use crate::closest::closest;
use crate::types::{Entry, Error, Stop};

pub use options::{OptionInfo, Options};

/// A processor at work on one answer.
pub trait Processor {
    /// Takes the next piece. Not called again once it has said `done`.
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error>;
    /// Called once, after the last piece.
    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error>;
}

/// What a piece led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// What can go out now.
    pub text: String,
    /// Nothing further is wanted.
    pub done: bool,
}

/// What was left at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Text that was held back until now.
    pub tail: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A processor on offer.
#[derive(Debug)]
pub struct Kind {
    /// What a prompt calls it.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What can be set.
    pub options: &'static [OptionInfo],
    open: fn(&Options<'_>) -> Result<Box<dyn Processor>, Error>,
}

/// All of them, as listed to the user.
pub static KINDS: [Kind; 7] = [
    reasoning::KIND,
    tag::KIND,
    fence::KIND,
    lines::KIND,
    trim::KIND,
    json::KIND,
    replace::KIND,
];

/// Opens a processor by name.
pub fn open(name: &str, options: &[Entry]) -> Result<Box<dyn Processor>, Error> {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        let names = KINDS.iter().map(|kind| kind.name);
        return Err(Error::UnknownProcessor(closest(name, names)));
    };
    (kind.open)(&Options::new(kind.options, options)?)
}
