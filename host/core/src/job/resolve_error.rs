//! The errors of resolving a prompt.

use lmstrix_inference::InvalidSetting;
use lmstrix_sandbox::{ContractError, TextFile};

use super::placement::PlacementError;
use crate::source_snippet::{Position, source_snippet};

/// An error while a prompt is resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A pack is missing or failed.
    #[error(transparent)]
    Pack(#[from] lmstrix_sandbox::Error),
    /// A prompt file is invalid.
    #[error("{at}: {message}{}", Snippet(snippet))]
    File {
        /// `file:line:column`, as far as known.
        at: String,
        /// The problem.
        message: String,
        /// The line and a caret, or nothing.
        snippet: String,
    },
    /// Options that exclude each other, or too many processors.
    #[error("{0}")]
    Usage(String),
    /// The attachments cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A setting of the prompt is out of range.
    #[error("the prompt's settings: {0}")]
    Setting(InvalidSetting),
    /// Neither the resolving pack nor the standard pack has a processor of this name.
    #[error("no processor `{name}` in pack `{pack}` or the standard pack")]
    UnknownProcessor {
        /// The name.
        name: String,
        /// The pack that resolved the prompt.
        pack: String,
        /// Processors with similar names, or those of a pack of this name.
        similar: Vec<String>,
    },
    /// Stdin cannot be read.
    #[error("cannot read the text from stdin: {0}")]
    Stdin(String),
}

struct Snippet<'a>(&'a str);

impl std::fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.0)
        }
    }
}

/// Adds path and line to a pack's error about a file: a pack knows bare names only.
pub(super) fn locate(error: lmstrix_sandbox::Error, files: &[TextFile]) -> ResolveError {
    let lmstrix_sandbox::Error::Contract {
        error:
            ContractError::InvalidFile {
                file,
                line,
                column,
                message,
            },
        ..
    } = &error
    else {
        return error.into();
    };
    let known = files.iter().find(|known| known.name == *file);
    let mut at = known.map_or(file, |known| &known.display_path).clone();
    let mut snippet = String::new();
    if let Some(line) = line {
        at += &format!(":{line}");
        if let Some(column) = column {
            at += &format!(":{column}");
        }
        if let Some(known) = known {
            let position = Position {
                line: *line as usize,
                column: column.unwrap_or(1) as usize,
            };
            snippet = source_snippet(&known.text, position);
        }
    }
    ResolveError::File {
        at,
        message: message.clone(),
        snippet,
    }
}
