//! The `replace` processor: replaces occurrences of a text.

use lmstrix_pack::{Error, Outcome, Processor, Pushed, Stop};

use super::{OptionInfo, ProcessorKind, ProcessorOptions};

pub(super) const KIND: ProcessorKind = ProcessorKind {
    name: "replace",
    summary: "replaces one text with another",
    options: &[
        OptionInfo::new("from", "the text to replace").required(),
        OptionInfo::new("to", "the replacement").with_default(""),
        OptionInfo::new("count", "maximum number of replacements; if not set, all"),
    ],
    open,
};

fn open(options: &ProcessorOptions<'_>) -> Result<Box<dyn Processor>, Error> {
    let from = options.text("from").unwrap_or_default().as_bytes();
    if from.is_empty() {
        return Err(options.invalid_option("from", "must not be empty"));
    }
    Ok(Box::new(Replace {
        from: from.to_vec(),
        borders: border_lengths(from),
        to: options.text("to").unwrap_or_default().to_owned(),
        remaining: options.number("count", u32::MAX as usize)?,
        matched: 0,
    }))
}

/// A Knuth-Morris-Pratt search. The text that is held back is always a prefix of `from`, so
/// that only its length is stored.
struct Replace {
    from: Vec<u8>,
    borders: Vec<usize>,
    to: String,
    remaining: Option<usize>,
    /// The number of bytes of `from` that match the end of the text so far.
    matched: usize,
}

/// Returns the failure function of the search: for each prefix of the pattern, the length of
/// its longest proper prefix that is also its suffix.
fn border_lengths(pattern: &[u8]) -> Vec<usize> {
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
            if self.remaining == Some(0) {
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
                self.remaining = self.remaining.map(|left| left - 1);
            }
        }
        Ok(Pushed {
            text: text(out),
            done: false,
        })
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        Ok(Outcome::tail(text(self.from[..self.matched].to_vec())))
    }
}

/// Converts output bytes to text. They are valid UTF-8: the text that is held back starts at
/// a character boundary, as `from` does, and so does the text after it.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        debug_assert!(false, "split inside a character");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}
