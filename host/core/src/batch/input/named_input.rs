//! Inputs with their names.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::attachment::Attachment;

/// An input: a name and a source of parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name in reports and results.
    pub name: String,
    /// The source of its parameters.
    pub source: InputSource,
    /// Images that are sent with it.
    pub attachments: Vec<Attachment>,
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
    /// An image; its content is in [`Input::attachments`].
    Image {
        /// Path of the file.
        path: PathBuf,
    },
    /// Several images; their contents are in [`Input::attachments`].
    Images,
    /// A row.
    Row {
        /// Names and values of the parameters, in file order.
        params: Vec<(String, String)>,
    },
    /// The value of the parameter `text`, from `--text` or from a pipe, which cannot be
    /// read twice.
    Text(String),
}

impl InputSource {
    /// Returns the path of a text file or an image.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } | Self::Image { path } => Some(path),
            Self::Images | Self::Row { .. } | Self::Text(_) => None,
        }
    }
}

impl Input {
    /// Creates an input without attachments.
    #[must_use]
    pub fn new(name: impl Into<String>, source: InputSource) -> Self {
        Self {
            name: name.into(),
            source,
            attachments: Vec::new(),
        }
    }

    /// Returns a description of the source for error messages.
    fn origin(&self) -> String {
        match &self.source {
            InputSource::File { path, .. } | InputSource::Image { path } => {
                format!("`{}`", path.display())
            }
            InputSource::Images => "images".to_owned(),
            InputSource::Row { .. } => "a row".to_owned(),
            InputSource::Text(_) => "a text".to_owned(),
        }
    }
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

/// Returns the inputs with distinct names. Duplicate files are removed. A file is named
/// by its stem, or by its file name if another input has that name, or else by its path.
///
/// # Errors
/// Returns an error if two inputs have the same name and no longer name is left.
pub fn with_distinct_names(mut inputs: Vec<Input>) -> Result<Vec<Input>, Error> {
    // A path and a pattern may select the same file.
    let mut paths = HashSet::new();
    inputs.retain(|input| {
        let path = input.source.path();
        let images = input.attachments.iter();
        let images: Vec<String> = images.map(|image| image.sha256().to_owned()).collect();
        path.is_none_or(|path| paths.insert((absolute(path), images)))
    });
    let common = common_folder(&inputs);
    // All files with the same name are renamed together, so that the order of the
    // inputs does not matter. A longer name may clash again, hence the loop. Each file is
    // renamed at most twice.
    loop {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for input in &inputs {
            *counts.entry(&input.name).or_default() += 1;
        }
        let renamed: Vec<(usize, String)> = inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| counts.get(input.name.as_str()).is_some_and(|it| *it > 1))
            .filter_map(|(index, input)| Some((index, longer_name(input, &common)?)))
            .collect();
        if renamed.is_empty() {
            break;
        }
        for (index, name) in renamed {
            inputs[index].name = name;
        }
    }
    let mut seen: HashMap<&str, &Input> = HashMap::new();
    for input in &inputs {
        if let Some(first) = seen.insert(&input.name, input) {
            return Err(Error::DuplicateName {
                name: input.name.clone(),
                first: first.origin(),
                second: input.origin(),
            });
        }
    }
    Ok(inputs)
}

/// Returns the next longer name of a file, or `None` if the present name is the longest or
/// the input is not a file.
fn longer_name(input: &Input, common: &Path) -> Option<String> {
    let path = input.source.path()?;
    let names = [
        stem(path),
        path.file_name()?.to_string_lossy().into_owned(),
        // Relative to the common folder, so that it does not depend on the working
        // directory.
        absolute(path)
            .strip_prefix(common)
            .unwrap_or(path)
            .display()
            .to_string(),
    ];
    // Searched from the end: stem and file name are equal without an extension.
    let current = names.iter().rposition(|name| *name == input.name)?;
    names.into_iter().nth(current + 1)
}

/// Returns the deepest folder that contains all files.
fn common_folder(inputs: &[Input]) -> PathBuf {
    let mut folders = inputs
        .iter()
        .filter_map(|input| Some(absolute(input.source.path()?).parent()?.to_owned()));
    let mut common = folders.next().unwrap_or_default();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

/// Returns the absolute path, or `path` itself if the current folder is unknown.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
