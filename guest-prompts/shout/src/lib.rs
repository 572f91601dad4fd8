//! Processors only: `upper` turns the answer into capitals as it streams, and
//! `count` puts the number of its words at its end.

use std::cell::RefCell;

wit_bindgen::generate!({ world: "post-pack", path: "../../wit" });

use exports::lmstrix::prompts::catalog::{self, Contents, ProcessorInfo};
use exports::lmstrix::prompts::post_processor::{
    self, Context, GuestProcessor, Outcome, Processor, Pushed, Stop,
};
use lmstrix::prompts::types::{Error, File};

/// What there is, and what it does.
const OFFERS: [(&str, &str); 2] = [
    ("upper", "Turns the answer into capitals"),
    ("count", "Puts the number of words at the end"),
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
            summary: "Processors for loud people".into(),
            prompts: vec![],
            processors: OFFERS.map(info).into(),
            extra: vec![],
        })
    }
}

impl post_processor::Guest for Shout {
    type Processor = Work;
}

/// State lives in the resource: a global would be shared by nobody, but says so
/// less clearly.
enum Work {
    Upper,
    Count(RefCell<Words>),
}

#[derive(Default)]
struct Words {
    whole: usize,
    inside: bool,
}

impl GuestProcessor for Work {
    fn open(context: Context) -> Result<Processor, Error> {
        match context.processor.as_str() {
            "upper" => Ok(Processor::new(Work::Upper)),
            "count" => Ok(Processor::new(Work::Count(RefCell::default()))),
            _ => Err(Error::UnknownProcessor(OFFERS.map(|it| it.0.into()).into())),
        }
    }

    fn push(&self, chunk: String) -> Result<Pushed, Error> {
        let text = match self {
            Work::Upper => chunk.to_uppercase(),
            Work::Count(words) => {
                let mut words = words.borrow_mut();
                for c in chunk.chars() {
                    // A word may be cut anywhere: it counts where it begins.
                    if !c.is_whitespace() && !words.inside {
                        words.whole += 1;
                    }
                    words.inside = !c.is_whitespace();
                }
                chunk
            }
        };
        Ok(Pushed { text, done: false })
    }

    fn finish(&self, _reason: Stop) -> Result<Outcome, Error> {
        let tail = match self {
            Work::Upper => String::new(),
            Work::Count(words) => format!(" ({} words)", words.borrow().whole),
        };
        Ok(Outcome {
            tail,
            warnings: vec![],
            extra: vec![],
        })
    }
}

export!(Shout);
