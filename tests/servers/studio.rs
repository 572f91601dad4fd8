//! A fake LM Studio server: its configuration and the interface for tests.
//!
//! It behaves like LM Studio 0.4, with the quirks that affect clients, and can fail in every
//! way that has been reported. Its answers are computed, so that a test knows them in
//! advance. The runtime has its own thread and stops when the value is dropped.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use serde_json::Value;
use tokio::sync::oneshot;

use super::studio_routes::handle;
use super::studio_state::Shared;

/// A running server; stops when dropped.
pub(crate) struct FakeStudio {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The configuration of the server.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) models: Vec<Model>,
    /// The API token that every request except the greeting requires.
    pub(crate) token: Option<String>,
    /// Just-in-time loading: a request for a model that is not loaded loads it.
    pub(crate) jit: bool,
    /// Without it the server is older than 0.4.0 and has no `/api/v1`.
    pub(crate) has_v1: bool,
    pub(crate) fault: Fault,
    pub(crate) answer: Answer,
    pub(crate) load_time: Duration,
    pub(crate) context: ContextRule,
    /// Every load takes `load_time` and then fails with this message.
    pub(crate) load_error: Option<String>,
    /// `reasoning_content` or `reasoning`.
    pub(crate) reasoning_field: &'static str,
    pub(crate) token_pause: Duration,
    /// The number of parallel answers of an instance that the model list reports. The fake
    /// itself has no limit.
    pub(crate) slots: Option<u32>,
    /// Faults for prompts that contain a text; only faults in mid-stream.
    pub(crate) prompt_faults: Vec<(&'static str, Fault)>,
    /// The port to listen on, for a server that restarts; 0 chooses one.
    pub(crate) port: u16,
}

impl Default for Setup {
    /// One loaded model that answers immediately.
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
            load_error: None,
            reasoning_field: "reasoning_content",
            token_pause: Duration::ZERO,
            slots: None,
            prompt_faults: Vec::new(),
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
    /// Instances that are loaded at the start: id and context length.
    pub(crate) loaded: Vec<(String, u32)>,
    /// `/api/v1/chat` accepts `reasoning` for it.
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

/// How the models answer. The exception is a raw prompt that ends inside a tag: then every
/// model closes the tag.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Text(String),
    /// `Echo HASH: PROMPT`; the hash is made of prompt, seed and temperature.
    Echo,
    /// The secret code of the prompt if the prompt has at most this many bytes, otherwise a
    /// wrong one.
    Recall(usize),
    Thinking {
        reasoning: String,
        text: String,
    },
    /// `t0 t1 t2 …`, generated lazily.
    Tokens(usize),
}

/// The context length of an instance for a requested one.
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

/// A fault of the endpoints that generate text; lists and loads are not affected.
///
/// "After some text" is after two tokens. A stream that ends early still closes its
/// connection in order; use [`super::scripted`] for a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// No response head until the client disconnects.
    SilentBeforeFirstByte,
    /// Status 400; `error` is a string.
    OverflowString,
    /// Status 200, then an error event instead of text.
    OverflowInStream,
    /// No text, and a normal end.
    OverflowEmpty,
    /// `event: error` with an error object after some text. On `/api/v1/chat`
    /// `chat.end` follows.
    ErrorEvent,
    /// `data: {"error":{"message":…}}` after some text, without an event name.
    ErrorData,
    /// `data: {"object":"error",…}` after some text, then `[DONE]`.
    ErrorObject,
    /// `error: {…}` after some text, which is not a field of SSE.
    ErrorField,
    /// The stream ends after some text, without a finish reason and an end marker.
    NoFinish,
    /// The complete text and the finish reason, but no `[DONE]` (or no `chat.end`).
    NoDone,
    /// Silence after some text, until the client disconnects.
    HangMidStream,
    /// Lines end with CRLF, and every byte is sent separately.
    Split,
    /// Lines end with CRLF.
    Crlf,
    /// Status 500 and an HTML page.
    Html500,
    /// The model is unloaded after some text, as by Auto-Evict.
    EvictedMidStream,
    /// Reports this name of the model that answered.
    WrongModel(String),
    /// Status 400 for `stream: true`.
    RefusesStream,
    /// Answers as if `stream` were false.
    PlainBody,
    /// The first `times` requests get status 429.
    Busy {
        times: usize,
        retry_after: Option<u32>,
    },
    /// The first requests, this many, get status 503, "Loading model".
    LoadingFor(usize),
    /// SSE comments every 50 ms without end.
    PingsOnly,
}

/// A received request and the state of its answer.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    /// Path with query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The JSON body; null if there is none or it is not JSON.
    pub(crate) body: Value,
    /// The client disconnected before the answer ended.
    pub(crate) cancelled: bool,
    pub(crate) tokens_sent: usize,
}

impl FakeStudio {
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
                // Without Nagle's algorithm small events are sent immediately.
                let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
            // Dropping the runtime closes every connection.
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

    /// Returns all requests in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.shared.lock().fault = fault;
    }

    /// Returns the largest number of concurrent answers.
    pub(crate) fn max_concurrent_answers(&self) -> usize {
        self.shared.lock().max_concurrent
    }

    /// Returns the ids of the loaded instances.
    pub(crate) fn loaded_instances(&self) -> Vec<String> {
        let state = self.shared.lock();
        let instances = state.instances.iter();
        instances.map(|instance| instance.id.clone()).collect()
    }

    /// Removes a model from the disk: it is no longer listed and cannot be loaded.
    pub(crate) fn remove(&self, key: &str) {
        let mut state = self.shared.lock();
        state.removed.push(key.to_owned());
        state.instances.retain(|instance| instance.key != key);
    }

    /// Unloads all instances of a model, as the server itself or its user does.
    pub(crate) fn evict(&self, key: &str) {
        let mut state = self.shared.lock();
        state.instances.retain(|instance| instance.key != key);
    }

    /// Returns the number of successful loads, explicit and just-in-time.
    pub(crate) fn load_count(&self) -> usize {
        self.shared.lock().loads
    }

    /// Returns whether a client disconnected before its answer ended; waits for it up to
    /// `timeout`.
    pub(crate) fn wait_cancelled(&self, timeout: Duration) -> bool {
        self.shared.wait_cancelled(timeout)
    }
}

impl Drop for FakeStudio {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _already_stopped = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
