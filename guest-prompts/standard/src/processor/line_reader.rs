//! Reads a stream by lines and finds marker lines. Text of a line that cannot be a marker is
//! passed on before the line is complete.

/// The maximum length of a marker line in bytes. It bounds the text that is held back, and
/// the work of classifying the beginning of a line again with each chunk.
const MAX_MARKER_BYTES: usize = 4096;

/// The kind of a line, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// The line may still become a marker. Not allowed for a complete line.
    Undecided,
    /// The line is not a marker, whatever follows.
    Text,
    /// The line is a marker. An incomplete line may be one only if nothing is read after it.
    Marker,
}

/// A part of the stream: text or a marker line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinePart {
    /// Text of a line that is not a marker. `at_line_start` is true for the first part of
    /// the line.
    Text { text: String, at_line_start: bool },
    /// A complete marker line, including its newline.
    Marker(String),
}

/// Splits a stream into text and marker lines.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    /// The beginning of the current line, while it is undecided.
    held: String,
    /// True if the current line is text, so that the rest of it is passed on.
    in_text_line: bool,
}

impl LineReader {
    /// Processes the next segment, which contains a newline only at its end. `classify`
    /// receives the line so far without its newline, and true if the line is complete.
    pub(super) fn push(
        &mut self,
        segment: &str,
        classify: impl FnOnce(&str, bool) -> LineKind,
    ) -> Option<LinePart> {
        let complete = segment.ends_with('\n');
        if self.in_text_line {
            self.in_text_line = !complete;
            let text = segment.to_owned();
            return Some(LinePart::Text {
                text,
                at_line_start: false,
            });
        }
        self.held.push_str(segment);
        self.decide(complete, classify)
    }

    /// Ends the stream. Returns the last line if it has no newline.
    pub(super) fn finish(
        &mut self,
        classify: impl FnOnce(&str, bool) -> LineKind,
    ) -> Option<LinePart> {
        if self.held.is_empty() {
            return None;
        }
        self.decide(true, classify)
    }

    fn decide(
        &mut self,
        complete: bool,
        classify: impl FnOnce(&str, bool) -> LineKind,
    ) -> Option<LinePart> {
        let line = self.held.strip_suffix('\n').unwrap_or(&self.held);
        let kind = if line.len() <= MAX_MARKER_BYTES {
            classify(line, complete)
        } else {
            // Classify as much of the line as would have been held back if it had arrived
            // one character at a time, so that the result does not depend on the chunks.
            match classify(&line[..line.floor_char_boundary(MAX_MARKER_BYTES)], false) {
                LineKind::Marker => LineKind::Marker,
                LineKind::Undecided | LineKind::Text => LineKind::Text,
            }
        };
        match kind {
            LineKind::Undecided => None,
            LineKind::Marker => Some(LinePart::Marker(std::mem::take(&mut self.held))),
            LineKind::Text => {
                self.in_text_line = !complete;
                let text = std::mem::take(&mut self.held);
                Some(LinePart::Text {
                    text,
                    at_line_start: true,
                })
            }
        }
    }
}
