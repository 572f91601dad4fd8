//! Errors of inputs.

use std::io;
use std::path::PathBuf;

use crate::attachment::{AttachmentError, image_hint};

/// An error of an input file, pattern or row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read. The I/O error names it.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// A file that existed when the plan was made cannot be read. The I/O error names it.
    #[error("{0}; the file was readable when the plan was made: run the command again")]
    Removed(#[source] io::Error),
    /// The content of a file has changed since the plan was made.
    #[error("`{}` has changed since the plan was made: run the command again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The path is a folder, not a file.
    #[error("`{}` is a folder", path.display())]
    IsDirectory {
        /// The folder.
        path: PathBuf,
    },
    /// The pattern is invalid.
    #[error("invalid pattern `{pattern}`: {reason}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is invalid.
        reason: String,
    },
    /// No file matches the pattern.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// The file exceeds the size limit.
    #[error("`{}` is larger than {mib} MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in MiB.
        mib: u64,
    },
    /// The file is not UTF-8.
    #[error("`{}` is not UTF-8: invalid byte at offset {offset}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first invalid byte, starting at 0.
        offset: usize,
    },
    /// The extension of the file is not that of a row format.
    #[error("`{}` is not a row file: expected .jsonl, .ndjson, .csv or .tsv", path.display())]
    UnknownRowFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is a JSON array instead of JSON lines.
    #[error("`{}` is a JSON array; expected one object per line", path.display())]
    JsonArray {
        /// The file.
        path: PathBuf,
    },
    /// A row or the header is invalid.
    #[error("{}:{line}{}: {reason}", path.display(), shown_column(*column))]
    Row {
        /// The file.
        path: PathBuf,
        /// First line of the row, starting at 1.
        line: usize,
        /// Column in characters, starting at 1, if known.
        column: Option<usize>,
        /// What is invalid.
        reason: String,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// An image that a row names cannot be read.
    #[error("{}:{line}", path.display())]
    RowAttachment {
        /// The table.
        path: PathBuf,
        /// First line of the row, starting at 1.
        line: usize,
        /// The error of the image.
        #[source]
        source: AttachmentError,
    },
    /// The file is empty or has only a header.
    #[error("`{}` has no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Two rows of a file have the same name.
    #[error(
        "{}:{line}: duplicate name `{name}`, first used on line {first}",
        path.display()
    )]
    DuplicateRowName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Line of the first row.
        first: usize,
        /// Line of the second row.
        line: usize,
    },
    /// Two inputs have the same name, and no longer name distinguishes them.
    #[error("duplicate input name `{name}`: {first} and {second}")]
    DuplicateName {
        /// The name.
        name: String,
        /// Description of the first input.
        first: String,
        /// Description of the second input.
        second: String,
    },
}

impl Error {
    /// Returns a hint for the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotUtf8 { path, .. } => {
                image_hint(path).or(Some("convert it with `iconv -f ENCODING -t UTF-8`"))
            }
            Self::DuplicateName { .. } => Some("give each a distinct `name` in `[[input]]`"),
            Self::IsDirectory { .. } => Some("use 'FOLDER/*' for the files in it"),
            Self::JsonArray { .. } => Some("convert it with `jq -c '.[]' FILE >ROWS.jsonl`"),
            Self::DuplicateRowName { .. } => Some("give each row a distinct `id`"),
            Self::Attachment(error) | Self::RowAttachment { source: error, .. } => error.hint(),
            Self::Read(_)
            | Self::Removed(_)
            | Self::Changed { .. }
            | Self::InvalidPattern { .. }
            | Self::NoMatch { .. }
            | Self::TooLarge { .. }
            | Self::UnknownRowFormat { .. }
            | Self::Row { .. }
            | Self::NoRows { .. } => None,
        }
    }
}

fn shown_column(column: Option<usize>) -> String {
    column
        .map(|column| format!(":{column}"))
        .unwrap_or_default()
}
