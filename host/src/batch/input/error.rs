//! What can be wrong with an input, and where.

use std::io;
use std::path::PathBuf;

/// Why inputs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read; the error names it.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// It could be read when the plan was made; the error names it.
    #[error("{0}; it was there when the plan was made: run the command again")]
    Gone(#[source] io::Error),
    /// Its bytes are others than when the plan was made.
    #[error(
        "`{}` is not what it was when the plan was made: run the command again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A folder where a file has to be.
    #[error("`{}` is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// It is not a pattern.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No file matches.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// As it was given.
        pattern: String,
    },
    /// More bytes than are taken from one file.
    #[error("`{}` has more than {mib} MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        mib: u64,
    },
    /// Not UTF-8.
    #[error("`{}` is not UTF-8: the byte at offset {offset} is wrong", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, counted from 0.
        offset: usize,
    },
    /// Rows are asked of a file whose name does not say which form they have.
    #[error("`{}` does not end in .jsonl, .ndjson, .csv or .tsv", path.display())]
    NotRows {
        /// The file.
        path: PathBuf,
    },
    /// One JSON array where each line has to be an object.
    #[error("`{}` is a JSON array, and not an object on each line", path.display())]
    Array {
        /// The file.
        path: PathBuf,
    },
    /// A row, or the header, is wrong.
    #[error("{}:{line}{}: {reason}", path.display(), shown_column(*column))]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1; of a row of several lines, the first.
        line: usize,
        /// The character in the line, from 1, where one knows it.
        column: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// Nothing, or only a header.
    #[error("`{}` has no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Two rows of a file have one name.
    #[error(
        "{}:{line}: the name `{name}` is that of line {first}, too",
        path.display()
    )]
    SameName {
        /// The file.
        path: PathBuf,
        /// The name that both have.
        name: String,
        /// The line of the first.
        first: usize,
        /// The line of the second.
        line: usize,
    },
    /// A file is among the inputs twice.
    #[error("`{}` is given twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// Two inputs have one name, and no longer one to tell them apart.
    #[error("two inputs have the name `{name}`: {first} and {second}")]
    Clash {
        /// The name that both have.
        name: String,
        /// Where the first comes from.
        first: String,
        /// Where the second comes from.
        second: String,
    },
}

impl Error {
    /// What to do about it, where there is something to type.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotUtf8 { .. } => Some("iconv -f ENCODING -t UTF-8 converts it"),
            Self::Folder { .. } => Some("'FOLDER/*' means the files in it"),
            Self::Array { .. } => Some("jq -c '.[]' FILE >ROWS.jsonl makes rows of it"),
            Self::SameName { .. } => Some("the `id` of each row has to be another"),
            Self::Read(_)
            | Self::Gone(_)
            | Self::Changed { .. }
            | Self::Pattern { .. }
            | Self::NoMatch { .. }
            | Self::TooLarge { .. }
            | Self::NotRows { .. }
            | Self::Row { .. }
            | Self::NoRows { .. }
            | Self::Twice { .. }
            | Self::Clash { .. } => None,
        }
    }
}

fn shown_column(column: Option<usize>) -> String {
    column.map(|it| format!(":{it}")).unwrap_or_default()
}
