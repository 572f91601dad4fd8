//! Texts from files and stdin.

use std::collections::HashMap;
use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use fs_err as fs;
use lmstrix_sandbox::TextFile;

use super::notices::Notices;
use crate::attachment::image_hint;
use crate::error::Error;
use crate::text_encoding::decode_text;

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
        text: decode(bytes, &path.display().to_string())
            .map_err(|error| match image_hint(path) {
                Some(hint) => Error {
                    hints: vec![hint.to_owned()],
                    ..error
                },
                None => error,
            })?
            .into(),
    })
}

/// Text files that were read, so that the prompts of a plan share them.
#[derive(Debug, Default)]
pub struct TextFiles(HashMap<PathBuf, TextFile>);

impl TextFiles {
    /// Reads a whole UTF-8 file on the first call.
    ///
    /// # Errors
    /// Returns the errors of [`read_text_file`].
    pub fn read(&mut self, path: &Path) -> Result<TextFile, Error> {
        if let Some(known) = self.0.get(path) {
            return Ok(known.clone());
        }
        let file = read_text_file(path)?;
        self.0.insert(path.to_owned(), file.clone());
        Ok(file)
    }
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

/// Decodes a text.
///
/// # Errors
/// Returns an error with the offset of the first invalid byte.
fn decode(bytes: Vec<u8>, what: &str) -> Result<String, Error> {
    decode_text(bytes).map_err(|offset| {
        Error::usage(format!(
            "{what} is not UTF-8: invalid byte at offset {offset}"
        ))
        .hint("convert it with `iconv -f ENCODING -t UTF-8`")
    })
}

/// Reads all of stdin.
///
/// # Errors
/// Returns an error if stdin cannot be read, is too large or is not UTF-8.
pub fn stdin_text(notices: &Notices) -> Result<String, Error> {
    let mut stdin = std::io::stdin().lock();
    let announcement = announce_wait(notices.clone(), stdin.is_terminal());
    // Waits for the first bytes; an error appears again below.
    let _ready = stdin.fill_buf().is_ok();
    drop(announcement);
    let bytes = read_limited(stdin, "stdin")?;
    decode(bytes, "stdin")
}

/// The time after which a wait for stdin is announced.
const SILENCE: Duration = Duration::from_secs(2);

/// Announces that stdin is being waited for, unless the returned value is dropped soon. A
/// program that was started with an open pipe would otherwise seem to hang.
fn announce_wait(notices: Notices, is_terminal: bool) -> mpsc::Sender<()> {
    let (is_read, wait) = mpsc::channel();
    std::thread::spawn(move || {
        if wait.recv_timeout(SILENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            notices.status(match is_terminal {
                true => "waiting for the text on stdin; end it with Ctrl-D",
                false => "waiting for the text on stdin",
            });
        }
    });
    is_read
}

/// Reads stdin for a prompt that lacks its text; returns `None` unless stdin is a pipe
/// or a file.
///
/// # Errors
/// Returns an error if stdin cannot be read or is empty.
pub(super) fn read_stdin(has_text: bool, notices: &Notices) -> Result<Option<String>, String> {
    if !has_text {
        return Ok(None);
    }
    let text = stdin_text(notices).map_err(|failure| {
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
            Ok(file) => Ok(file.text.to_string()),
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
