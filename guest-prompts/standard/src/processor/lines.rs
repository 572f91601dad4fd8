//! The `lines` processor: extracts the lines between two marker lines.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::line_reader::{LineKind, LinePart, LineReader};
use lmstrix_pack::{Error, Outcome, Processor, Pushed, Stop};

use super::{OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "lines",
    summary: "extracts the lines between two marker lines",
    options: &[
        OptionInfo::new(
            "start",
            "marker line before the text; if not set, from the beginning",
        ),
        OptionInfo::new("end", "marker line after the text; if not set, to the end"),
        OptionInfo::new(
            "match",
            "exact: the marker is the whole line; prefix: the line starts with it",
        )
        .with_default("exact"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let match_prefix = match options.text("match") {
        Some("exact") | None => false,
        Some("prefix") => true,
        Some(other) => {
            let message = format!("must be exact or prefix, not `{other}`");
            return Err(options.invalid_option("match", &message));
        }
    };
    let marker = |name| match options.text(name).map(str::trim) {
        Some("") if match_prefix => {
            Err(options.invalid_option(name, "must not be empty with match=prefix"))
        }
        text => Ok(text.map(|text| MarkerLine {
            text: text.to_owned(),
            match_prefix,
        })),
    };
    let (start, end) = (marker("start")?, marker("end")?);
    if start.is_none() && end.is_none() {
        return Err(options.invalid_option("start", "set `start`, `end` or both"));
    }
    Ok(Box::new(Lines {
        fallback: Fallback::new(options)?,
        state: if start.is_some() {
            LinesState::BeforeStart
        } else {
            LinesState::Between
        },
        start,
        end,
        reader: LineReader::default(),
    }))
}

/// A marker line to find. Whitespace around it is ignored.
struct MarkerLine {
    text: String,
    match_prefix: bool,
}

impl MarkerLine {
    /// Classifies a line. If `last` is true, no marker follows, so that the rest of a
    /// prefix match does not matter.
    fn classify(&self, line: &str, complete: bool, last: bool) -> LineKind {
        let line = line.trim_start();
        let marker = self.text.as_str();
        let matches = match line.strip_prefix(marker) {
            Some(rest) => self.match_prefix || rest.trim_end().is_empty(),
            None => false,
        };
        match (matches, complete) {
            (true, true) => LineKind::Marker,
            (true, false) if self.match_prefix && last => LineKind::Marker,
            (true, false) => LineKind::Undecided,
            (false, false) if marker.starts_with(line) => LineKind::Undecided,
            (false, _) => LineKind::Text,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum LinesState {
    BeforeStart,
    Between,
    AfterEnd,
}

struct Lines {
    fallback: Fallback,
    state: LinesState,
    start: Option<MarkerLine>,
    end: Option<MarkerLine>,
    reader: LineReader,
}

impl Lines {
    fn current_marker(&self) -> Option<&MarkerLine> {
        match self.state {
            LinesState::BeforeStart => self.start.as_ref(),
            LinesState::Between | LinesState::AfterEnd => self.end.as_ref(),
        }
    }

    /// Processes one segment of a line, or the end of the stream.
    fn advance(&mut self, segment: Option<&str>, out: &mut String) {
        let mut reader = std::mem::take(&mut self.reader);
        let last = self.state != LinesState::BeforeStart;
        let judge = |line: &str, complete| match self.current_marker() {
            Some(marker) => marker.classify(line, complete, last),
            None => LineKind::Text,
        };
        let part = match segment {
            Some(segment) => reader.push(segment, judge),
            None => reader.finish(judge),
        };
        self.reader = reader;
        match (part, self.state) {
            (Some(LinePart::Text { text, .. }), LinesState::BeforeStart) => {
                self.fallback.hold(&text)
            }
            (Some(LinePart::Text { text, .. }), LinesState::Between) => out.push_str(&text),
            (Some(LinePart::Marker(_)), LinesState::BeforeStart) => {
                self.fallback.clear();
                self.state = LinesState::Between;
            }
            (Some(LinePart::Marker(_)), LinesState::Between) => self.state = LinesState::AfterEnd,
            (_, LinesState::AfterEnd) | (None, _) => {}
        }
    }
}

impl Processor for Lines {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut text = String::new();
        for segment in chunk.split_inclusive('\n') {
            self.advance(Some(segment), &mut text);
            if self.state == LinesState::AfterEnd {
                break;
            }
        }
        Ok(Pushed {
            text,
            done: self.state == LinesState::AfterEnd,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let mut tail = String::new();
        self.advance(None, &mut tail);
        let missing = self
            .current_marker()
            .map(|marker| format!("no line `{}`", marker.text));
        match (self.state, missing) {
            (LinesState::BeforeStart, Some(missing)) => self.fallback.finish(&missing),
            // Only an end marker is set, so that it counts as the match.
            (LinesState::Between, Some(missing)) if self.start.is_none() => {
                let outcome = self.fallback.finish(&missing)?;
                Ok(Outcome { tail, ..outcome })
            }
            (LinesState::Between, Some(missing)) => {
                let warning = format!("{missing} in the answer after the first marker");
                Ok(Outcome::tail(tail).warning(warning))
            }
            _ => Ok(Outcome::tail(tail)),
        }
    }
}
