//! The supervisor of a server: a process that starts it, and ends it when no process uses it
//! any longer. It outlives the process that started it, so that a server can be shared.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::program::KEY_VARIABLE;
use super::run_files::{Control, RunFiles, ServerRecord};
use super::server_log::copy_output;
use super::tied_child::{lead_children, tied_command};
use crate::engine::{LLAMA_CPP, lease, process_start_time};
use crate::store::FileLock;

/// The hidden command that runs this program as the supervisor of a server.
pub const SUPERVISOR_COMMAND: &str = "supervise-server";

/// Interval between looks at the users of the server.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The time in which the rest of the output of a server that has ended is read.
const OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// What a supervisor is started for, as the first line of its stdin.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SupervisorRequest {
    /// The state folder of servers.
    pub(super) state_dir: PathBuf,
    /// The server; its address and process are filled in.
    pub(super) record: ServerRecord,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    /// Pass the API key in a file, since the program takes none from its environment.
    pub(super) has_key_file: bool,
    /// A program that runs the hidden commands.
    pub(super) helper: PathBuf,
    /// The time without users after which the server ends, in milliseconds; `None` keeps it
    /// until it is unloaded.
    pub(super) idle_ms: Option<u64>,
}

/// What a supervisor reports, as lines of its stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SupervisorReport {
    /// The server listens at this address. It may still be loading.
    Listening(String),
    /// The server listens at a port that it does not name.
    UnknownPort,
    /// The server cannot be started.
    NotStarted(String),
    /// The server ended, with this status.
    Exited(String),
}

enum SupervisorEvent {
    Port(u16),
    OutputEnded,
    /// The process that started the supervisor has ended, or has no use for the server.
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
            let _starter_gone = self
                .0
                .write_all(line.as_bytes())
                .and_then(|()| self.0.flush());
        }
    }
}

fn supervise(
    request: SupervisorRequest,
    input: impl Read + Send + 'static,
    reports: &mut Reports<impl Write>,
) -> io::Result<()> {
    let files = RunFiles::new(&request.state_dir);
    let id = request.record.id.clone();
    let lock = FileLock::try_acquire(&files.path(&id, "lock"))?;
    let Some(_lock) = lock else {
        return Err(io::Error::other("another process has the same server"));
    };
    lead_children()?;
    let (sender, events) = mpsc::channel();
    let child = spawn(&request, &files, sender.clone());
    let child = child.inspect_err(|_| files.remove(&id))?;
    watch_input(input, sender);
    let mut server = Server {
        idle: request.idle_ms.map(Duration::from_millis),
        state_dir: request.state_dir,
        record: request.record,
        files,
        child,
        last_use: Instant::now(),
    };
    let status = server.run(&events, reports);
    // Whatever happened, the server ends here.
    let _already_ended = server.child.kill();
    let _already_reaped = server.child.wait();
    server.files.remove(&id);
    if let Some(status) = status? {
        wait_for_output(&events);
        reports.send(&SupervisorReport::Exited(status.to_string()));
    }
    Ok(())
}

/// Starts the server, and a thread that copies its output into its log.
fn spawn(
    request: &SupervisorRequest,
    files: &RunFiles,
    events: Sender<SupervisorEvent>,
) -> io::Result<Child> {
    let record = &request.record;
    let mut command = tied_command(&request.helper, &request.program);
    command.args(&request.args);
    if request.has_key_file {
        let path = files.path(&record.id, "key");
        // The folder is private, and so is the file.
        crate::store::AtomicFile::replace(&path, record.key.as_bytes())?;
        command.arg("--api-key-file").arg(path);
    } else {
        command.env(KEY_VARIABLE, &record.key);
    }
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let child = command.spawn()?;
    let log = files.path(&record.id, super::server_log::LOG_EXTENSION);
    std::thread::spawn(move || {
        copy_output(reader, &log, |port| {
            let _supervisor_ends = events.send(SupervisorEvent::Port(port));
        });
        let _supervisor_ends = events.send(SupervisorEvent::OutputEnded);
    });
    Ok(child)
}

/// Reports the end of the input, which the starter holds open as long as it uses the server.
fn watch_input(mut input: impl Read + Send + 'static, events: Sender<SupervisorEvent>) {
    std::thread::spawn(move || {
        let _ended = io::copy(&mut input, &mut io::sink());
        let _supervisor_ends = events.send(SupervisorEvent::StarterGone);
    });
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
                Ok(SupervisorEvent::Port(port)) => self.listens(port, reports)?,
                Ok(SupervisorEvent::OutputEnded | SupervisorEvent::StarterGone)
                | Err(RecvTimeoutError::Timeout) => {}
                // Both threads have ended; the interval stays the same.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL_INTERVAL),
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if self.is_stopped() || self.is_idle() && self.takes_leave()? {
                return Ok(None);
            }
        }
    }

    /// Lets other processes use the server.
    fn listens(&mut self, port: u16, reports: &mut Reports<impl Write>) -> io::Result<()> {
        if port == 0 {
            reports.send(&SupervisorReport::UnknownPort);
            return Ok(());
        }
        if !self.record.url.is_empty() {
            return Ok(());
        }
        self.record.url = format!("http://127.0.0.1:{port}");
        self.record.process = self.child.id();
        self.record.started = process_start_time(self.child.id());
        self.files.write_record(&self.record)?;
        reports.send(&SupervisorReport::Listening(self.record.url.clone()));
        Ok(())
    }

    /// Reads what other processes ask for. Returns whether the server is to end now.
    fn is_stopped(&mut self) -> bool {
        let Some(Control { stop, idle_ms }) = self.files.read_control(&self.record.id) else {
            return false;
        };
        if let Some(idle_ms) = idle_ms {
            self.idle = Some(Duration::from_millis(idle_ms));
        }
        stop
    }

    fn is_used(&self) -> bool {
        let file = self.record.file.to_string_lossy();
        lease::is_used(&self.state_dir, LLAMA_CPP, &file, None)
    }

    /// Returns whether the server has had no user for the time after which it ends.
    fn is_idle(&mut self) -> bool {
        if self.is_used() {
            self.last_use = Instant::now();
            return false;
        }
        self.idle
            .is_some_and(|idle| self.last_use.elapsed() >= idle)
    }

    /// Takes the record back, unless a new user has found it in the meantime. A user first
    /// takes a lease and then reads the record, so it is either seen here or finds no record.
    fn takes_leave(&mut self) -> io::Result<bool> {
        self.files.remove_record(&self.record.id);
        if !self.is_used() {
            return Ok(true);
        }
        self.last_use = Instant::now();
        if !self.record.url.is_empty() {
            self.files.write_record(&self.record)?;
        }
        Ok(false)
    }
}
