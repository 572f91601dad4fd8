//! The `tag` processor: extracts the content of `<output>`, or of another tag.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::trim::EdgeTrimmer;
use lmstrix_pack::{Error, Outcome, Processor, Pushed, ScanResult, Stop, find_first};

use super::{MAX_NEEDLE_BYTES, OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "tag",
    summary: "extracts the content of the first <output>, or of another tag",
    options: &[
        OptionInfo::new("name", "name of the tag").with_default("output"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let name = options.text("name").unwrap_or_default();
    check_tag_name(options, "name", name)?;
    Ok(Box::new(Tag {
        fallback: Fallback::new(options)?,
        opening: [format!("<{name}>")],
        closing: [format!("</{name}>")],
        state: TagState::Before,
        pending: String::new(),
        edges: EdgeTrimmer::new(true, true, |c| matches!(c, '\n' | '\r')),
    }))
}

/// Validates the name of a tag.
///
/// # Errors
/// Returns an error about `option` if the name is empty, too long, or contains whitespace
/// or one of `<`, `>` and `/`.
pub(super) fn check_tag_name(
    options: &ProcessorOptions<'_>,
    option: &str,
    name: &str,
) -> Result<(), Error> {
    let is_invalid = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '/');
    if name.is_empty() || name.contains(is_invalid) {
        let message = format!("`{name}` is not a tag name; write it without brackets");
        return Err(options.invalid_option(option, &message));
    }
    if name.len() > MAX_NEEDLE_BYTES {
        let message = format!("a tag name must have at most {MAX_NEEDLE_BYTES} bytes");
        return Err(options.invalid_option(option, &message));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum TagState {
    Before,
    Inside,
    After,
}

struct Tag {
    fallback: Fallback,
    opening: [String; 1],
    closing: [String; 1],
    state: TagState,
    /// Text that may be the beginning of a tag.
    pending: String,
    /// Removes the line breaks directly inside the tags.
    edges: EdgeTrimmer,
}

impl Processor for Tag {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        self.pending.push_str(chunk);
        if self.state == TagState::Before {
            match find_first(&self.pending, &self.opening) {
                ScanResult::Found { end, .. } => {
                    self.fallback.clear();
                    self.pending.drain(..end);
                    self.state = TagState::Inside;
                }
                ScanResult::Partial(start) => {
                    self.fallback.hold(&self.pending[..start]);
                    self.pending.drain(..start);
                    return Ok(Pushed::default());
                }
            }
        }
        let (end, closed) = match find_first(&self.pending, &self.closing) {
            ScanResult::Found { start, .. } => (start, true),
            ScanResult::Partial(start) => (start, false),
        };
        let text = self.edges.push(&self.pending[..end]);
        self.pending.drain(..end);
        if closed {
            self.state = TagState::After;
        }
        Ok(Pushed { text, done: closed })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let pending = std::mem::take(&mut self.pending);
        let [opening] = &self.opening;
        match self.state {
            TagState::After => Ok(Outcome::default()),
            TagState::Before => {
                self.fallback.hold(&pending);
                self.fallback.finish(&format!("no {opening}"))
            }
            TagState::Inside => Ok(Outcome::tail(self.edges.push(&pending))
                .warning(format!("{opening} is not closed in the answer"))),
        }
    }
}
