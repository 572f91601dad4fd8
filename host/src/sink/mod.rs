//! Where text goes: stdout, a file, lines of JSON. A sink knows nothing of
//! packs and engines; it is told events and finished text.

mod board;
mod download;
mod events;
mod file;
mod messages;
mod progress;
mod result;
mod stdout;
mod visible;
mod warnings;

use std::path::PathBuf;

use crate::inference::Event;

pub use board::{Board, Ended, JobName, Phase, Style, Tally};
pub use download::Download;
pub use events::Events;
pub use file::OutputFile;
pub use messages::Messages;
pub use progress::Progress;
pub use result::{ResultFile, Staged};
pub use stdout::Stdout;
pub use visible::{Visible, is_control, visible, visible_json};
pub use warnings::Warnings;

/// A sink cannot take any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whoever reads stdout has had enough. This is success.
    #[error("stdout was closed")]
    BrokenPipe,
    /// Stdout cannot be written.
    #[error("cannot write to stdout")]
    Stdout(#[source] std::io::Error),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Takes an answer as it comes.
///
/// The order of calls: any number of `event`, `raw` and `text`, then one `end`,
/// also when the answer failed. After an error nothing further is called. `raw` is what the model
/// said, `text` what the processors made of it; every byte of both arrives, in
/// order.
pub trait Sink {
    /// Anything that is not text.
    ///
    /// # Errors
    /// The sink cannot take any more.
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let _ = event;
        Ok(())
    }

    /// A piece of the answer as the model gave it.
    ///
    /// # Errors
    /// The sink cannot take any more.
    fn raw(&mut self, text: &str) -> Result<(), Error> {
        let _ = text;
        Ok(())
    }

    /// A piece of the answer as the user gets it.
    ///
    /// # Errors
    /// The sink cannot take any more.
    fn text(&mut self, text: &str) -> Result<(), Error>;

    /// Something else is about to be printed on the terminal: what is drawn
    /// there goes, and comes back with the next event.
    fn interlude(&mut self) {}

    /// Whether the answer is for this sink; one that only watches does not keep
    /// a model at work whose readers have all gone.
    fn wants_answer(&self) -> bool {
        true
    }

    /// The answer is over, well or badly; what was shown is rounded off.
    ///
    /// # Errors
    /// The sink cannot take any more.
    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
