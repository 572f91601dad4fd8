//! `json`: passes JSON on and rejects everything else, at the first character
//! that cannot be JSON.
//!
//! An object or array is complete at its last bracket: what a model says after
//! it is not waited for. After any other value only blanks may follow.

mod grammar;

use grammar::{Grammar, Step};

use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "json",
    summary: "rejects what is not JSON; optionally writes it anew",
    options: &[OptionInfo::new(
        "indent",
        "blanks per level, 0 for one line; without it, as the model wrote it",
    )],
    open,
};

/// The widest indent on offer.
const INDENT_MAX: usize = 8;

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    Ok(Box::new(Json::new(options.number("indent", INDENT_MAX)?)))
}

/// Whether a text is JSON and nothing else; if not, what is wrong.
pub fn check(text: &str) -> Result<(), String> {
    let mut json = Json::new(None);
    let mut out = String::new();
    let mut chars = text.trim_end_matches([' ', '\t', '\n', '\r']).chars();
    while let Some(c) = chars.next() {
        if json.take(c, &mut out)? {
            for next in chars.by_ref() {
                json.column += 1;
                match next {
                    '\n' => (json.line, json.column) = (json.line + 1, 0),
                    ' ' | '\t' | '\r' => {}
                    other => return Err(json.wrong("the end", other)),
                }
            }
        }
        out.clear();
    }
    json.end()
}

struct Json {
    grammar: Grammar,
    indent: Option<usize>,
    line: usize,
    column: usize,
    /// An element of an array or object comes next.
    element_next: bool,
}

impl Json {
    fn new(indent: Option<usize>) -> Self {
        Self {
            grammar: Grammar::default(),
            indent,
            line: 1,
            column: 0,
            element_next: false,
        }
    }

    /// Takes a character and writes what it leads to; `true` at the end of the
    /// JSON.
    fn take(&mut self, c: char, out: &mut String) -> Result<bool, String> {
        self.column += 1;
        let step = self.grammar.take(c);
        match step {
            Step::Wrong(expected) => return Err(self.wrong(expected, c)),
            Step::Outside => {}
            _ => self.write(c, step, out),
        }
        self.element_next =
            matches!(step, Step::Open | Step::Comma) || (self.element_next && step == Step::Blank);
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        }
        Ok(self.grammar.closed())
    }

    fn write(&self, c: char, step: Step, out: &mut String) {
        let Some(indent) = self.indent else {
            return out.push(c);
        };
        let depth = self.grammar.depth();
        let begins_line = match step {
            Step::Begin | Step::Open => self.element_next,
            Step::Close { empty } => !empty,
            _ => false,
        };
        if begins_line && indent > 0 {
            // The bracket that opens a level stands on the level outside it.
            let level = depth - usize::from(step == Step::Open);
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
        match step {
            Step::Blank => {}
            Step::Colon if indent > 0 => out.push_str(": "),
            _ => out.push(c),
        }
    }

    fn end(&self) -> Result<(), String> {
        match self.grammar.complete() {
            Ok(()) => Ok(()),
            Err(expected) => Err(format!("not JSON: it ends where {expected} is expected")),
        }
    }

    fn wrong(&self, expected: &str, found: char) -> String {
        let (line, column) = (self.line, self.column);
        let found = found.escape_debug();
        format!("not JSON: line {line}, column {column}: `{found}` where {expected} is expected")
    }
}

impl Processor for Json {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut text = String::with_capacity(chunk.len());
        for c in chunk.chars() {
            if self.take(c, &mut text).map_err(Error::Rejected)? {
                return Ok(Pushed { text, done: true });
            }
        }
        Ok(Pushed { text, done: false })
    }

    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error> {
        match self.end() {
            Ok(()) => Ok(Outcome::default()),
            Err(message) if stop == Stop::Cut => {
                Err(Error::Rejected(format!("{message}; the answer was cut")))
            }
            Err(message) => Err(Error::Rejected(message)),
        }
    }
}
