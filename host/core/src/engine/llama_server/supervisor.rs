//! The supervisor of a server: a process that starts it, and ends it when no process uses it
//! any longer. It outlives the process that started it, so that a server can be shared.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::program::KEY_VARIABLE;
use super::run_files::{Control, RunFiles, ServerRecord};
use super::server_log::{LOG_EXTENSION, copy_output};
use super::tied_child::{detach_and_tie_children, end_group, tied_command};
use crate::engine::{LLAMA_CPP, lease, process_start_time};
use crate::store::{AtomicFile, FileLock};

/// The hidden command that runs this program as the supervisor of a server.
pub const SUPERVISOR_COMMAND: &str = "supervise-server";

/// The start of the line by which the starter confirms that it uses the server. The effective
/// context length follows, if it is known.
pub(super) const READY: &str = "ready";
/// Interval between looks at the users of the server.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The time in which the rest of the output of a server that has ended is read.
const OUTPUT_LIMIT: Duration = Duration::from_millis(300);

/// The request to a supervisor: the first line of its stdin. The second line is [`READY`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SupervisorRequest {
    /// The state folder of servers.
    pub(super) state_dir: PathBuf,
    /// The server; its address and process are filled in.
    pub(super) record: ServerRecord,
    pub(super) program: PathBuf,
    /// The arguments, without the port.
    pub(super) args: Vec<String>,
    /// Pass the API key in a file, since the program takes none from its environment.
    pub(super) has_key_file: bool,
    /// A program that runs the hidden commands.
    pub(super) helper: PathBuf,
}

/// A report of a supervisor: a line of its stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SupervisorReport {
    /// The server listens at this address. It may still be loading.
    Listening(String),
    /// Other processes find the server.
    Shared,
    /// The server cannot be started.
    NotStarted(String),
    /// The server ended, with this status.
    Exited(String),
}

enum SupervisorEvent {
    /// The server names a port at which it listens.
    Port(u16),
    OutputEnded,
    /// The starter uses the server, which has this effective context length.
    Ready(Option<u32>),
    /// The starter has ended, or has no use for the server.
    StarterGone,
}

/// Runs the supervisor of a server until the server has ended. Returns the exit code.
pub fn run_supervisor(input: impl Read + Send + 'static, output: impl Write) -> i32 {
    let mut input = BufReader::new(input);
    let mut line = String::new();
    let request = input
        .read_line(&mut line)
        .ok()
        .and_then(|_| serde_json::from_str::<SupervisorRequest>(&line).ok());
    let Some(request) = request else {
        return 2;
    };
    let mut reports = Reports(output);
    match supervise(request, input, &mut reports) {
        Ok(()) => 0,
        Err(error) => {
            reports.send(&SupervisorReport::NotStarted(error.to_string()));
            1
        }
    }
}

/// Sends reports to the starter, which may have ended.
struct Reports<W>(W);

impl<W: Write> Reports<W> {
    fn send(&mut self, report: &SupervisorReport) {
        if let Ok(mut line) = serde_json::to_string(report) {
            line.push('\n');
            let written = self.0.write_all(line.as_bytes());
            let _starter_gone = written.and_then(|()| self.0.flush());
        }
    }
}

fn supervise(
    request: SupervisorRequest,
    input: impl BufRead + Send + 'static,
    reports: &mut Reports<impl Write>,
) -> io::Result<()> {
    let files = RunFiles::new(&request.state_dir);
    let id = request.record.id.clone();
    let lock = FileLock::try_acquire(&files.path(&id, "lock"))?;
    let Some(_lock) = lock else {
        return Err(io::Error::other("another process has the same server"));
    };
    detach_and_tie_children()?;
    let (sender, events) = mpsc::channel();
    let started = start_server(request, files.clone(), input, sender);
    let mut server = started.inspect_err(|_| files.remove(&id))?;
    let status = server.run(&events, reports);
    // Whatever happened, the server ends here.
    end_group(server.child.id());
    let _already_ended = server.child.kill();
    let _already_reaped = server.child.wait();
    // Before the lock is removed, by which others see the end and read the log.
    wait_for_output(&events);
    files.remove(&id);
    if let Some(status) = status? {
        reports.send(&SupervisorReport::Exited(status.to_string()));
    }
    Ok(())
}

