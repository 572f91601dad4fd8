//! Compiling a pack, in a process of its own.
//!
//! Compiling hostile code is outside what wasmtime promises to survive, so it
//! happens in a child that has limits on memory and time and can open no files: it
//! reads the component from stdin and writes machine code to stdout. The child
//! keeps listening on stdin and leaves when it closes, so it never outlives its
//! parent, however that ends.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::component::engine;
use super::error::LoadError;
use super::limits::Limits;

/// The hidden command that makes this program the compiling child.
pub const CHILD_COMMAND: &str = "compile-pack";

/// Who compiles packs that are not our own.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This program, started with [`CHILD_COMMAND`].
    Child(PathBuf),
    /// This process. For tests and for embedders that trust their packs.
    InProcess,
}

/// How often the parent looks whether the child is done.
const POLL: Duration = Duration::from_millis(2);
/// How much of the child's complaints is shown.
const COMPLAINT_BYTES: u64 = 4 << 10;

impl Compiler {
    /// Machine code for `wasm`, as wasmtime serializes it.
    pub(super) fn compile(&self, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, LoadError> {
        match self {
            Self::InProcess => compile_here(wasm),
            Self::Child(program) => compile_in_child(program, wasm, limits),
        }
    }
}

/// Validates all of it, then compiles. wasmtime validates as it goes; a file
/// that is broken at its end is refused before anything is compiled.
pub(super) fn compile_here(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    wasmparser::Validator::new_with_features(features())
        .validate_all(wasm)
        .map_err(|e| LoadError::Invalid(e.to_string()))?;
    let engine = engine().map_err(|e| LoadError::Compile(e.to_string()))?;
    engine
        .precompile_component(wasm)
        .map_err(|e| LoadError::Compile(format!("{e:#}")))
}

fn features() -> wasmparser::WasmFeatures {
    // What the engine is configured for; it refuses the rest anyway.
    wasmparser::WasmFeatures::default()
}

fn compile_in_child(program: &PathBuf, wasm: &[u8], limits: &Limits) -> Result<Vec<u8>, LoadError> {
    let failed = |what: &str, e: std::io::Error| LoadError::Compile(format!("{what}: {e}"));
    let mut child = Command::new(program)
        .arg(CHILD_COMMAND)
        .arg(limits.compile_memory_bytes.to_string())
        .arg(limits.compile_time.as_secs().to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("the compiling process does not start", e))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(LoadError::Compile(
            "the compiling process has no pipes".to_owned(),
        ));
    };
    let mut child = Reaped(child);
    std::thread::scope(|threads| {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        threads.spawn(move || {
            let length = (wasm.len() as u64).to_le_bytes();
            // A child that died says why on stderr; the broken pipe says less.
            let _sent = stdin
                .write_all(&length)
                .and_then(|()| stdin.write_all(wasm));
            // Stdin stays open until the child is done: its end means "leave".
            let _done = held.recv();
        });
        let code = threads.spawn(move || {
            let mut code = Vec::new();
            stdout
                .take(limits.compile_memory_bytes)
                .read_to_end(&mut code)
                .map(|_| code)
        });
        let complaint = threads.spawn(move || {
            let mut text = Vec::new();
            let _read = stderr.take(COMPLAINT_BYTES).read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let status = wait(&mut child.0, limits.compile_time);
        if !matches!(status, Ok(Some(_))) {
            child.end();
        }
        drop(hold);
        let code = code
            .join()
            .map_err(|_| LoadError::Compile("a thread died".to_owned()))?;
        let complaint = complaint.join().unwrap_or_default();
        match status.map_err(|e| failed("waiting for the compiling process", e))? {
            None => Err(LoadError::CompileTime(limits.compile_time.as_secs())),
            Some(status) if status.success() => {
                code.map_err(|e| failed("reading the compiled code", e))
            }
            Some(status) if status.code() == Some(INVALID) => Err(LoadError::Invalid(complaint)),
            Some(status) => Err(LoadError::Compile(if complaint.is_empty() {
                format!(
                    "the compiling process ended with {status}; it may have run out of its memory (limits.pack_compile_memory_bytes)"
                )
            } else {
                complaint
            })),
        }
    })
}

/// A child that is ended and reaped, whatever happens to its parent's thread.
struct Reaped(Child);

impl Reaped {
    fn end(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        self.end();
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// The child's exit code for a component that is not valid.
const INVALID: i32 = 65;

/// What the child does. Returns its exit code.
///
/// `memory_bytes` and `seconds` are the limits that it puts on itself before it
/// looks at a single byte of the component.
#[must_use]
pub fn child(
    memory_bytes: u64,
    seconds: u64,
    stdin: impl Read + Send + 'static,
    mut stdout: impl Write,
    mut stderr: impl Write,
    leave: impl FnOnce() + Send + 'static,
) -> i32 {
    limit_self(memory_bytes, seconds);
    let mut complain = |text: String, code: i32| {
        let _written = writeln!(stderr, "{text}");
        code
    };
    let mut stdin = stdin;
    let wasm = match read_component(&mut stdin) {
        Ok(wasm) => wasm,
        Err(e) => return complain(format!("reading the component: {e}"), 1),
    };
    // Only the end of stdin is waited for here; nothing further is sent.
    let watch = std::thread::Builder::new().spawn(move || {
        let _end = std::io::copy(&mut stdin, &mut std::io::sink());
        leave();
    });
    if let Err(e) = watch {
        return complain(format!("starting a thread: {e}"), 1);
    }
    match compile_here(&wasm) {
        Ok(code) => match stdout.write_all(&code).and_then(|()| stdout.flush()) {
            Ok(()) => 0,
            Err(e) => complain(format!("writing the compiled code: {e}"), 1),
        },
        Err(LoadError::Invalid(why)) => complain(why, INVALID),
        Err(e) => complain(e.to_string(), 1),
    }
}

fn read_component(stdin: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let mut wasm = Vec::new();
    stdin
        .take(u64::from_le_bytes(length))
        .read_to_end(&mut wasm)?;
    if wasm.len() as u64 != u64::from_le_bytes(length) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(wasm)
}

#[cfg(unix)]
fn limit_self(memory_bytes: u64, seconds: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let cap = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // Where the system refuses a limit, the parent's clock still holds.
    let _memory = setrlimit(Resource::As, cap(memory_bytes));
    let _cpu = setrlimit(Resource::Cpu, cap(seconds.saturating_mul(cores())));
    let _written = setrlimit(Resource::Fsize, cap(0));
    let _opened = setrlimit(Resource::Nofile, cap(0));
    let _core = setrlimit(Resource::Core, cap(0));
}

#[cfg(unix)]
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

#[cfg(not(unix))]
fn limit_self(_memory_bytes: u64, _seconds: u64) {}
