//! The `trim` processor: removes whitespace around the text.

use lmstrix_pack::{Error, Outcome, Processor, Pushed, Stop};

use super::{OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "trim",
    summary: "removes whitespace and empty lines around the text",
    options: &[OptionInfo::new("side", "start, end or both").with_default("both")],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let (start, end) = match options.text("side") {
        Some("start") => (true, false),
        Some("end") => (false, true),
        Some("both") | None => (true, true),
        Some(other) => {
            let message = format!("must be start, end or both, not `{other}`");
            return Err(options.invalid_option("side", &message));
        }
    };
    Ok(Box::new(Trim {
        edges: EdgeTrimmer::new(start, end, char::is_whitespace),
    }))
}

struct Trim {
    edges: EdgeTrimmer,
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

/// Removes characters at the start and end of a stream.
pub(super) struct EdgeTrimmer {
    /// True until the first character that is kept, if the start is trimmed.
    at_start: bool,
    trim_end: bool,
    is_trimmed: fn(char) -> bool,
    /// Characters that are output only if other text follows.
    held: String,
}

impl EdgeTrimmer {
    pub(super) fn new(trim_start: bool, trim_end: bool, is_trimmed: fn(char) -> bool) -> Self {
        Self {
            at_start: trim_start,
            trim_end,
            is_trimmed,
            held: String::new(),
        }
    }

    /// Processes the next chunk and returns the output text.
    pub(super) fn push(&mut self, chunk: &str) -> String {
        let mut chunk = chunk;
        if self.at_start {
            chunk = chunk.trim_start_matches(self.is_trimmed);
            self.at_start = chunk.is_empty();
        }
        let kept = match self.trim_end {
            true => chunk.trim_end_matches(self.is_trimmed),
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
