//! The double of LM Studio: how a test sets it up and what it may ask of it.
//!
//! It speaks HTTP as LM Studio 0.4 does, with the quirks that clients stumble
//! over, and can be told to fail in every way that was ever reported. What it
//! says is computed, so that a test knows it in advance. The runtime lives in
//! a thread of its own and ends with the value.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use serde_json::Value;
use tokio::sync::oneshot;

use super::studio_routes::handle;
use super::studio_state::Shared;

/// A running server; it ends when dropped.
pub(crate) struct Studio {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How the server is before the first request.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) models: Vec<Model>,
    /// With a token every request but the greeting needs it.
    pub(crate) token: Option<String>,
    /// Whether a request for a model that is not loaded loads it.
    pub(crate) jit: bool,
    /// Without it the server is older than 0.4.0: there is no `/api/v1`.
    pub(crate) has_v1: bool,
    pub(crate) fault: Fault,
    pub(crate) answer: Answer,
    pub(crate) load_time: Duration,
    pub(crate) context: ContextRule,
    /// Every load takes its time and then fails with this text.
    pub(crate) load_fails: Option<String>,
    /// `reasoning_content` or `reasoning`.
    pub(crate) reasoning_field: &'static str,
    pub(crate) token_pause: Duration,
    /// How many answers an instance gives at once, as its list says; the double
    /// itself gives as many as are asked for.
    pub(crate) slots: Option<u32>,
    /// Prompts that hold such a text fail so, whatever else goes well; one of
    /// the faults in mid-stream.
    pub(crate) poison: Vec<(&'static str, Fault)>,
    /// The address to listen at, for a server that comes back.
    pub(crate) port: u16,
}

impl Default for Setup {
    /// One loaded model that answers at once.
    fn default() -> Self {
        let key = "qwen/qwen3-4b";
        Self {
            models: vec![Model {
                loaded: vec![(key.to_owned(), 8192)],
                ..Model::llm(key, 32_768)
            }],
            token: None,
            jit: true,
            has_v1: true,
            fault: Fault::None,
            answer: Answer::Text("Bonjour tout le monde.".to_owned()),
            load_time: Duration::ZERO,
            context: ContextRule::Exact,
            load_fails: None,
            reasoning_field: "reasoning_content",
            token_pause: Duration::ZERO,
            slots: None,
            poison: Vec::new(),
            port: 0,
        }
    }
}

/// A model on the server's disk.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) key: String,
    /// `llm`, `vlm` or `embedding`.
    pub(crate) kind: &'static str,
    pub(crate) architecture: &'static str,
    pub(crate) quantization: &'static str,
    pub(crate) size_bytes: u64,
    pub(crate) max_context: u32,
    /// Instances that are there from the start: id and context.
    pub(crate) loaded: Vec<(String, u32)>,
    /// Whether `/api/v1/chat` takes `reasoning` for it.
    pub(crate) reasoning: bool,
    pub(crate) vision: bool,
}

impl Model {
    /// A language model that is not loaded.
    pub(crate) fn llm(key: &str, max_context: u32) -> Self {
        Self {
            key: key.to_owned(),
            kind: "llm",
            architecture: "qwen3",
            quantization: "Q4_K_M",
            size_bytes: 2_497_280_256,
            max_context,
            loaded: Vec::new(),
            reasoning: false,
            vision: false,
        }
    }
}

/// What a model says to everything. A prompt for the raw endpoints that ends
/// inside a tag is the exception: there every model closes the tag.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Text(String),
    /// `Echo HASH: PROMPT`; the hash is made of prompt, seed and temperature.
    Echo,
    /// The secret code that the prompt names, as long as the prompt has no more
    /// than so many bytes; else a wrong one.
    Recall(usize),
    Thinking {
        reasoning: String,
        text: String,
    },
    /// `t0 t1 t2 …`, never held as a whole.
    Tokens(usize),
}

/// Which context an instance gets when one is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ContextRule {
    Exact,
    /// The next multiple of 64.
    RoundedTo64,
    /// At most this.
    Smaller(u32),
    /// At least this.
    Larger(u32),
}

/// What goes wrong on the endpoints that generate; lists and loads are spared.
///
/// "After some text" is after two tokens. A stream that ends early still ends
/// in good order on the wire; for a cut there is [`super::scripted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Not even a head, until the client leaves.
    SilentBeforeFirstByte,
    /// Status 400; `error` is a string.
    OverflowString,
    /// Status 200, then an error event instead of text.
    OverflowInStream,
    /// No text at all, and an end as if all were well.
    OverflowEmpty,
    /// `event: error` with an error object after some text. On `/api/v1/chat`
    /// `chat.end` follows.
    ErrorEvent,
    /// `data: {"error":{"message":…}}` after some text, without an event name.
    ErrorData,
    /// `data: {"object":"error",…}` after some text, then `[DONE]`.
    ErrorObject,
    /// `error: {…}` after some text, which names no field of SSE.
    ErrorField,
    /// The end comes after some text, without a reason and an end mark.
    NoFinish,
    /// The whole text and the reason, but no `[DONE]` (or no `chat.end`).
    NoDone,
    /// Silence after some text, until the client leaves.
    HangMidStream,
    /// Lines end with CRLF, and every byte comes alone.
    Split,
    Crlf,
    /// Status 500 and a page of HTML.
    Html500,
    /// The model is unloaded after some text, as by Auto-Evict.
    EvictedMidStream,
    /// Says that another model answered.
    WrongModel(String),
    /// Status 400 for `stream: true`.
    RefusesStream,
    /// Answers as if `stream` were false.
    PlainBody,
    /// The first requests get status 429.
    Busy {
        times: usize,
        retry_after: Option<u32>,
    },
    /// The first requests get status 503, "Loading model".
    LoadingFor(usize),
    /// Comments every 50 ms, for ever.
    PingsOnly,
}

/// A request as it came in, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Null when there is none or it is not JSON.
    pub(crate) body: Value,
    /// Whether the client left before the answer ended.
    pub(crate) cancelled: bool,
    pub(crate) tokens_sent: usize,
}

impl Studio {
    pub(crate) fn start(setup: Setup) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", setup.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::new(setup));
        let (stop, stopped) = oneshot::channel();
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                // Small pieces leave at once, as a server that streams wants it.
                let listener = listener.tap_io(|it| drop(it.set_nodelay(true)));
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
            // The runtime is dropped here, and with it every connection.
        });
        Self {
            port,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.shared.lock().fault = fault;
    }

    /// The most answers that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.lock().most_at_once
    }

    /// The instances that are loaded now.
    pub(crate) fn loaded(&self) -> Vec<String> {
        let state = self.shared.lock();
        state.instances.iter().map(|it| it.id.clone()).collect()
    }

    /// Takes a model off the disk: no list has it, and no load finds it.
    pub(crate) fn remove(&self, key: &str) {
        let mut state = self.shared.lock();
        state.removed.push(key.to_owned());
        state.instances.retain(|it| it.key != key);
    }

    /// How many loads succeeded, asked for or not.
    pub(crate) fn loads(&self) -> usize {
        self.shared.lock().loads
    }

    /// Whether some client left before its answer ended; waits for that.
    pub(crate) fn wait_cancelled(&self, within: Duration) -> bool {
        self.shared.wait_cancelled(within)
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _gone = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
