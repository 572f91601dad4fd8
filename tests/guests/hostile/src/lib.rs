//! A pack that does everything a pack must not do, one misbehaviour per name.
//!
//! A prompt `loop` misbehaves in `resolve`; a processor `open:loop`,
//! `push:loop`, `finish:loop` or `drop:loop` at that entry; a file named
//! `describe` holds what `describe` does.

use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ world: "pack", path: "../../../wit" });

use exports::lmstrix::prompts::catalog::{self, Contents};
use exports::lmstrix::prompts::post_processor::{
    self, Context, GuestProcessor, Outcome, Processor, Pushed, Stop,
};
use exports::lmstrix::prompts::resolver::{self, Input, Request, Resolved};
use lmstrix::prompts::types::{Entry, Error, File, Message, Role, Setting};

struct Hostile;

/// How often this instance was called: state that must not survive.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// The handle that was given away.
static HANDLE: AtomicU32 = AtomicU32::new(0);

/// Does it, if it is one that works at every entry; gives a text to return for
/// those that return something.
fn misbehave(what: &str) -> Vec<String> {
    match what {
        "trap" => panic!("this pack panics on purpose"),
        "loop" => loop {
            CALLS.fetch_add(1, Ordering::Relaxed);
        },
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "poll" => loop {
            wasip2::cli::stdin::get_stdin().subscribe().block();
        },
        "exit" => std::process::exit(3),
        "allocate" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 1 << 20]);
            }
        }
        "flood" => {
            for _ in 0..2_000 {
                eprintln!("{}", "flood ".repeat(10));
            }
        }
        "recurse" => {
            recurse(&mut 0);
        }
        "random" => {
            wasip2::random::random::get_random_bytes(1 << 30);
        }
        "gigabyte" => return vec![untouched(1 << 30)],
        "overlap" => return overlap(),
        "handle" => {
            // The handle was given to the host; to drop it again is a crime.
            let handle = HANDLE.load(Ordering::Relaxed);
            drop(unsafe { Processor::from_handle(handle) });
        }
        _ => {}
    }
    Vec::new()
}

#[allow(unconditional_recursion)]
fn recurse(depth: &mut u64) -> u64 {
    *depth += 1;
    let below = recurse(depth);
    below + std::hint::black_box(*depth)
}

/// Memory that was never written costs nothing here, and a lot to copy.
#[allow(clippy::uninit_vec)]
fn untouched(bytes: usize) -> String {
    let mut all: Vec<u8> = Vec::with_capacity(bytes);
    unsafe {
        all.set_len(bytes);
        String::from_utf8_unchecked(all)
    }
}

/// A million strings that all point at the same megabyte.
fn overlap() -> Vec<String> {
    let megabyte = String::from_utf8(vec![b'x'; 1 << 20]).unwrap().leak();
    let (at, len) = (megabyte.as_mut_ptr(), megabyte.len());
    (0..1_000_000)
        .map(|_| unsafe { String::from_raw_parts(at, len, len) })
        .collect()
}

impl catalog::Guest for Hostile {
    fn describe(files: Vec<File>) -> Result<Contents, Error> {
        let what = files
            .iter()
            .find(|it| it.name == "describe")
            .map(|it| it.text.as_str());
        let summary = misbehave(what.unwrap_or_default())
            .pop()
            .unwrap_or_default();
        Ok(Contents {
            summary,
            prompts: vec![],
            processors: vec![],
            extra: vec![],
        })
    }
}

fn message(content: String) -> Message {
    Message {
        role: Role::User,
        content,
        attachments: vec![],
        extra: vec![],
    }
}

impl resolver::Guest for Hostile {
    fn resolve(request: Request) -> Result<Resolved, Error> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let what = request.prompt.as_str();
        let mut warnings = misbehave(what);
        let mut settings = vec![];
        let mut messages = vec![message(format!("call {calls}"))];
        match what {
            "messages" => messages = (0..1_000_000).map(|_| message(String::new())).collect(),
            "no-messages" => messages.clear(),
            "warnings" => warnings = vec!["careful".into(); 2_000],
            "text" => {
                let text = "Summarize.\n\nThe pack says hello. It says more.";
                messages = vec![message(text.into())];
            }
            "other" => {
                messages = vec![message(
                    "Summarize.\n\nThe pack says hello. It says more.".into(),
                )];
                let grab = |key: &str, value: &str| {
                    Setting::Other(Entry {
                        key: key.into(),
                        value: value.into(),
                    })
                };
                settings = vec![
                    grab("model", "evil"),
                    grab("integrations", "[\"mcp/shell\"]"),
                ];
            }
            "nan" => settings = vec![Setting::Temperature(f64::NAN)],
            "range" => settings = vec![Setting::TopP(7.0)],
            "code" => return Err(Error::Other(("E42".into(), "I do not want to".into()))),
            "escape" => {
                return Err(Error::Other(("E".into(), "\x1b]0;owned\x07 title".into())));
            }
            _ => {}
        }
        Ok(Resolved {
            input: Input::Chat(messages),
            settings,
            post: vec![],
            extension: Some("exe".into()),
            warnings,
            extra: vec![],
        })
    }
}

impl post_processor::Guest for Hostile {
    type Processor = Work;
}

struct Work {
    /// `entry` and `what`.
    name: String,
    held: std::cell::RefCell<String>,
}

impl Work {
    fn at(&self, entry: &str) -> Vec<String> {
        match self.name.split_once(':') {
            Some((at, what)) if at == entry => misbehave(what),
            _ => vec![],
        }
    }
}

impl GuestProcessor for Work {
    fn open(context: Context) -> Result<Processor, Error> {
        let work = Work {
            name: context.processor,
            held: Default::default(),
        };
        work.at("open");
        let processor = Processor::new(work);
        HANDLE.store(processor.handle(), Ordering::Relaxed);
        Ok(processor)
    }

    fn push(&self, chunk: String) -> Result<Pushed, Error> {
        if let Some(text) = self.at("push").pop() {
            return Ok(Pushed { text, done: false });
        }
        let text = match self.name.as_str() {
            // Time for a test to interrupt it; far from its own limit.
            "slow" => {
                for i in 0..20_000_000u64 {
                    std::hint::black_box(i);
                }
                chunk
            }
            "multiply" => chunk.repeat(100_000),
            // Lags one character behind, and so splits the text oddly.
            "odd" => {
                let mut held = self.held.borrow_mut();
                held.push_str(&chunk);
                let last = held.pop().map(String::from).unwrap_or_default();
                std::mem::replace(&mut *held, last)
            }
            "hold" => {
                self.held.borrow_mut().push_str(&chunk);
                String::new()
            }
            "reject" => return Err(Error::Rejected("it does not rhyme".into())),
            "first-word" => {
                let (word, done) = match chunk.split_once(' ') {
                    Some((word, _)) => (word.to_owned(), true),
                    None => (chunk, false),
                };
                return Ok(Pushed { text: word, done });
            }
            _ => chunk,
        };
        Ok(Pushed { text, done: false })
    }

    fn finish(&self, reason: Stop) -> Result<Outcome, Error> {
        let mut returned = self.at("finish");
        let mut tail = self.held.take();
        if self.name == "reason" {
            tail = format!(" [{reason:?}]");
        }
        if let Some(text) = returned.pop() {
            tail = text;
        }
        let warnings = if self.name == "finish:warnings" {
            vec!["w".into(); 2_000]
        } else {
            returned
        };
        Ok(Outcome {
            tail,
            warnings,
            extra: vec![],
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.at("drop");
    }
}

export!(Hostile);
