//! A server that follows a script byte by byte: for faults on the wire that no HTTP library
//! produces, and for small fakes of servers other than LM Studio.
//!
//! It uses threads and blocking sockets, so that nothing changes the bytes of the script. One
//! request per connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json as value};

/// Maximum time until a thread notices that the client disconnected or the server stops.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server; stops when dropped.
pub(crate) struct ScriptedServer {
    host: &'static str,
    port: u16,
    shared: Arc<Shared>,
    accept_thread: Option<JoinHandle<()>>,
}

/// One step on a connection. The server closes the connection after the last step.
pub(crate) enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Send nothing until the client disconnects or the server is dropped.
    Hang,
    /// Reset the connection (TCP RST) instead of closing it.
    Reset,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path with query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The JSON body; null if there is none or it is not JSON.
    pub(crate) body: Value,
}

type Script = dyn Fn(&Request, usize) -> Vec<Step> + Send + Sync;

struct Shared {
    script: Box<Script>,
    is_stopping: AtomicBool,
    history: Mutex<History>,
    disconnected: Condvar,
}

#[derive(Default)]
struct History {
    requests: Vec<Request>,
    disconnects: usize,
}

impl ScriptedServer {
    /// Starts a server. `script` receives the request and the number of earlier requests for
    /// the same path.
    pub(crate) fn start(
        script: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on("127.0.0.1", script)
    }

    /// Starts a server on a loopback address.
    pub(crate) fn start_on(
        host: &'static str,
        script: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            is_stopping: AtomicBool::new(false),
            history: Mutex::default(),
            disconnected: Condvar::new(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            host,
            port,
            shared,
            accept_thread: Some(accepting),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.history.lock().unwrap().requests.clone()
    }

    /// Returns whether a client closed its connection during a step; waits for it up to
    /// `timeout`.
    pub(crate) fn client_disconnected(&self, timeout: Duration) -> bool {
        let history = self.shared.history.lock().unwrap();
        let (history, _) = self
            .shared
            .disconnected
            .wait_timeout_while(history, timeout, |history| history.disconnects == 0)
            .unwrap();
        history.disconnects > 0
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // `accept` has no timeout; a connection wakes it.
        drop(TcpStream::connect((self.host, self.port)));
        if let Some(accepting) = self.accept_thread.take() {
            // A panic of the script is already reported; do not panic again.
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if shared.is_stopping() {
            break;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        connections.push(std::thread::spawn(move || shared.serve(stream)));
    }
    for connection in connections {
        drop(connection.join());
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(POLL_INTERVAL)).unwrap();
        stream.set_write_timeout(Some(POLL_INTERVAL)).unwrap();
        // A client that only checks whether the port is open sends no request.
        let Some(request) = self.read_request(&mut stream) else {
            return;
        };
        let earlier = {
            let mut history = self.history.lock().unwrap();
            let same_path = |other: &&Request| other.path == request.path;
            let earlier = history.requests.iter().filter(same_path).count();
            history.requests.push(request.clone());
            earlier
        };
        for step in (self.script)(&request, earlier) {
            let is_connected = match step {
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
            if self.is_stopping() {
                return;
            }
            if !is_connected {
                self.history.lock().unwrap().disconnects += 1;
                self.disconnected.notify_all();
                return;
            }
        }
        // Shut down in order, so that an RST does not discard the last bytes.
        drop(stream.shutdown(Shutdown::Write));
        self.wait(&mut stream, Some(Instant::now() + POLL_INTERVAL * 10));
    }

    /// Reads one request; `None` if the client disconnects before its end.
    fn read_request(&self, stream: &mut TcpStream) -> Option<Request> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more(stream, &mut bytes)?;
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ').map(str::to_owned);
        let (_method, path) = (first.next()?, first.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        while bytes.len() < head + length {
            self.read_more(stream, &mut bytes)?;
        }
        let text = String::from_utf8_lossy(&bytes[head..]).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Request {
            path,
            headers,
            body,
        })
    }

    fn read_more(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
        let mut buffer = [0; 65_536];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => {
                    bytes.extend_from_slice(&buffer[..n]);
                    return Some(());
                }
                Err(e) if is_timeout(&e) && !self.is_stopping() => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends `bytes`. Returns false if the client disconnected.
    fn send(&self, stream: &mut TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.is_stopping() {
            match stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if is_timeout(&e) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until `deadline`, or without end. Returns false if the client disconnected.
    fn wait(&self, stream: &mut TcpStream, deadline: Option<Instant>) -> bool {
        while !self.is_stopping() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let remaining = deadline.map_or(POLL_INTERVAL, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            // A timeout of zero is an error.
            let timeout = remaining.clamp(Duration::from_millis(1), POLL_INTERVAL);
            stream.set_read_timeout(Some(timeout)).unwrap();
            match stream.read(&mut [0; 1024]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) if is_timeout(&e) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Returns whether a read or write timed out: `WouldBlock` on Unix, `TimedOut` on Windows.
fn is_timeout(error: &std::io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// A complete response with its length.
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

pub(crate) fn json_response(body: impl Into<Value>) -> Vec<Step> {
    response(200, "application/json", body.into().to_string())
}

pub(crate) fn not_found() -> Vec<Step> {
    let body = value!({"error": {"message": "not found", "type": "not_found_error", "code": 404}});
    response(404, "application/json", body.to_string())
}

/// The head of an event stream; the body ends with the connection.
pub(crate) fn sse_head() -> Step {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    Step::Send(head.as_bytes().to_vec())
}

/// An event with a part of the answer. It names no model, so that it fits every request.
pub(crate) fn text_chunk(delta: &str) -> Step {
    event(&value!([{"index": 0, "delta": {"content": delta}, "finish_reason": null}]))
}

/// The last chunk, the usage and the end marker.
pub(crate) fn stream_end(finish_reason: &str) -> Step {
    let mut bytes = Vec::new();
    let last = event(&value!([{"index": 0, "delta": {}, "finish_reason": finish_reason}]));
    let usage = value!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    if let Step::Send(event) = last {
        bytes.extend(event);
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
