//! Reading a stream by lines, without waiting for the end of a line that cannot
//! be the one looked for.

/// A longer line is no marker. This bounds what is held back, and the work of
/// looking at the same beginning again and again.
const MARKER_BYTES_MAX: usize = 4096;

/// What the line so far is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may still become a marker. Not allowed for a complete line.
    Open,
    /// It is not a marker, whatever follows.
    Text,
    /// It is a marker. For a line that is not complete only when nothing is
    /// read after it.
    Marker,
}

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text of a line that is no marker; `starts` when it begins the line.
    Text { text: String, starts: bool },
    /// A whole marker line, with its line end.
    Marker(String),
}

/// The beginning of a line that is not decided yet.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    held: String,
    /// The current line is text; its rest goes through.
    passing: bool,
}

impl LineReader {
    /// Takes the next segment, which has a line end at most at its end. `judge`
    /// sees the line so far without its line end, and whether it is complete.
    pub(super) fn take(
        &mut self,
        segment: &str,
        judge: impl FnOnce(&str, bool) -> Verdict,
    ) -> Option<Part> {
        let complete = segment.ends_with('\n');
        if self.passing {
            self.passing = !complete;
            let text = segment.to_owned();
            return Some(Part::Text {
                text,
                starts: false,
            });
        }
        self.held.push_str(segment);
        self.decide(complete, judge)
    }

    /// The last line, when it has no line end.
    pub(super) fn finish(&mut self, judge: impl FnOnce(&str, bool) -> Verdict) -> Option<Part> {
        if self.held.is_empty() {
            return None;
        }
        self.decide(true, judge)
    }

    fn decide(
        &mut self,
        complete: bool,
        judge: impl FnOnce(&str, bool) -> Verdict,
    ) -> Option<Part> {
        let line = self.held.strip_suffix('\n').unwrap_or(&self.held);
        let verdict = if line.len() <= MARKER_BYTES_MAX {
            judge(line, complete)
        } else {
            // As if it had come letter by letter: decided early, or text.
            match judge(&line[..line.floor_char_boundary(MARKER_BYTES_MAX)], false) {
                Verdict::Marker => Verdict::Marker,
                Verdict::Open | Verdict::Text => Verdict::Text,
            }
        };
        match verdict {
            Verdict::Open => None,
            Verdict::Marker => Some(Part::Marker(std::mem::take(&mut self.held))),
            Verdict::Text => {
                self.passing = !complete;
                let text = std::mem::take(&mut self.held);
                Some(Part::Text { text, starts: true })
            }
        }
    }
}
