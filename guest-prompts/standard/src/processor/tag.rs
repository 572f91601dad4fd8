//! `tag`: what lies inside `<output>`, or inside another tag.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::scan::{NEEDLE_BYTES_MAX, Scan, scan};
use super::trim::Edges;
use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "tag",
    summary: "what lies inside the first <output>, or another tag",
    options: &[
        OptionInfo::new("name", "the tag's name").or("output"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let name = options.text("name").unwrap_or_default();
    check_name(options, "name", name)?;
    Ok(Box::new(Tag {
        fallback: Fallback::new(options)?,
        opening: [format!("<{name}>")],
        closing: [format!("</{name}>")],
        state: State::Before,
        pending: String::new(),
        edges: Edges::new(true, true, |c| matches!(c, '\n' | '\r')),
    }))
}

/// Checks a name that is to stand between angle brackets.
pub(super) fn check_name(options: &Options<'_>, option: &str, name: &str) -> Result<(), Error> {
    let bad = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '/');
    if name.is_empty() || name.contains(bad) {
        let message = format!("`{name}` is not a tag's name; write it without brackets");
        return Err(options.invalid(option, &message));
    }
    if name.len() > NEEDLE_BYTES_MAX {
        return Err(options.invalid(option, "the name is too long"));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Before,
    Inside,
    Closed,
}

struct Tag {
    fallback: Fallback,
    opening: [String; 1],
    closing: [String; 1],
    state: State,
    /// What may still become a tag.
    pending: String,
    /// Line ends directly inside the tags belong to the tags, not to the text.
    edges: Edges,
}

impl Processor for Tag {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        self.pending.push_str(chunk);
        if self.state == State::Before {
            match scan(&self.pending, &self.opening) {
                Scan::Found { end, .. } => {
                    self.fallback.release();
                    self.pending.drain(..end);
                    self.state = State::Inside;
                }
                Scan::Open(start) => {
                    self.fallback.hold(&self.pending[..start]);
                    self.pending.drain(..start);
                    return Ok(Pushed::default());
                }
            }
        }
        let (end, closed) = match scan(&self.pending, &self.closing) {
            Scan::Found { start, .. } => (start, true),
            Scan::Open(start) => (start, false),
        };
        let text = self.edges.push(&self.pending[..end]);
        self.pending.drain(..end);
        if closed {
            self.state = State::Closed;
        }
        Ok(Pushed { text, done: closed })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let pending = std::mem::take(&mut self.pending);
        let [opening] = &self.opening;
        match self.state {
            State::Closed => Ok(Outcome::default()),
            State::Before => {
                self.fallback.hold(&pending);
                self.fallback.outcome(&format!("no {opening}"))
            }
            State::Inside => Ok(Outcome {
                tail: self.edges.push(&pending),
                warnings: vec![format!("{opening} is not closed in the answer")],
            }),
        }
    }
}
