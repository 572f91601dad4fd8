//! The functions of a pack.

use crate::{Contents, Context, Error, File, Outcome, Pushed, Request, Resolved, Stop};

/// A pack. [`Catalog`](crate::Catalog) implements it for a fixed list of prompts and
/// processors. Implement it yourself if the prompts depend on the files.
pub trait Pack {
    /// Lists the prompts and processors. `files` are those that the user named, and those
    /// beside the pack.
    ///
    /// # Errors
    /// Returns an error if a file is invalid.
    fn describe(&self, files: &[File]) -> Result<Contents, Error>;

    /// Returns the messages and settings of a prompt.
    ///
    /// # Errors
    /// Returns an error if the prompt does not exist, or a parameter or file is invalid.
    fn resolve(&self, request: &Request) -> Result<Resolved, Error>;

    /// Opens a processor for one answer.
    ///
    /// # Errors
    /// Returns an error if the processor does not exist, or an option or file is invalid.
    fn open(&self, context: &Context) -> Result<Box<dyn Processor>, Error>;
}

/// A processor that is open for one answer.
///
/// The output must not depend on where the answer is cut into chunks. Hold text back until it
/// is decided: [`LineBuffer`](crate::LineBuffer) collects lines, and
/// [`find_first`](crate::find_first) finds texts that may be cut.
pub trait Processor {
    /// Processes the next chunk of the answer. Not called again after it returned `done`.
    ///
    /// # Errors
    /// Returns [`Error::Rejected`] if the answer does not pass a check.
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error>;

    /// Ends the answer. Called once, after the last chunk.
    ///
    /// # Errors
    /// Returns [`Error::Rejected`] if the answer does not pass a check.
    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error> {
        let _ = stop;
        Ok(Outcome::default())
    }
}

impl<P: Processor + ?Sized> Processor for Box<P> {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        (**self).push(chunk)
    }

    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error> {
        (**self).finish(stop)
    }
}
