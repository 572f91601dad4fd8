//! The notes of a conversion while it runs, and the reason to end it.

use crate::note::NoteKind;

/// The maximum number of notes on a prompt. Further ones are counted.
const MAX_NOTES: usize = 100;

/// The reason why a prompt is not converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) line: Option<usize>,
    pub(crate) reason: String,
}

impl Skip {
    pub(crate) fn new(line: Option<usize>, reason: impl Into<String>) -> Self {
        Self {
            line,
            reason: reason.into(),
        }
    }
}

/// The line, the kind and the message of a note.
pub(crate) type LogEntry = (Option<usize>, NoteKind, String);

/// The notes of a conversion, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    entries: Vec<LogEntry>,
    /// The number of notes beyond the maximum.
    omitted: usize,
}

impl Log {
    pub(crate) fn changed(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.add(line, NoteKind::Changed, message.into());
    }

    pub(crate) fn left_out(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.add(line, NoteKind::LeftOut, message.into());
    }

    /// Adds a note, unless the same one has been added.
    fn add(&mut self, line: Option<usize>, kind: NoteKind, message: String) {
        let entry = (line, kind, message);
        if self.entries.contains(&entry) {
            return;
        }
        match self.entries.len() < MAX_NOTES {
            true => self.entries.push(entry),
            false => self.omitted += 1,
        }
    }

    /// Returns the notes.
    pub(crate) fn into_entries(mut self) -> Vec<LogEntry> {
        if self.omitted > 0 {
            let message = format!("{} further notes are not listed", self.omitted);
            self.entries.push((None, NoteKind::Changed, message));
        }
        self.entries
    }
}
