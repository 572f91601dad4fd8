//! `fence`: what stands in fenced code blocks, as Markdown writes them.

use super::fallback::{Fallback, QUIET, REQUIRED};
use super::line::{LineReader, Part, Verdict};
use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "fence",
    summary: "the first fenced code block, or all of them",
    options: &[
        OptionInfo::new("lang", "only blocks in this language; several as `rust|rs`"),
        OptionInfo::new("all", "all blocks, with an empty line between").or("false"),
        REQUIRED,
        QUIET,
    ],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let names = options.text("lang").unwrap_or_default().split('|');
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    Ok(Box::new(Fence {
        fallback: Fallback::new(options)?,
        languages: names.filter(|name| !name.is_empty()).collect(),
        all: options.flag("all")?,
        reader: LineReader::default(),
        block: None,
        blocks: 0,
        done: false,
    }))
}

struct Fence {
    fallback: Fallback,
    /// Empty: any language, also none.
    languages: Vec<String>,
    all: bool,
    reader: LineReader,
    /// The block that is open.
    block: Option<Block>,
    /// How many wanted blocks have begun.
    blocks: usize,
    done: bool,
}

/// What the opening line said.
#[derive(Clone, Copy)]
struct Block {
    mark: char,
    marks: usize,
    indent: usize,
    wanted: bool,
}

impl Fence {
    fn advance(&mut self, segment: Option<&str>, out: &mut String) {
        let block = self.block;
        let judge = |line: &str, complete| match block {
            Some(block) => judge_closing(line, complete, block),
            None => judge_opening(line, complete),
        };
        let part = match segment {
            Some(segment) => self.reader.take(segment, judge),
            None => self.reader.finish(judge),
        };
        match part {
            None => {}
            Some(Part::Text { text, starts }) => {
                self.hold(&text);
                if let Some(block) = self.block.filter(|block| block.wanted) {
                    let indent = if starts { block.indent } else { 0 };
                    out.push_str(without_indent(&text, indent));
                }
            }
            Some(Part::Marker(line)) => match self.block.take() {
                None => self.open_block(&line, out),
                Some(block) if block.wanted => self.done = !self.all,
                Some(_) => self.hold(&line),
            },
        }
    }

    fn open_block(&mut self, line: &str, out: &mut String) {
        let (indent, mark, marks, info) = opening(line);
        let language = info.trim().split([' ', '\t', ',', '{', ':']).next();
        let language = language.unwrap_or_default().to_ascii_lowercase();
        let wanted = self.languages.is_empty() || self.languages.contains(&language);
        self.block = Some(Block {
            mark,
            marks,
            indent,
            wanted,
        });
        if !wanted {
            return self.hold(line);
        }
        self.fallback.release();
        if self.blocks > 0 {
            out.push('\n');
        }
        self.blocks += 1;
    }

    /// Marker lines around blocks that are not wanted belong to the whole text.
    fn hold(&mut self, line: &str) {
        if self.blocks == 0 {
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
        if self.blocks == 0 {
            return self.fallback.outcome(&self.missing());
        }
        let unclosed = self.block.is_some_and(|block| block.wanted);
        let warning = "the code block is not closed in the answer".to_owned();
        Ok(Outcome {
            tail,
            warnings: if unclosed { vec![warning] } else { vec![] },
        })
    }
}

impl Fence {
    fn missing(&self) -> String {
        match self.languages.is_empty() {
            true => "no code block".to_owned(),
            false => format!("no code block in {}", self.languages.join(" or ")),
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Indent, mark, number of marks, and what follows them. Indents of any width
/// count, because models indent the blocks of lists as they like.
fn opening(line: &str) -> (usize, char, usize, &str) {
    let marks = line.trim_start_matches(BLANKS);
    let mark = if marks.starts_with('~') { '~' } else { '`' };
    let info = marks.trim_start_matches(mark);
    (
        line.len() - marks.len(),
        mark,
        marks.len() - info.len(),
        info,
    )
}

fn judge_opening(line: &str, complete: bool) -> Verdict {
    let (_, mark, marks, info) = opening(line);
    // With a backtick in it, it is code inside a line of text.
    let excluded = (marks < 3 && !info.is_empty()) || (mark == '`' && info.contains('`'));
    match (excluded, complete) {
        (true, _) => Verdict::Text,
        (false, false) => Verdict::Open,
        (false, true) if marks >= 3 => Verdict::Marker,
        (false, true) => Verdict::Text,
    }
}

fn judge_closing(line: &str, complete: bool, block: Block) -> Verdict {
    let marks = line.trim_start_matches(BLANKS);
    let rest = marks.trim_start_matches(block.mark);
    let count = marks.len() - rest.len();
    let possible = rest.trim().is_empty() && (rest.is_empty() || count >= block.marks);
    match (possible, complete) {
        (false, _) => Verdict::Text,
        (true, false) => Verdict::Open,
        (true, true) if count >= block.marks => Verdict::Marker,
        (true, true) => Verdict::Text,
    }
}

/// The line without as much indent as its block has.
fn without_indent(line: &str, indent: usize) -> &str {
    let blanks = line.len() - line.trim_start_matches(BLANKS).len();
    &line[blanks.min(indent)..]
}
