//! `replace`: one text in place of another.

use super::{Kind, OptionInfo, Options, Outcome, Processor, Pushed};
use crate::types::{Error, Stop};

pub(super) const KIND: Kind = Kind {
    name: "replace",
    summary: "replaces one text by another",
    options: &[
        OptionInfo::new("from", "the text to replace").required(),
        OptionInfo::new("to", "what takes its place").or(""),
        OptionInfo::new("count", "how many times at most; without it, always"),
    ],
    open,
};

fn open(options: &Options<'_>) -> Result<Box<dyn Processor>, Error> {
    let from = options.text("from").unwrap_or_default().as_bytes();
    if from.is_empty() {
        return Err(options.invalid("from", "must not be empty"));
    }
    Ok(Box::new(Replace {
        from: from.to_vec(),
        borders: borders(from),
        to: options.text("to").unwrap_or_default().to_owned(),
        left: options.number("count", u32::MAX as usize)?,
        matched: 0,
    }))
}

/// Knuth, Morris and Pratt's search: what is held back is always the beginning
/// of `from`, so that its length is all there is to remember.
struct Replace {
    from: Vec<u8>,
    borders: Vec<usize>,
    to: String,
    left: Option<usize>,
    /// How many bytes of `from` the text so far ends in.
    matched: usize,
}

/// For each beginning of the pattern, the longest shorter one that it ends in.
fn borders(pattern: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; pattern.len()];
    let mut length = 0;
    for at in 1..pattern.len() {
        while length > 0 && pattern[at] != pattern[length] {
            length = borders[length - 1];
        }
        length += usize::from(pattern[at] == pattern[length]);
        borders[at] = length;
    }
    borders
}

impl Processor for Replace {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        let mut out: Vec<u8> = Vec::with_capacity(chunk.len());
        for (at, &byte) in chunk.as_bytes().iter().enumerate() {
            if self.left == Some(0) {
                out.extend_from_slice(&chunk.as_bytes()[at..]);
                break;
            }
            while self.matched > 0 && self.from[self.matched] != byte {
                let shorter = self.borders[self.matched - 1];
                out.extend_from_slice(&self.from[..self.matched - shorter]);
                self.matched = shorter;
            }
            if self.from[self.matched] == byte {
                self.matched += 1;
            } else {
                out.push(byte);
            }
            if self.matched == self.from.len() {
                out.extend_from_slice(self.to.as_bytes());
                self.matched = 0;
                self.left = self.left.map(|left| left - 1);
            }
        }
        Ok(Pushed {
            text: text(out),
            done: false,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        Ok(Outcome {
            tail: text(self.from[..self.matched].to_vec()),
            warnings: Vec::new(),
        })
    }
}

/// The bytes are whole characters: what is held back begins where `from` does,
/// at the border of one, and so does what follows it.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        debug_assert!(false, "cut inside a character");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}
