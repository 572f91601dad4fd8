//! `lines`: the lines between two marker lines.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::line::{LineReader, Part, Verdict};
use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "lines",
    summary: "the lines between two marker lines",
    options: &[
        OptionInfo::new(
            "start",
            "the line before the text; without it, from the beginning",
        ),
        OptionInfo::new("end", "the line after the text; without it, to the end"),
        OptionInfo::new("match", "exact: the whole line; prefix: how it begins").or("exact"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let prefix = match options.text("match") {
        Some("exact") | None => false,
        Some("prefix") => true,
        Some(other) => {
            let message = format!("must be exact or prefix, not `{other}`");
            return Err(options.invalid("match", &message));
        }
    };
    let marker = |name| match options.text(name).map(str::trim) {
        Some("") if prefix => Err(options.invalid(name, "every line begins with nothing")),
        text => Ok(text.map(|text| Marker {
            text: text.to_owned(),
            prefix,
        })),
    };
    let (start, end) = (marker("start")?, marker("end")?);
    if start.is_none() && end.is_none() {
        return Err(options.invalid("start", "give start, end, or both"));
    }
    Ok(Box::new(Lines {
        fallback: Fallback::new(options)?,
        state: if start.is_some() {
            State::Before
        } else {
            State::Inside
        },
        start,
        end,
        reader: LineReader::default(),
    }))
}

/// A line to look for. Blanks around it do not count.
struct Marker {
    text: String,
    prefix: bool,
}

impl Marker {
    /// Judges a line. At the last marker, its rest is of no interest.
    fn judge(&self, line: &str, complete: bool, last: bool) -> Verdict {
        let line = line.trim_start();
        let marker = self.text.as_str();
        let matches = match line.strip_prefix(marker) {
            Some(rest) => self.prefix || rest.trim_end().is_empty(),
            None => false,
        };
        match (matches, complete) {
            (true, true) => Verdict::Marker,
            (true, false) if self.prefix && last => Verdict::Marker,
            (true, false) => Verdict::Open,
            (false, false) if marker.starts_with(line) => Verdict::Open,
            (false, _) => Verdict::Text,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Before,
    Inside,
    Ended,
}

struct Lines {
    fallback: Fallback,
    state: State,
    start: Option<Marker>,
    end: Option<Marker>,
    reader: LineReader,
}

impl Lines {
    fn marker(&self) -> Option<&Marker> {
        match self.state {
            State::Before => self.start.as_ref(),
            State::Inside | State::Ended => self.end.as_ref(),
        }
    }

    /// Takes one segment of a line, or the end of the last line.
    fn advance(&mut self, segment: Option<&str>, out: &mut String) {
        let mut reader = std::mem::take(&mut self.reader);
        let last = self.state != State::Before;
        let judge = |line: &str, complete| match self.marker() {
            Some(marker) => marker.judge(line, complete, last),
            None => Verdict::Text,
        };
        let part = match segment {
            Some(segment) => reader.take(segment, judge),
            None => reader.finish(judge),
        };
        self.reader = reader;
        match (part, self.state) {
            (Some(Part::Text { text, .. }), State::Before) => self.fallback.hold(&text),
            (Some(Part::Text { text, .. }), State::Inside) => out.push_str(&text),
            (Some(Part::Marker(_)), State::Before) => {
                self.fallback.release();
                self.state = State::Inside;
            }
            (Some(Part::Marker(_)), State::Inside) => self.state = State::Ended,
            (_, State::Ended) | (None, _) => {}
        }
    }
}

impl Processor for Lines {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut text = String::new();
        for segment in chunk.split_inclusive('\n') {
            self.advance(Some(segment), &mut text);
            if self.state == State::Ended {
                break;
            }
        }
        Ok(Pushed {
            text,
            done: self.state == State::Ended,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let mut tail = String::new();
        self.advance(None, &mut tail);
        let missing = self
            .marker()
            .map(|marker| format!("no line `{}`", marker.text));
        match (self.state, missing) {
            (State::Before, Some(missing)) => self.fallback.outcome(&missing),
            // Only an end was asked for, so that it is the match.
            (State::Inside, Some(missing)) if self.start.is_none() => {
                let outcome = self.fallback.outcome(&missing)?;
                Ok(Outcome { tail, ..outcome })
            }
            (State::Inside, Some(missing)) => Ok(Outcome {
                tail,
                warnings: vec![format!("{missing} in the answer after the first marker")],
            }),
            _ => Ok(Outcome {
                tail,
                warnings: Vec::new(),
            }),
        }
    }
}
