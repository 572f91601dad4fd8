//! The `reasoning` processor: removes spans of reasoning from the answer.
//!
//! The engine already separates a span with a common tag at the start of the answer. This
//! processor also removes later spans, and spans with other tags.

use super::tag::check_tag_name;
use lmstrix_pack::{Error, Outcome, Processor, Pushed, ScanResult, Stop, find_first};

use super::{MAX_NEEDLE_BYTES, OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "reasoning",
    summary: "removes spans of reasoning, such as <think>…</think>",
    options: &[
        OptionInfo::new("names", "tags of reasoning spans, separated by spaces")
            .with_default("think thinking reasoning thought"),
        OptionInfo::new("start", "another text that starts a span, such as [THINK]"),
        OptionInfo::new("end", "the text that ends it, such as [/THINK]"),
        OptionInfo::new("open", "the answer starts inside a span").with_default("false"),
    ],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let mut openings = Vec::new();
    let mut closings = Vec::new();
    let names = options.text("names").unwrap_or_default();
    for name in names.split_whitespace() {
        check_tag_name(options, "names", name)?;
        openings.push(format!("<{name}>"));
        closings.push(format!("</{name}>"));
    }
    match (options.text("start"), options.text("end")) {
        (None, None) => {}
        (Some(start), Some(end)) => {
            for (name, text) in [("start", start), ("end", end)] {
                if text.is_empty() || text.len() > MAX_NEEDLE_BYTES {
                    let message = format!("must have 1 to {MAX_NEEDLE_BYTES} bytes");
                    return Err(options.invalid_option(name, &message));
                }
            }
            openings.push(start.to_owned());
            closings.push(end.to_owned());
        }
        (None, Some(_)) => {
            return Err(options.invalid_option("start", "required if `end` is set"));
        }
        (Some(_), None) => {
            return Err(options.invalid_option("end", "required if `start` is set"));
        }
    }
    if openings.is_empty() {
        return Err(options.invalid_option("names", "set `names`, or `start` and `end`"));
    }
    let open = options.flag("open")?;
    Ok(Box::new(Reasoning {
        needles: openings.iter().chain(&closings).cloned().collect(),
        closings,
        span: open.then_some(OpenSpan::FromTemplate),
        pending: String::new(),
        out: OutputText::default(),
        span_text: String::new(),
        unmatched_closing: None,
    }))
}

/// A span that is not closed yet.
#[derive(Clone, Copy)]
enum OpenSpan {
    /// The span was opened by the chat template. Any closing tag ends it.
    FromTemplate,
    /// The span was opened by the tag of this index.
    Tag(usize),
}

struct Reasoning {
    /// All opening tags, then all closing tags in the same order.
    needles: Vec<String>,
    closings: Vec<String>,
    span: Option<OpenSpan>,
    /// Text that may be the beginning of a tag.
    pending: String,
    out: OutputText,
    /// The text of the span so far, if it may have to be output after all.
    span_text: String,
    /// The first closing tag without an opening tag.
    unmatched_closing: Option<String>,
}

impl Reasoning {
    /// Processes the text up to and including the next tag. Returns the number of bytes that
    /// are decided, and true if further tags may follow.
    fn process_next(&mut self, rest: &str, text: &mut String) -> (usize, bool) {
        let needles = match self.span {
            None => self.needles.as_slice(),
            Some(OpenSpan::FromTemplate) => self.closings.as_slice(),
            Some(OpenSpan::Tag(index)) => std::slice::from_ref(&self.closings[index]),
        };
        let result = find_first(rest, needles);
        let (ScanResult::Partial(start) | ScanResult::Found { start, .. }) = result;
        match self.span {
            None => self.out.push(&rest[..start], text),
            Some(OpenSpan::Tag(_)) if !self.out.started => {}
            Some(_) => self.span_text.push_str(&rest[..start]),
        }
        let ScanResult::Found { end, index, .. } = result else {
            return (start, false);
        };
        let needle = &rest[start..end];
        match self.span {
            None if index < self.closings.len() => {
                self.span = Some(OpenSpan::Tag(index));
                self.span_text.push_str(needle);
                self.out.begin_span();
            }
            None => {
                self.out.push(needle, text);
                self.unmatched_closing
                    .get_or_insert_with(|| needle.to_owned());
            }
            Some(_) => {
                self.span = None;
                self.span_text = String::new();
                self.out.end_span();
            }
        }
        (end, true)
    }
}

impl Processor for Reasoning {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.push_str(chunk);
        let mut text = String::new();
        let mut settled = 0;
        loop {
            let (length, more) = self.process_next(&pending[settled..], &mut text);
            settled += length;
            if !more {
                break;
            }
        }
        pending.drain(..settled);
        self.pending = pending;
        Ok(Pushed { text, done: false })
    }

    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error> {
        let mut warnings = Vec::new();
        let mut tail = String::new();
        let pending = std::mem::take(&mut self.pending);
        match self.span {
            None => {
                self.out.push(&pending, &mut tail);
                tail.push_str(&self.out.leading_whitespace);
            }
            // The answer was truncated inside the reasoning, so that there is no output.
            Some(OpenSpan::FromTemplate) if !stop.is_complete() => {
                let closings = self.closings.join(" or ");
                warnings.push(format!(
                    "the answer was truncated before {closings}; it is dropped"
                ));
            }
            Some(OpenSpan::FromTemplate) => {
                tail = std::mem::take(&mut self.span_text) + &pending;
                let closings = self.closings.join(" or ");
                warnings.push(format!(
                    "no {closings} in the answer; it is passed through unchanged"
                ));
            }
            Some(OpenSpan::Tag(index)) => {
                let opening = &self.needles[index];
                // In a complete answer, an unclosed tag after other text is probably a
                // mention of the tag.
                if self.out.started && stop.is_complete() {
                    self.out.skip_whitespace = false;
                    tail = std::mem::take(&mut self.span_text) + &pending;
                    warnings.push(format!(
                        "{opening} is not closed in the answer; it is kept as text"
                    ));
                } else {
                    warnings.push(format!(
                        "{opening} is not closed in the answer; the text after it is dropped"
                    ));
                }
            }
        }
        if let Some(closing) = &self.unmatched_closing {
            warnings.push(format!(
                "{closing} has no opening tag; if the answer starts with reasoning, set open=true"
            ));
        }
        Ok(Outcome {
            tail,
            warnings,
            ..Outcome::default()
        })
    }
}

/// The text outside the spans. If a span starts at the beginning of a line, the whitespace
/// after it is removed, and at the start of the answer also the whitespace before it.
#[derive(Default)]
struct OutputText {
    /// True after the first output that is not whitespace.
    started: bool,
    /// Whitespace at the start of the answer.
    leading_whitespace: String,
    /// True if the last output ended with a newline.
    ends_with_newline: bool,
    /// True if whitespace is removed until other text follows.
    skip_whitespace: bool,
}

impl OutputText {
    fn push(&mut self, text: &str, out: &mut String) {
        let text = if self.skip_whitespace {
            text.trim_start()
        } else {
            text
        };
        if text.is_empty() {
            return;
        }
        self.skip_whitespace = false;
        if !self.started {
            if text.trim_start().is_empty() {
                return self.leading_whitespace.push_str(text);
            }
            self.started = true;
            out.push_str(&std::mem::take(&mut self.leading_whitespace));
        }
        self.ends_with_newline = text.ends_with('\n');
        out.push_str(text);
    }

    fn begin_span(&mut self) {
        self.leading_whitespace.clear();
    }

    fn end_span(&mut self) {
        self.skip_whitespace = !self.started || self.ends_with_newline;
    }
}
