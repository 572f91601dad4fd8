//! A pack with two processors and no prompts: `upper` converts the answer to upper case
//! while it streams, and `count` appends the number of words.

use lmstrix_pack::{Catalog, Error, Outcome, Processor, ProcessorInfo, Pushed, Stop};

lmstrix_pack::export!(pack());

/// Returns the processors of the pack.
pub fn pack() -> Catalog {
    Catalog::new("Example processors: upper case and word count")
        .processor(
            ProcessorInfo::new("upper", "Converts the answer to upper case"),
            |_| Ok(Upper),
        )
        .processor(
            ProcessorInfo::new("count", "Appends the number of words"),
            |_| Ok(WordCounter::default()),
        )
}

struct Upper;

impl Processor for Upper {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        Ok(chunk.to_uppercase().into())
    }
}

#[derive(Default)]
struct WordCounter {
    count: usize,
    in_word: bool,
}

impl Processor for WordCounter {
    fn push(&mut self, chunk: &str) -> Result<Pushed, Error> {
        for c in chunk.chars() {
            // A chunk may end inside a word, so that a word is counted at its first character.
            if !c.is_whitespace() && !self.in_word {
                self.count += 1;
            }
            self.in_word = !c.is_whitespace();
        }
        Ok(chunk.to_owned().into())
    }

    fn finish(&mut self, _: Stop) -> Result<Outcome, Error> {
        Ok(Outcome::tail(format!(" ({} words)", self.count)))
    }
}
