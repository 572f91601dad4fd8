//! `trim`: without the blanks and empty lines around the text.

use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "trim",
    summary: "removes blanks and empty lines around the text",
    options: &[OptionInfo::new("side", "start, end or both").or("both")],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let (start, end) = match options.text("side") {
        Some("start") => (true, false),
        Some("end") => (false, true),
        Some("both") | None => (true, true),
        Some(other) => {
            let message = format!("must be start, end or both, not `{other}`");
            return Err(options.invalid("side", &message));
        }
    };
    Ok(Box::new(Trim {
        edges: Edges::new(start, end, char::is_whitespace),
    }))
}

struct Trim {
    edges: Edges,
}

impl Processor for Trim {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        Ok(Pushed {
            text: self.edges.push(chunk),
            done: false,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        Ok(Outcome::default())
    }
}

/// Drops certain characters at the edges of a stream.
pub(super) struct Edges {
    /// Still before the first character that is to go out.
    leading: bool,
    trailing: bool,
    dropped: fn(char) -> bool,
    /// Goes out if something else follows.
    held: String,
}

impl Edges {
    pub(super) fn new(start: bool, end: bool, dropped: fn(char) -> bool) -> Self {
        Self {
            leading: start,
            trailing: end,
            dropped,
            held: String::new(),
        }
    }

    /// What can go out now.
    pub(super) fn push(&mut self, chunk: &str) -> String {
        let mut chunk = chunk;
        if self.leading {
            chunk = chunk.trim_start_matches(self.dropped);
            self.leading = chunk.is_empty();
        }
        let kept = match self.trailing {
            true => chunk.trim_end_matches(self.dropped),
            false => chunk,
        };
        let mut text = String::new();
        if !kept.is_empty() {
            text = std::mem::take(&mut self.held);
            text.push_str(kept);
        }
        self.held.push_str(&chunk[kept.len()..]);
        text
    }
}
