//! Errors of reading files.

use std::path::PathBuf;

/// A path that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is not that of a format.
    #[error("unknown format `{0}`; the formats are `fabric`, `llm`, `prompty` and `dotprompt`")]
    UnknownFormat(String),
    /// The path cannot be read. The message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The path is neither a regular file nor a folder.
    #[error("`{}` is neither a regular file nor a folder", .0.display())]
    NotAFile(PathBuf),
    /// The file is a part of a prompt, and not a prompt.
    #[error("`{}` is {part}", .path.display())]
    NotAPrompt {
        /// The file.
        path: PathBuf,
        /// The kind of part, and the path to import instead.
        part: &'static str,
    },
    /// The folder contains no prompts of the format.
    #[error("no {expected} in `{}`", .path.display())]
    NoPrompts {
        /// The folder.
        path: PathBuf,
        /// The files that an import looks for.
        expected: &'static str,
    },
    /// The folder contains too many files.
    #[error("more than {limit} files in `{}`", .path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The maximum number of files.
        limit: usize,
    },
}
