//! The `json` processor: passes JSON through, and rejects any other answer at the first
//! invalid character.
//!
//! An object or array is complete at its last bracket; text after it is ignored. After any
//! other value, only whitespace may follow.

mod grammar;

use grammar::{CharRole, Grammar};

use lmstrix_pack::{Error, Outcome, Processor, Pushed, Stop};

use super::{OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "json",
    summary: "rejects an answer that is not JSON; optionally reformats it",
    options: &[OptionInfo::new(
        "indent",
        "spaces per level, 0 for a single line; if not set, the format is unchanged",
    )],
    open,
};

/// The maximum indent per level, in spaces.
const MAX_INDENT: usize = 8;

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    Ok(Box::new(Json::new(options.number("indent", MAX_INDENT)?)))
}

/// Validates a text that must be JSON without other text after it.
///
/// # Errors
/// Returns a message with the position of the first invalid character.
pub fn check_json(text: &str) -> Result<(), String> {
    let mut json = Json::new(None);
    let mut out = String::new();
    let mut chars = text.trim_end_matches([' ', '\t', '\n', '\r']).chars();
    while let Some(c) = chars.next() {
        if json.push_char(c, &mut out)? {
            for next in chars.by_ref() {
                json.column += 1;
                match next {
                    '\n' => (json.line, json.column) = (json.line + 1, 0),
                    ' ' | '\t' | '\r' => {}
                    other => return Err(json.syntax_error("the end of the text", other)),
                }
            }
        }
        out.clear();
    }
    json.check_complete()
}

struct Json {
    grammar: Grammar,
    indent: Option<usize>,
    line: usize,
    column: usize,
    /// True if an element of an array or object follows.
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

    /// Processes one character and appends the output to `out`. Returns true after the last
    /// bracket.
    ///
    /// # Errors
    /// Returns a message if the character is invalid here.
    fn push_char(&mut self, c: char, out: &mut String) -> Result<bool, String> {
        self.column += 1;
        let step = self.grammar.push(c);
        match step {
            CharRole::Unexpected(expected) => return Err(self.syntax_error(expected, c)),
            CharRole::OuterWhitespace => {}
            _ => self.write(c, step, out),
        }
        self.element_next = matches!(step, CharRole::Open | CharRole::Comma)
            || (self.element_next && step == CharRole::Whitespace);
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        }
        Ok(self.grammar.is_closed())
    }

    fn write(&self, c: char, step: CharRole, out: &mut String) {
        let Some(indent) = self.indent else {
            return out.push(c);
        };
        let depth = self.grammar.depth();
        let begins_line = match step {
            CharRole::Begin | CharRole::Open => self.element_next,
            CharRole::Close { empty } => !empty,
            _ => false,
        };
        if begins_line && indent > 0 {
            // An opening bracket is indented by the level outside it.
            let level = depth - usize::from(step == CharRole::Open);
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
        match step {
            CharRole::Whitespace => {}
            CharRole::Colon if indent > 0 => out.push_str(": "),
            _ => out.push(c),
        }
    }

    fn check_complete(&self) -> Result<(), String> {
        match self.grammar.check_complete() {
            Ok(()) => Ok(()),
            Err(expected) => Err(format!("not JSON: unexpected end, expected {expected}")),
        }
    }

    fn syntax_error(&self, expected: &str, found: char) -> String {
        let (line, column) = (self.line, self.column);
        let found = found.escape_debug();
        format!("not JSON: line {line}, column {column}: unexpected `{found}`, expected {expected}")
    }
}

impl Processor for Json {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut text = String::with_capacity(chunk.len());
        for c in chunk.chars() {
            if self.push_char(c, &mut text).map_err(Error::Rejected)? {
                return Ok(Pushed { text, done: true });
            }
        }
        Ok(Pushed { text, done: false })
    }

    fn finish(&mut self, stop: Stop) -> Result<Outcome, Error> {
        match self.check_complete() {
            Ok(()) => Ok(Outcome::default()),
            Err(message) if !stop.is_complete() => Err(Error::Rejected(format!(
                "{message}; the answer was truncated"
            ))),
            Err(message) => Err(Error::Rejected(message)),
        }
    }
}
