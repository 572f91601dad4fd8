//! An input with its name.

use std::path::{Path, PathBuf};

/// An input: a name and a source of parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name in reports and results.
    pub name: String,
    /// The source of its parameters.
    pub source: InputSource,
}

/// The source of an input's parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum InputSource {
    /// A text file, the value of the parameter `text`. It is read again for each job, so
    /// that thousands of files need no memory.
    File {
        /// Path of the file.
        path: PathBuf,
        /// SHA-256 of the file when the plan was made, in hex.
        sha256: String,
        /// Size of the file in bytes when the plan was made.
        bytes: u64,
    },
    /// A row.
    Row {
        /// Names and values of the parameters, in file order.
        params: Vec<(String, String)>,
    },
    /// The value of the parameter `text`, from `--text` or from a pipe, which cannot be
    /// read twice.
    Text(String),
}

/// The minimum number of digits of line numbers in row names, so that names sort in row
/// order and stay the same while a file grows up to 9999 lines.
pub(super) const DIGITS_MIN: usize = 4;

pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
