//! A pack that misbehaves in every way, selected by name.
//!
//! The prompt `loop` misbehaves in `resolve`. The processors `open:loop`, `push:loop`,
//! `finish:loop` and `drop:loop` misbehave in that function. For `describe`, a file named
//! `describe` contains the name of the misbehaviour.

// The exports of a component link only for WebAssembly. A build for other targets is empty.
#![cfg(target_family = "wasm")]

use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ world: "pack" });

use exports::lmstrix::prompts::catalog::{self, Contents, ParamInfo, ProcessorInfo, PromptInfo};
use exports::lmstrix::prompts::post_processor::{
    self, Context, GuestProcessor, Outcome, Processor, Pushed, Stop,
};
use exports::lmstrix::prompts::resolver::{self, Input, Request, Resolved};
use lmstrix::prompts::types::{Entry, Error, File, Message, ProcessorRef, Role, Setting};

struct Hostile;

/// Number of calls of this instance; the host must not keep this state.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// The handle that was passed to the host.
static HANDLE: AtomicU32 = AtomicU32::new(0);

/// Performs a misbehaviour that is possible in every function. Returns the strings to return
/// to the host, if any.
fn misbehave(misbehaviour: &str) -> Vec<String> {
    match misbehaviour {
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
            let mut blocks = Vec::new();
            loop {
                blocks.push(vec![1u8; 1 << 20]);
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
        "files" => {
            let opened = [
                std::fs::read("/etc/passwd").map(drop),
                std::fs::read("../../etc/passwd").map(drop),
                std::fs::write("written", "x"),
                std::fs::create_dir("/folder"),
                std::fs::read_dir(".").map(drop),
            ];
            let opened = opened.iter().filter(|opened| opened.is_ok()).count();
            panic!("{opened} of its files were opened");
        }
        "sockets" => {
            let opened = [
                std::net::TcpStream::connect("127.0.0.1:80").map(drop),
                std::net::TcpListener::bind("127.0.0.1:0").map(drop),
                std::net::UdpSocket::bind("127.0.0.1:0").map(drop),
                std::net::ToSocketAddrs::to_socket_addrs("localhost:80").map(drop),
            ];
            let opened = opened.iter().filter(|opened| opened.is_ok()).count();
            panic!("{opened} of its sockets were opened");
        }
        "gigabyte" => return vec![uninitialized_string(1 << 30)],
        "overlap" => return overlapping_strings(),
        "handle" => {
            // The host owns the handle, so the pack must not drop it.
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
    let result = recurse(depth);
    result + std::hint::black_box(*depth)
}

/// Returns a string of uninitialized memory: cheap to create, expensive to copy.
#[allow(clippy::uninit_vec)]
fn uninitialized_string(bytes: usize) -> String {
    let mut memory: Vec<u8> = Vec::with_capacity(bytes);
    unsafe {
        memory.set_len(bytes);
        String::from_utf8_unchecked(memory)
    }
}

/// Returns a million strings that all point to the same megabyte.
fn overlapping_strings() -> Vec<String> {
    let megabyte = String::from_utf8(vec![b'x'; 1 << 20]).unwrap().leak();
    let (at, len) = (megabyte.as_mut_ptr(), megabyte.len());
    (0..1_000_000)
        .map(|_| unsafe { String::from_raw_parts(at, len, len) })
        .collect()
}

/// Returns a description with parameters and options.
fn declared_contents() -> Contents {
    let param = |name: &str, required, default: Option<&str>| ParamInfo {
        name: name.into(),
        summary: String::new(),
        required,
        default: default.map(Into::into),
        extra: vec![],
    };
    let any_params = Entry {
        key: "any-params".into(),
        value: "true".into(),
    };
    let any = PromptInfo {
        name: "any".into(),
        summary: String::new(),
        params: vec![],
        extra: vec![any_params],
    };
    Contents {
        summary: "Parameters".into(),
        prompts: vec![
            any,
            PromptInfo {
                name: "shown".into(),
                summary: String::new(),
                params: vec![
                    param("must", true, None),
                    param("style", false, Some("warm")),
                ],
                extra: vec![],
            },
        ],
        processors: vec![ProcessorInfo {
            name: "options".into(),
            summary: String::new(),
            options: vec![param("long", false, Some("no"))],
            extra: vec![],
        }],
        extra: vec![],
    }
}

/// Returns a description that the functions of this pack do not match.
fn faulty_contents() -> Contents {
    let prompt = |name: &str| PromptInfo {
        name: name.into(),
        summary: String::new(),
        params: vec![],
        extra: vec![],
    };
    let processor = |name: &str| ProcessorInfo {
        name: name.into(),
        summary: String::new(),
        options: vec![],
        extra: vec![],
    };
    Contents {
        summary: "Faults".into(),
        prompts: [
            "text",
            "secret-param",
            "secret-processor",
            "assistant",
            "range",
            "a name",
        ]
        .map(prompt)
        .to_vec(),
        processors: ["pass", "count-pieces", "push:trap"]
            .map(processor)
            .to_vec(),
        extra: vec![],
    }
}

impl catalog::Guest for Hostile {
    fn describe(files: Vec<File>) -> Result<Contents, Error> {
        let misbehaviour = files
            .iter()
            .find(|file| file.name == "describe")
            .map(|file| file.text.as_str());
        match misbehaviour {
            Some("faults") => return Ok(faulty_contents()),
            Some("declared") => return Ok(declared_contents()),
            _ => {}
        }
        let summary = misbehave(misbehaviour.unwrap_or_default())
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

/// Returns the names of the images that the user gave.
fn attachments(request: &Request) -> impl DoubleEndedIterator<Item = String> + '_ {
    let given = request
        .extra
        .iter()
        .filter(|entry| entry.key == "attachment");
    given.map(|entry| entry.value.clone())
}

/// Returns a conversation with the first image in its first message.
fn conversation(request: &Request) -> Vec<Message> {
    let mut first = message("What is this?".into());
    first.attachments = attachments(request).take(1).collect();
    let mut answer = message("A picture.".into());
    answer.role = Role::Assistant;
    vec![first, answer, message("And these?".into())]
}

impl resolver::Guest for Hostile {
    fn resolve(request: Request) -> Result<Resolved, Error> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let prompt = request.prompt.as_str();
        let mut warnings = misbehave(prompt);
        let mut settings = vec![];
        let mut post = vec![];
        let mut messages = vec![message(format!("call {calls}"))];
        match prompt {
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
                let other = |key: &str, value: &str| {
                    Setting::Other(Entry {
                        key: key.into(),
                        value: value.into(),
                    })
                };
                settings = vec![
                    other("model", "evil"),
                    other("integrations", "[\"mcp/shell\"]"),
                ];
            }
            "attachments" => messages[0].attachments = attachments(&request).rev().collect(),
            "conversation" => messages = conversation(&request),
            "missing-attachment" => messages[0].attachments = vec!["none.png".into()],
            "nan" => settings = vec![Setting::Temperature(f64::NAN)],
            "range" => settings = vec![Setting::TopP(7.0)],
            "code" => {
                return Err(Error::Other((
                    "E42".into(),
                    "unsupported on purpose".into(),
                )));
            }
            "shown" => {
                let params = request.params.iter();
                let lines = params.map(|param| format!("{}={}\n", param.key, param.value));
                messages = vec![message(lines.collect())];
            }
            "model" => messages = vec![message(format!("{:?}", request.model))],
            "top-k" => settings = vec![Setting::TopK(u32::MAX)],
            "schema" => settings = vec![Setting::JsonSchema("{".into())],
            "wrong-error" => return Err(Error::UnknownProcessor(vec![])),
            "empty" => messages = vec![message(" ".into())],
            "secret-param" => return Err(Error::MissingParams(vec!["secret".into()])),
            "secret-processor" => {
                let name = "nowhere".into();
                let options = vec![];
                post.push(ProcessorRef { name, options });
            }
            "assistant" => messages
                .iter_mut()
                .for_each(|message| message.role = Role::Assistant),
            "escape" => {
                return Err(Error::Other(("E".into(), "\x1b]0;owned\x07 title".into())));
            }
            _ => {}
        }
        Ok(Resolved {
            input: Input::Chat(messages),
            settings,
            post,
            extension: Some("exe".into()),
            warnings,
            extra: vec![],
        })
    }
}

impl post_processor::Guest for Hostile {
    type Processor = HostileProcessor;
}

struct HostileProcessor {
    /// `FUNCTION:MISBEHAVIOUR`, or the name of a special processor.
    name: String,
    held: std::cell::RefCell<String>,
}

impl HostileProcessor {
    /// Misbehaves if the name selects `function`.
    fn misbehave_in(&self, function: &str) -> Vec<String> {
        match self.name.split_once(':') {
            Some((selected, misbehaviour)) if selected == function => misbehave(misbehaviour),
            _ => vec![],
        }
    }
}

impl GuestProcessor for HostileProcessor {
    fn open(context: Context) -> Result<Processor, Error> {
        let processor = HostileProcessor {
            name: context.processor,
            held: Default::default(),
        };
        processor.misbehave_in("open");
        let processor = Processor::new(processor);
        HANDLE.store(processor.handle(), Ordering::Relaxed);
        Ok(processor)
    }

    fn push(&self, chunk: String) -> Result<Pushed, Error> {
        if let Some(text) = self.misbehave_in("push").pop() {
            return Ok(Pushed { text, done: false });
        }
        let text = match self.name.as_str() {
            // Slow enough for a test to interrupt it, and far below its time limit.
            "slow" => {
                for i in 0..20_000_000u64 {
                    std::hint::black_box(i);
                }
                chunk
            }
            "multiply" => chunk.repeat(100_000),
            // Holds back the last character, and so returns other chunks than it receives.
            "odd" => {
                let mut held = self.held.borrow_mut();
                held.push_str(&chunk);
                let last = held.pop().map(String::from).unwrap_or_default();
                std::mem::replace(&mut *held, last)
            }
            "count-pieces" => ".".into(),
            "hold" => {
                self.held.borrow_mut().push_str(&chunk);
                String::new()
            }
            "reject" => return Err(Error::Rejected("rejected on purpose".into())),
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
        let mut returned = self.misbehave_in("finish");
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

impl Drop for HostileProcessor {
    fn drop(&mut self) {
        self.misbehave_in("drop");
    }
}

export!(Hostile);
