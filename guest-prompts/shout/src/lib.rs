//! A pack with two processors and no prompts: `upper` converts the answer to upper case
//! while it streams, and `count` appends the number of words.

// The exports of a component link only for WebAssembly. A build for other targets is empty.
#![cfg(target_family = "wasm")]

use std::cell::RefCell;

wit_bindgen::generate!({ world: "post-pack" });

use exports::lmstrix::prompts::catalog::{self, Contents, ProcessorInfo};
use exports::lmstrix::prompts::post_processor::{
    self, Context, GuestProcessor, Outcome, Processor, Pushed, Stop,
};
use lmstrix::prompts::types::{Error, File};

/// Name and description of each processor.
const PROCESSORS: [(&str, &str); 2] = [
    ("upper", "Converts the answer to upper case"),
    ("count", "Appends the number of words"),
];

struct Shout;

impl catalog::Guest for Shout {
    fn describe(_files: Vec<File>) -> Result<Contents, Error> {
        let info = |(name, summary): (&str, &str)| ProcessorInfo {
            name: name.into(),
            summary: summary.into(),
            options: vec![],
            extra: vec![],
        };
        Ok(Contents {
            summary: "Example processors: upper case and word count".into(),
            prompts: vec![],
            processors: PROCESSORS.map(info).into(),
            extra: vec![],
        })
    }
}

impl post_processor::Guest for Shout {
    type Processor = ShoutProcessor;
}

/// The state of one processor. It belongs in the resource, not in a global variable.
enum ShoutProcessor {
    Upper,
    Count(RefCell<WordCounter>),
}

#[derive(Default)]
struct WordCounter {
    count: usize,
    in_word: bool,
}

impl GuestProcessor for ShoutProcessor {
    fn open(context: Context) -> Result<Processor, Error> {
        match context.processor.as_str() {
            "upper" => Ok(Processor::new(Self::Upper)),
            "count" => Ok(Processor::new(Self::Count(RefCell::default()))),
            _ => {
                let names = PROCESSORS.map(|(name, _)| name.into());
                Err(Error::UnknownProcessor(names.into()))
            }
        }
    }

    fn push(&self, chunk: String) -> Result<Pushed, Error> {
        let text = match self {
            Self::Upper => chunk.to_uppercase(),
            Self::Count(counter) => {
                let mut counter = counter.borrow_mut();
                for c in chunk.chars() {
                    // A chunk may end inside a word, so that a word is counted at its
                    // first character.
                    if !c.is_whitespace() && !counter.in_word {
                        counter.count += 1;
                    }
                    counter.in_word = !c.is_whitespace();
                }
                chunk
            }
        };
        Ok(Pushed { text, done: false })
    }

    fn finish(&self, _reason: Stop) -> Result<Outcome, Error> {
        let tail = match self {
            Self::Upper => String::new(),
            Self::Count(counter) => format!(" ({} words)", counter.borrow().count),
        };
        Ok(Outcome {
            tail,
            warnings: vec![],
            extra: vec![],
        })
    }
}

export!(Shout);
