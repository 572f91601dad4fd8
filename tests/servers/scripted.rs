//! A server that does exactly what a script says, byte for byte: for faults of
//! the wire that no HTTP library would produce, and for small doubles of
//! servers that have no double of their own.
//!
//! Plain threads and blocking sockets, so that nothing stands between the
//! script and the wire. One request per connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json as value};

/// How soon a thread notices that the client left or that the server ends.
const TICK: Duration = Duration::from_millis(20);

/// A running server; it ends when dropped.
pub(crate) struct Scripted {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// One thing that happens on a connection. After the last it is closed.
pub(crate) enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Silence until the client leaves or the server is dropped.
    Hang,
    /// A real RST instead of an orderly end.
    Reset,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Null when there is none or it is not JSON.
    pub(crate) body: Value,
}

type Answer = dyn Fn(&Request, usize) -> Vec<Step> + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    ending: AtomicBool,
    seen: Mutex<Seen>,
    left: Condvar,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    left: usize,
}

impl Scripted {
    /// `answer` gets the request and how many came for its path before.
    pub(crate) fn start(
        answer: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            ending: AtomicBool::new(false),
            seen: Mutex::default(),
            left: Condvar::new(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    /// Whether some client closed its connection while a step was under way;
    /// waits for that up to `within`.
    pub(crate) fn left(&self, within: Duration) -> bool {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, _) = self
            .shared
            .left
            .wait_timeout_while(seen, within, |seen| seen.left == 0)
            .unwrap();
        seen.left > 0
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // `accept` cannot be given a time limit; a connection wakes it.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            // A script that panicked has said so already; no second panic here.
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        if shared.ending() {
            break;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        serving.push(std::thread::spawn(move || shared.serve(stream)));
    }
    for it in serving {
        drop(it.join());
    }
}

impl Shared {
    fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TICK)).unwrap();
        stream.set_write_timeout(Some(TICK)).unwrap();
        // A client that only looks whether the port is open asks nothing.
        let Some(request) = self.read(&mut stream) else {
            return;
        };
        let before = {
            let mut seen = self.seen.lock().unwrap();
            let before = seen.requests.iter().filter(|it| it.path == request.path);
            let before = before.count();
            seen.requests.push(request.clone());
            before
        };
        for step in (self.answer)(&request, before) {
            let stays = match step {
                Step::Send(bytes) => self.send(&mut stream, &bytes),
                Step::Pause(time) => self.wait(&mut stream, Some(Instant::now() + time)),
                Step::Hang => self.wait(&mut stream, None),
                Step::Reset => {
                    socket2::SockRef::from(&stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                    return;
                }
            };
            if self.ending() {
                return;
            }
            if !stays {
                self.seen.lock().unwrap().left += 1;
                self.left.notify_all();
                return;
            }
        }
        // An end in good order, so that the last bytes are not lost to an RST.
        drop(stream.shutdown(Shutdown::Write));
        self.wait(&mut stream, Some(Instant::now() + TICK * 10));
    }

    /// Reads one request; `None` when the client leaves before its end.
    fn read(&self, stream: &mut TcpStream) -> Option<Request> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(stream, &mut bytes)?;
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ').map(str::to_owned);
        let (_method, path) = (first.next()?, first.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|it| it.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        while bytes.len() < head + length {
            self.more(stream, &mut bytes)?;
        }
        let text = String::from_utf8_lossy(&bytes[head..]).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Request {
            path,
            headers,
            body,
        })
    }

    fn more(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
        let mut buffer = [0; 65_536];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => {
                    bytes.extend_from_slice(&buffer[..n]);
                    return Some(());
                }
                Err(e) if not_yet(&e) && !self.ending() => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether the client took all of it.
    fn send(&self, stream: &mut TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.ending() {
            match stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if not_yet(&e) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits, and watches the client meanwhile: whether it stayed.
    fn wait(&self, stream: &mut TcpStream, until: Option<Instant>) -> bool {
        while !self.ending() && until.is_none_or(|it| Instant::now() < it) {
            let left = until.map_or(TICK, |it| it.saturating_duration_since(Instant::now()));
            // A time limit of zero is an error.
            let tick = left.clamp(Duration::from_millis(1), TICK);
            stream.set_read_timeout(Some(tick)).unwrap();
            match stream.read(&mut [0; 1024]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) if not_yet(&e) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Unix says `WouldBlock` when a time limit passes, Windows `TimedOut`.
fn not_yet(error: &std::io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// A whole answer with its length.
pub(crate) fn response(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

pub(crate) fn json(body: impl Into<Value>) -> Vec<Step> {
    response(200, "application/json", body.into().to_string())
}

pub(crate) fn not_found() -> Vec<Step> {
    let body = value!({"error": {"message": "not found", "type": "not_found_error", "code": 404}});
    response(404, "application/json", body.to_string())
}

/// The head of a stream; the body ends with the connection.
pub(crate) fn sse_head() -> Step {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    Step::Send(head.as_bytes().to_vec())
}

/// A piece of the answer. It names no model, so that it fits every request.
pub(crate) fn chunk(delta: &str) -> Step {
    event(&value!([{"index": 0, "delta": {"content": delta}, "finish_reason": null}]))
}

/// The last chunk, the usage and the end mark.
pub(crate) fn end(finish: &str) -> Step {
    let mut bytes = Vec::new();
    let last = event(&value!([{"index": 0, "delta": {}, "finish_reason": finish}]));
    let usage = value!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    if let Step::Send(it) = last {
        bytes.extend(it);
    }
    bytes.extend(format!("data: {usage}\n\ndata: [DONE]\n\n").into_bytes());
    Step::Send(bytes)
}

fn event(choices: &Value) -> Step {
    let data = value!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": choices,
    });
    Step::Send(format!("data: {data}\n\n").into_bytes())
}
