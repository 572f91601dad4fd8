//! The `fence` processor: extracts fenced code blocks of Markdown.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::line_reader::{LineKind, LinePart, LineReader};
use lmstrix_pack::{Error, Outcome, Processor, Pushed, Stop};

use super::{OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "fence",
    summary: "extracts the first fenced code block, or all of them",
    options: &[
        OptionInfo::new(
            "lang",
            "only blocks in this language, or one of several (`rust|rs`)",
        ),
        OptionInfo::new("all", "extract all blocks, separated by empty lines")
            .with_default("false"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let names = options.text("lang").unwrap_or_default().split('|');
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    Ok(Box::new(Fence {
        fallback: Fallback::new(options)?,
        languages: names.filter(|name| !name.is_empty()).collect(),
        all: options.flag("all")?,
        reader: LineReader::default(),
        block: None,
        selected_blocks: 0,
        done: false,
    }))
}

struct Fence {
    fallback: Fallback,
    /// The accepted languages. If empty, all blocks are accepted, with or without a language.
    languages: Vec<String>,
    all: bool,
    reader: LineReader,
    /// The block that is currently open.
    block: Option<OpenBlock>,
    /// The number of selected blocks so far.
    selected_blocks: usize,
    done: bool,
}

/// The properties of a block, from its opening line.
#[derive(Clone, Copy)]
struct OpenBlock {
    fence_char: char,
    fence_length: usize,
    indent: usize,
    selected: bool,
}

impl Fence {
    fn advance(&mut self, segment: Option<&str>, out: &mut String) {
        let block = self.block;
        let classify = |line: &str, complete| match block {
            Some(block) => classify_closing(line, complete, block),
            None => classify_opening(line, complete),
        };
        let part = match segment {
            Some(segment) => self.reader.push(segment, classify),
            None => self.reader.finish(classify),
        };
        match part {
            None => {}
            Some(LinePart::Text {
                text,
                at_line_start,
            }) => {
                self.hold(&text);
                if let Some(block) = self.block.filter(|block| block.selected) {
                    let indent = if at_line_start { block.indent } else { 0 };
                    out.push_str(without_indent(&text, indent));
                }
            }
            Some(LinePart::Marker(line)) => match self.block.take() {
                None => self.open_block(&line, out),
                Some(block) if block.selected => self.done = !self.all,
                Some(_) => self.hold(&line),
            },
        }
    }

    fn open_block(&mut self, line: &str, out: &mut String) {
        let (indent, fence_char, fence_length, info) = parse_opening(line);
        let language = info.trim().split([' ', '\t', ',', '{', ':']).next();
        let language = language.unwrap_or_default().to_ascii_lowercase();
        let selected = self.languages.is_empty() || self.languages.contains(&language);
        self.block = Some(OpenBlock {
            fence_char,
            fence_length,
            indent,
            selected,
        });
        if !selected {
            return self.hold(line);
        }
        self.fallback.clear();
        if self.selected_blocks > 0 {
            out.push('\n');
        }
        self.selected_blocks += 1;
    }

    /// Keeps a line for the case that no block is selected. This includes the fences of
    /// other blocks.
    fn hold(&mut self, line: &str) {
        if self.selected_blocks == 0 {
            self.fallback.hold(line);
        }
    }
}

impl Processor for Fence {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut text = String::new();
        for segment in chunk.split_inclusive('\n') {
            self.advance(Some(segment), &mut text);
            if self.done {
                break;
            }
        }
        Ok(Pushed {
            text,
            done: self.done,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        let mut tail = String::new();
        if !self.done {
            self.advance(None, &mut tail);
        }
        if self.selected_blocks == 0 {
            return self.fallback.finish(&self.no_match_message());
        }
        let outcome = Outcome::tail(tail);
        let unclosed = self.block.is_some_and(|block| block.selected);
        Ok(match unclosed {
            true => outcome.warning("the code block is not closed in the answer"),
            false => outcome,
        })
    }
}

impl Fence {
    fn no_match_message(&self) -> String {
        match self.languages.is_empty() {
            true => "no code block".to_owned(),
            false => format!("no code block in language {}", self.languages.join(" or ")),
        }
    }
}

const INDENT_CHARS: [char; 2] = [' ', '\t'];

/// Returns the indent, the fence character, the length of the fence and the info string.
/// Any indent is accepted, because models indent code blocks in lists by varying widths.
fn parse_opening(line: &str) -> (usize, char, usize, &str) {
    let unindented = line.trim_start_matches(INDENT_CHARS);
    let fence_char = if unindented.starts_with('~') {
        '~'
    } else {
        '`'
    };
    let info = unindented.trim_start_matches(fence_char);
    (
        line.len() - unindented.len(),
        fence_char,
        unindented.len() - info.len(),
        info,
    )
}

fn classify_opening(line: &str, complete: bool) -> LineKind {
    let (_, fence_char, fence_length, info) = parse_opening(line);
    // A backtick in the info string means inline code in a line of text.
    let excluded =
        (fence_length < 3 && !info.is_empty()) || (fence_char == '`' && info.contains('`'));
    match (excluded, complete) {
        (true, _) => LineKind::Text,
        (false, false) => LineKind::Undecided,
        (false, true) if fence_length >= 3 => LineKind::Marker,
        (false, true) => LineKind::Text,
    }
}

fn classify_closing(line: &str, complete: bool, block: OpenBlock) -> LineKind {
    let unindented = line.trim_start_matches(INDENT_CHARS);
    let rest = unindented.trim_start_matches(block.fence_char);
    let length = unindented.len() - rest.len();
    let possible = rest.trim().is_empty() && (rest.is_empty() || length >= block.fence_length);
    match (possible, complete) {
        (false, _) => LineKind::Text,
        (true, false) => LineKind::Undecided,
        (true, true) if length >= block.fence_length => LineKind::Marker,
        (true, true) => LineKind::Text,
    }
}

/// Removes up to `indent` bytes of indentation from a line.
fn without_indent(line: &str, indent: usize) -> &str {
    let line_indent = line.len() - line.trim_start_matches(INDENT_CHARS).len();
    &line[line_indent.min(indent)..]
}
