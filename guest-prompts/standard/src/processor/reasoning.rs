//! `reasoning`: the answer without its spans of thinking.
//!
//! One span of the usual names at the very start is the engine's business. Here
//! are those of other names, and those further on.

use super::scan::{NEEDLE_BYTES_MAX, Scan, scan};
use super::tag::check_name;
use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "reasoning",
    summary: "removes spans of thinking, such as <think>…</think>",
    options: &[
        OptionInfo::new("names", "tags that hold thinking, separated by blanks")
            .or("think thinking reasoning thought"),
        OptionInfo::new("start", "another text that begins a span, such as [THINK]"),
        OptionInfo::new("end", "the text that ends it, such as [/THINK]"),
        OptionInfo::new("open", "the answer begins inside a span").or("false"),
    ],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let mut openings = Vec::new();
    let mut closings = Vec::new();
    let names = options.text("names").unwrap_or_default();
    for name in names.split_whitespace() {
        check_name(options, "names", name)?;
        openings.push(format!("<{name}>"));
        closings.push(format!("</{name}>"));
    }
    match (options.text("start"), options.text("end")) {
        (None, None) => {}
        (Some(start), Some(end)) => {
            for (name, text) in [("start", start), ("end", end)] {
                if text.is_empty() || text.len() > NEEDLE_BYTES_MAX {
                    return Err(options.invalid(name, "must not be empty or very long"));
                }
            }
            openings.push(start.to_owned());
            closings.push(end.to_owned());
        }
        (None, Some(_)) => return Err(options.invalid("start", "must be given with end")),
        (Some(_), None) => return Err(options.invalid("end", "must be given with start")),
    }
    if openings.is_empty() {
        return Err(options.invalid("names", "there is nothing to look for"));
    }
    let open = options.flag("open")?;
    Ok(Box::new(Reasoning {
        needles: openings.iter().chain(&closings).cloned().collect(),
        closings,
        span: open.then_some(Span::Open),
        pending: String::new(),
        out: Out::default(),
        span_text: String::new(),
        stray: None,
    }))
}

/// The span that the answer is in.
#[derive(Clone, Copy)]
enum Span {
    /// Begun by the chat template: any closing text ends it.
    Open,
    /// Begun by the needle of this index.
    Begun(usize),
}

struct Reasoning {
    /// All opening texts, then all closing ones in the same order.
    needles: Vec<String>,
    closings: Vec<String>,
    span: Option<Span>,
    /// What may still become a needle.
    pending: String,
    out: Out,
    /// The span so far, where it may turn out to be text.
    span_text: String,
    /// A closing text that closed nothing.
    stray: Option<String>,
}

impl Reasoning {
    /// Handles the text up to and with the next needle. Says how much of it is
    /// settled, and whether there may be more.
    fn step(&mut self, rest: &str, text: &mut String) -> (usize, bool) {
        let needles = match self.span {
            None => self.needles.as_slice(),
            Some(Span::Open) => self.closings.as_slice(),
            Some(Span::Begun(index)) => std::slice::from_ref(&self.closings[index]),
        };
        let found = scan(rest, needles);
        let (Scan::Open(start) | Scan::Found { start, .. }) = found;
        match self.span {
            None => self.out.push(&rest[..start], text),
            Some(Span::Begun(_)) if !self.out.started => {}
            Some(_) => self.span_text.push_str(&rest[..start]),
        }
        let Scan::Found { end, index, .. } = found else {
            return (start, false);
        };
        let needle = &rest[start..end];
        match self.span {
            None if index < self.closings.len() => {
                self.span = Some(Span::Begun(index));
                self.span_text.push_str(needle);
                self.out.span_begins();
            }
            None => {
                self.out.push(needle, text);
                self.stray.get_or_insert_with(|| needle.to_owned());
            }
            Some(_) => {
                self.span = None;
                self.span_text = String::new();
                self.out.span_ends();
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
            let (length, more) = self.step(&pending[settled..], &mut text);
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
                tail.push_str(&self.out.blanks);
            }
            // Cut while it was still thinking: there is no answer yet.
            Some(Span::Open) if stop == Stop::Cut => {
                let ends = self.closings.join(" or ");
                warnings.push(format!("the answer was cut before {ends}: it is left out"));
            }
            Some(Span::Open) => {
                tail = std::mem::take(&mut self.span_text) + &pending;
                let ends = self.closings.join(" or ");
                warnings.push(format!("no {ends} in the answer: it is passed on whole"));
            }
            Some(Span::Begun(index)) => {
                let opening = &self.needles[index];
                // After some text, in an answer that came to its end, it was
                // probably mentioned rather than meant.
                if self.out.started && stop == Stop::Complete {
                    self.out.swallow = false;
                    tail = std::mem::take(&mut self.span_text) + &pending;
                    warnings.push(format!("{opening} is not closed in the answer: it is kept"));
                } else {
                    warnings.push(format!(
                        "{opening} is not closed in the answer: what follows it is left out"
                    ));
                }
            }
        }
        if let Some(stray) = &self.stray {
            warnings.push(format!(
                "{stray} closes nothing; if the answer begins with thinking, set open=true"
            ));
        }
        Ok(Outcome { tail, warnings })
    }
}

/// The text outside the spans. A span on lines of its own takes the blanks
/// after it along, and at the start also those before it.
#[derive(Default)]
struct Out {
    /// Something other than blanks has gone out.
    started: bool,
    /// Blanks at the start.
    blanks: String,
    /// What went out last ended a line.
    line_ended: bool,
    /// Blanks are dropped until something else comes.
    swallow: bool,
}

impl Out {
    fn push(&mut self, text: &str, out: &mut String) {
        let text = if self.swallow {
            text.trim_start()
        } else {
            text
        };
        if text.is_empty() {
            return;
        }
        self.swallow = false;
        if !self.started {
            if text.trim_start().is_empty() {
                return self.blanks.push_str(text);
            }
            self.started = true;
            out.push_str(&std::mem::take(&mut self.blanks));
        }
        self.line_ended = text.ends_with('\n');
        out.push_str(text);
    }

    fn span_begins(&mut self) {
        self.blanks.clear();
    }

    fn span_ends(&mut self) {
        self.swallow = !self.started || self.line_ended;
    }
}
