//! Output of answers: stdout, files and JSON lines. Sinks receive events and text, and do
//! not depend on packs or engines.

mod answer_file;
mod control_chars;
mod error_file;
mod events;
mod staged_answer;
mod stdout;

use std::path::PathBuf;
use std::pin::Pin;

use lmstrix_inference::Event;

pub use answer_file::AnswerFile;
pub use control_chars::{ControlEscaper, escape_controls, escape_controls_json, is_control};
pub use events::Events;
pub use staged_answer::StagedAnswer;
pub use stdout::Stdout;

/// An error while writing output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader of stdout has closed it. The program exits with success.
    #[error("stdout was closed")]
    BrokenPipe,
    /// Writing to stdout failed.
    #[error("cannot write to stdout")]
    Stdout(#[source] std::io::Error),
    /// Writing a file failed.
    #[error("cannot write {}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Returns whether no other file can be written either: the disk is full, read-only or
    /// broken, a quota is used up, or the folder is gone.
    #[must_use]
    pub fn is_of_disk(&self) -> bool {
        use std::io::ErrorKind::{
            FileTooLarge, NotFound, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        let Self::File { source, .. } = self else {
            return false;
        };
        // It has no kind; Windows has several codes for it, which are not told apart here.
        #[cfg(unix)]
        let is_io_error = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        #[cfg(not(unix))]
        let is_io_error = false;
        let disk = [
            // The limit of a process (`ulimit -f`).
            FileTooLarge,
            NotFound,
            QuotaExceeded,
            ReadOnlyFilesystem,
            StorageFull,
        ];
        is_io_error || disk.contains(&source.kind())
    }
}

/// A wait for a sink's reader.
pub type Ready<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Receives an answer while it is generated.
///
/// The order of calls is any number of `event`, `raw`, `text` and `restart`, then one
/// `end`, also for a failed answer. No method is called after an error. `raw`
/// receives the model's answer and `text` the output of the processors; all
/// bytes of both arrive in order.
pub trait Sink {
    /// Receives an event.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let _ = event;
        Ok(())
    }

    /// Receives a piece of the model's answer before processing.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    fn raw(&mut self, text: &str) -> Result<(), Error> {
        let _ = text;
        Ok(())
    }

    /// Receives a piece of the processed answer.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    fn text(&mut self, text: &str) -> Result<(), Error>;

    /// Discards the answer so far, which was reasoning. Returns false if a person has
    /// already seen it.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    fn restart(&mut self) -> Result<bool, Error> {
        Ok(true)
    }

    /// Clears drawn output before something else is printed on the terminal. The
    /// next event draws it again.
    fn suspend(&mut self) {}

    /// Returns true if the sink consumes the answer. If all consuming sinks have
    /// lost their readers the model is stopped, even if sinks that only show
    /// progress remain.
    fn wants_answer(&self) -> bool {
        true
    }

    /// Returns a future that completes once the sink can take more output, or `None` if
    /// it can now. Until then the model is not read.
    fn ready(&mut self) -> Option<Ready<'_>> {
        None
    }

    /// Completes the output of a finished or failed answer.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
