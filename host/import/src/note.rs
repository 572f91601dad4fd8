//! The lines of the report.

use std::fmt;

/// The kind of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// The prompt is converted, and something in it has another form or name.
    Changed,
    /// The prompt is converted without a part of it.
    LeftOut,
    /// The prompt is not converted.
    Skipped,
}

/// A change or a loss of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The path of the source.
    pub file: String,
    /// The line in the source, starting at 1.
    pub line: Option<usize>,
    /// The name of the prompt, as in the prompt file; of a skipped one, as in its source.
    pub prompt: Option<String>,
    /// The kind.
    pub kind: NoteKind,
    /// The message, without file, line and prompt.
    pub message: String,
}

impl Note {
    /// Returns true if the prompt is not converted.
    pub fn is_skipped(&self) -> bool {
        self.kind == NoteKind::Skipped
    }
}

/// `FILE:LINE: PROMPT: MESSAGE`, and `FILE:LINE: PROMPT skipped: MESSAGE`. Control characters
/// are escaped, so that a note is a single line and cannot change the terminal.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_visible(f, &self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        match (&self.prompt, self.is_skipped()) {
            (Some(prompt), true) => {
                write_visible(f, prompt)?;
                f.write_str(" skipped: ")?;
            }
            (Some(prompt), false) => {
                write_visible(f, prompt)?;
                f.write_str(": ")?;
            }
            (None, true) => f.write_str("skipped: ")?,
            (None, false) => {}
        }
        write_visible(f, &self.message)
    }
}

fn write_visible(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c.is_control() {
        true => write!(f, "{}", c.escape_debug()),
        false => write!(f, "{c}"),
    })
}
