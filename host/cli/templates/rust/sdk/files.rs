//! The files of a call: those that the user named, and those beside the pack.

use crate::{Context, Error, File, FileError, Request};

impl Request {
    /// Returns the file of a name.
    ///
    /// # Errors
    /// Returns [`Error::InvalidFile`] if no file has this name.
    pub fn file(&self, name: &str) -> Result<&File, Error> {
        find(&self.files, name)
    }
}

impl Context {
    /// Returns the file of a name.
    ///
    /// # Errors
    /// Returns [`Error::InvalidFile`] if no file has this name.
    pub fn file(&self, name: &str) -> Result<&File, Error> {
        find(&self.files, name)
    }
}

fn find<'a>(files: &'a [File], name: &str) -> Result<&'a File, Error> {
    let missing = || {
        Error::InvalidFile(FileError {
            file: name.to_owned(),
            message: "there is no such file beside the pack, and `--file` did not name it".into(),
            ..FileError::default()
        })
    };
    files
        .iter()
        .find(|file| file.name == name)
        .ok_or_else(missing)
}

impl File {
    /// Returns an error at a line and a column, which start at 1.
    pub fn error(
        &self,
        line: impl Into<Option<u32>>,
        column: impl Into<Option<u32>>,
        message: impl Into<String>,
    ) -> Error {
        Error::InvalidFile(FileError {
            file: self.name.clone(),
            line: line.into(),
            column: column.into(),
            message: message.into(),
        })
    }

    /// Reads the rows of a table in CSV. The first line has the names of the columns.
    ///
    /// # Errors
    /// Returns an error with its line if a row does not have the fields of `Row`.
    #[cfg(feature = "csv")]
    pub fn csv<Row: serde::de::DeserializeOwned>(&self) -> Result<Vec<Row>, Error> {
        let invalid = |error: csv::Error| {
            let line = error.position().map(|position| position.line());
            let line = line.and_then(|line| u32::try_from(line).ok());
            let message = match error.kind() {
                csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => format!("expected {expected_len} values, found {len}"),
                _ => error.to_string(),
            };
            self.error(line, None, message)
        };
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        csv::Reader::from_reader(text.as_bytes())
            .into_deserialize()
            .map(|row| row.map_err(invalid))
            .collect()
    }

    /// Reads a file in TOML.
    ///
    /// # Errors
    /// Returns an error with its line and column if the text is not TOML, or does not have the
    /// fields of `T`.
    #[cfg(feature = "toml")]
    pub fn toml<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let (line, column) = before.map(position).unzip();
            self.error(line, column, error.message())
        })
    }
}

/// Returns the line and the column after `before`.
#[cfg(feature = "toml")]
fn position(before: &str) -> (u32, u32) {
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (number(line), number(column))
}