/// Starts the server at a free port, with a record of its process.
fn start_server(
    request: SupervisorRequest,
    files: RunFiles,
    input: impl BufRead + Send + 'static,
    events: Sender<SupervisorEvent>,
) -> io::Result<Server> {
    let port = free_port()?;
    let (reader, writer) = io::pipe()?;
    let log = files.path(&request.record.id, LOG_EXTENSION);
    // Threads first: they can fail, and must not leave a server then.
    let of_input = events.clone();
    thread("input", move || watch_input(input, &of_input))?;
    thread("output", move || {
        copy_output(reader, &log, |port| {
            let _supervisor_ends = events.send(SupervisorEvent::Port(port));
        });
        let _supervisor_ends = events.send(SupervisorEvent::OutputEnded);
    })?;
    let mut command = tied_command(&request.helper, &request.program);
    command.args(&request.args);
    command.arg("--port").arg(port.to_string());
    let mut record = request.record;
    if request.has_key_file {
        let path = files.path(&record.id, "key");
        // The folder is private, and so is the file.
        AtomicFile::replace(&path, record.key.expose().as_bytes())?;
        command.arg("--api-key-file").arg(path);
    } else {
        command.env(KEY_VARIABLE, record.key.expose());
    }
    let stderr = writer.try_clone()?;
    command.stdin(Stdio::null()).stdout(writer).stderr(stderr);
    let child = command.spawn()?;
    // The pipe ends with the server, not with this process.
    drop(command);
    record.process = child.id();
    record.started = process_start_time(record.process);
    // A folder that cannot be written costs sharing, and not the server.
    let _not_shared = files.write_record(&record);
    Ok(Server {
        idle: record.idle_ms.map(Duration::from_millis),
        state_dir: request.state_dir,
        record,
        files,
        child,
        port,
        is_ready: false,
        last_use: Instant::now(),
    })
}

/// Returns a port that is free now. The server is reached at no other, and says itself that it
/// listens there, so that another process cannot take its place.
///
/// # Errors
/// Returns an error if no port is free.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}

/// Reports the lines of the starter, and the end of its input, which it holds open as long as
/// it uses the server.
fn watch_input(mut input: impl BufRead, events: &Sender<SupervisorEvent>) {
    let mut line = String::new();
    let read = input.read_line(&mut line);
    if let (Ok(_), Some(context)) = (read, line.strip_prefix(READY)) {
        let context = context.trim().parse().ok();
        let _supervisor_ends = events.send(SupervisorEvent::Ready(context));
        let _ended = io::copy(&mut input, &mut io::sink());
    }
    let _supervisor_ends = events.send(SupervisorEvent::StarterGone);
}

fn wait_for_output(events: &Receiver<SupervisorEvent>) {
    let end = Instant::now() + OUTPUT_LIMIT;
    while let Ok(event) = events.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if matches!(event, SupervisorEvent::OutputEnded) {
            return;
        }
    }
}

/// A running server.
struct Server {
    state_dir: PathBuf,
    files: RunFiles,
    record: ServerRecord,
    child: Child,
    port: u16,
    /// The starter uses the server, and others may.
    is_ready: bool,
    /// The time without users after which the server ends.
    idle: Option<Duration>,
    last_use: Instant,
}

impl Server {
    /// Returns when the server is to end, or with its status when it has ended.
    fn run(
        &mut self,
        events: &Receiver<SupervisorEvent>,
        reports: &mut Reports<impl Write>,
    ) -> io::Result<Option<ExitStatus>> {
        loop {
            match events.recv_timeout(POLL_INTERVAL) {
                Ok(SupervisorEvent::Port(port)) if port == self.port => {
                    reports.send(&SupervisorReport::Listening(self.url()));
                }
                Ok(SupervisorEvent::Ready(context)) => {
                    self.share(context);
                    reports.send(&SupervisorReport::Shared);
                }
                // Its start was given up.
                Ok(SupervisorEvent::StarterGone) if !self.is_ready => return Ok(None),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                // Both threads have ended; the interval stays the same.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL_INTERVAL),
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let control = self.files.read_control(&self.record.id).unwrap_or_default();
            self.apply(control);
            if control.stop || self.is_idle() && self.withdraw() {
                return Ok(None);
            }
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets other processes use the server.
    fn share(&mut self, context: Option<u32>) {
        self.is_ready = true;
        self.record.context = context.or(self.record.requested_context);
        self.record.url = self.url();
        let _not_shared = self.files.write_record(&self.record);
    }

    /// Applies the time without users that another process asked for.
    fn apply(&mut self, control: Control) {
        if let Some(idle_ms) = control.idle_ms {
            self.idle = Some(Duration::from_millis(idle_ms));
        }
    }

    fn is_used(&self) -> bool {
        let file = self.record.file.to_string_lossy();
        lease::is_used(&self.state_dir, LLAMA_CPP, &file, None)
    }

    /// Returns whether the server has had no user for the time after which it ends.
    fn is_idle(&mut self) -> bool {
        if !self.is_ready || self.is_used() {
            self.last_use = Instant::now();
            return false;
        }
        self.idle
            .is_some_and(|idle| self.last_use.elapsed() >= idle)
    }

    /// Removes the record, so that the server gets no new users, unless it has one. A user
    /// takes a lease, then the start lock, and then reads the record, so it is either seen
    /// here or finds no record.
    fn withdraw(&self) -> bool {
        let start = FileLock::try_acquire(&self.files.start_lock(&self.record.file));
        let is_free = matches!(start, Ok(Some(_)) | Err(_)) && !self.is_used();
        if is_free {
            self.files.remove_record(&self.record.id);
        }
        is_free
    }
}
