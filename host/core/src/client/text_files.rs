//! Texts from files and stdin.

use std::io::Read;
use std::path::Path;

use fs_err as fs;
use lmstrix_sandbox::TextFile;

use crate::error::Error;

/// Reads a whole UTF-8 file.
///
/// # Errors
/// Returns an error if the file cannot be read, is too large or is not UTF-8.
pub fn read_text_file(path: &Path) -> Result<TextFile, Error> {
    let file = fs::File::open(path).map_err(|error| Error::usage(error.to_string()))?;
    let bytes = read_limited(file, &path.display().to_string())?;
    Ok(TextFile {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        display_path: path.display().to_string(),
        text: utf8(bytes, &path.display().to_string())?,
    })
}

/// The most bytes that are read from one file or from stdin: more than any model
/// takes, while a device such as /dev/zero never ends.
const TEXT_BYTES_MAX: u64 = 16 << 20;

fn read_limited(from: impl Read, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    from.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::usage(format!("cannot read {what}: {error}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Error::usage(format!(
            "{what} is larger than 16 MiB, the limit for one text"
        )));
    }
    Ok(bytes)
}

/// Returns the bytes as text, without a byte order mark at the start.
///
/// # Errors
/// Returns an error with the offset of the first invalid byte.
fn utf8(bytes: Vec<u8>, what: &str) -> Result<String, Error> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Error::usage(format!(
            "{what} is not UTF-8: invalid byte at offset {offset}"
        ))
        .hint("convert it with `iconv -f ENCODING -t UTF-8`")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// Reads all of stdin.
///
/// # Errors
/// Returns an error if stdin cannot be read, is too large or is not UTF-8.
pub fn stdin_text() -> Result<String, Error> {
    let bytes = read_limited(std::io::stdin().lock(), "stdin")?;
    utf8(bytes, "stdin")
}

/// Reads stdin for a prompt that lacks its text; returns `None` unless stdin is a pipe
/// or a file.
///
/// # Errors
/// Returns an error if stdin cannot be read or is empty.
pub(super) fn read_stdin(has_text: bool) -> Result<Option<String>, String> {
    if !has_text {
        return Ok(None);
    }
    let text = stdin_text().map_err(|failure| {
        std::iter::once(failure.message)
            .chain(failure.hints)
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(Some(text))
}

/// Returns the text of the file for `@FILE`, and `@…` for `@@…`.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn at_file(value: &str) -> Result<String, Error> {
    match value.strip_prefix('@') {
        None => Ok(value.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some(path) => match read_text_file(Path::new(path)) {
            Ok(file) => Ok(file.text),
            Err(failure) => Err(failure.hint("write @@ for a value that begins with a literal @")),
        },
    }
}

/// Parses a JSON schema, or the file of `@FILE`.
///
/// # Errors
/// Returns an error if the file cannot be read or the text is not JSON.
pub fn parse_json_schema(given: &str) -> Result<String, Error> {
    let schema = at_file(given)?;
    match serde_json::from_str::<serde_json::Value>(&schema) {
        Ok(_) => Ok(schema),
        Err(error) => Err(Error::usage(format!(
            "the JSON schema is not JSON: {error}"
        ))),
    }
}
