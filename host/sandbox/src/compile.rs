//! Compiles packs in a child process.
//!
//! wasmtime does not guarantee that compiling hostile code is safe. It therefore runs in
//! a child process that has limits on memory and time and cannot open files: it reads
//! the component from stdin and writes machine code to stdout. The child keeps reading
//! stdin and exits when it closes, so it never outlives its parent.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::component::create_engine;
use super::error::LoadError;
use super::limits::SandboxLimits;

/// The hidden command that runs this program as the compiler process.
pub const CHILD_COMMAND: &str = "compile-pack";

/// The method of compiling packs other than the built-in one.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In a child process: this program's executable, started with [`CHILD_COMMAND`].
    Child(PathBuf),
    /// In this process. For tests and for embedders that trust their packs.
    InProcess,
}

/// Interval at which the parent checks whether the child has exited.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Maximum number of bytes of the child's stderr that an error contains.
const STDERR_BYTES_MAX: u64 = 4 << 10;

impl Compiler {
    /// Compiles `wasm` to machine code in wasmtime's serialized format.
    pub(super) fn compile(
        &self,
        wasm: &[u8],
        limits: &SandboxLimits,
    ) -> Result<Vec<u8>, LoadError> {
        match self {
            Self::InProcess => compile_in_process(wasm),
            Self::Child(program) => compile_in_child(program, wasm, limits),
        }
    }
}

/// Validates the whole component, then compiles it. wasmtime validates while it
/// compiles; validating first rejects a file with an invalid end before any compilation.
pub(super) fn compile_in_process(wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    wasmparser::Validator::new_with_features(wasm_features())
        .validate_all(wasm)
        .map_err(|error| LoadError::Invalid(error.to_string()))?;
    let engine = create_engine().map_err(|error| LoadError::Compile(error.to_string()))?;
    engine
        .precompile_component(wasm)
        .map_err(|error| LoadError::Compile(format!("{error:#}")))
}

/// Returns the WebAssembly features to validate with. The engine rejects features that
/// it is not configured for.
fn wasm_features() -> wasmparser::WasmFeatures {
    wasmparser::WasmFeatures::default()
}

fn compile_in_child(
    program: &PathBuf,
    wasm: &[u8],
    limits: &SandboxLimits,
) -> Result<Vec<u8>, LoadError> {
    let io_error =
        |action: &str, error: std::io::Error| LoadError::Compile(format!("{action}: {error}"));
    let mut child = Command::new(program)
        .arg(CHILD_COMMAND)
        .arg(limits.compile_memory_bytes.to_string())
        .arg(limits.compile_time.as_secs().to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io_error("cannot start the compiler process", error))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(LoadError::Compile(
            "the compiler process has no pipes".to_owned(),
        ));
    };
    let mut child = ReapedChild(child);
    std::thread::scope(|threads| {
        let (close_stdin, stdin_closed) = std::sync::mpsc::channel::<()>();
        threads.spawn(move || {
            let length = (wasm.len() as u64).to_le_bytes();
            // A write error is ignored: the child's stderr explains it better than a
            // broken pipe.
            let _sent = stdin
                .write_all(&length)
                .and_then(|()| stdin.write_all(wasm));
            // Stdin stays open until the child has exited, because the child exits when
            // it closes.
            let _closed = stdin_closed.recv();
        });
        let code = threads.spawn(move || {
            let mut code = Vec::new();
            stdout
                .take(limits.compile_memory_bytes)
                .read_to_end(&mut code)
                .map(|_| code)
        });
        let stderr_text = threads.spawn(move || {
            let mut text = Vec::new();
            let _read = stderr.take(STDERR_BYTES_MAX).read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let status = wait_with_timeout(&mut child.0, limits.compile_time);
        if !matches!(status, Ok(Some(_))) {
            child.kill();
        }
        drop(close_stdin);
        let code = code
            .join()
            .map_err(|_| LoadError::Compile("a thread panicked".to_owned()))?;
        let stderr_text = stderr_text.join().unwrap_or_default();
        match status.map_err(|error| io_error("cannot wait for the compiler process", error))? {
            None => Err(LoadError::CompileTimeout(limits.compile_time.as_secs())),
            Some(status) if status.success() => {
                code.map_err(|error| io_error("cannot read the compiled code", error))
            }
            Some(status) if status.code() == Some(INVALID_COMPONENT_EXIT) => {
                Err(LoadError::Invalid(stderr_text))
            }
            Some(status) => Err(LoadError::Compile(if stderr_text.is_empty() {
                format!(
                    "the compiler process ended with {status}; it may have run out of memory (limits.pack_compile_memory_bytes)"
                )
            } else {
                stderr_text
            })),
        }
    })
}

/// A child process that is killed and reaped on drop.
struct ReapedChild(Child);

impl ReapedChild {
    fn kill(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Drop for ReapedChild {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the child to exit. Returns `None` after the timeout.
fn wait_with_timeout(
    child: &mut Child,
    timeout: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > timeout {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Exit code of the child for an invalid component.
const INVALID_COMPONENT_EXIT: i32 = 65;

/// Runs the compiler in the child process: reads the component from `stdin` and writes
/// the compiled code to `stdout`. Returns the exit code.
///
/// `memory_bytes` and `seconds` are the limits that the process sets for itself before it
/// reads any byte of the component. `exit` is called when stdin closes.
#[must_use]
pub fn run_compile_child(
    memory_bytes: u64,
    seconds: u64,
    stdin: impl Read + Send + 'static,
    mut stdout: impl Write,
    mut stderr: impl Write,
    exit: impl FnOnce() + Send + 'static,
) -> i32 {
    set_process_limits(memory_bytes, seconds);
    let mut fail = |text: String, code: i32| {
        let _written = writeln!(stderr, "{text}");
        code
    };
    let mut stdin = stdin;
    let wasm = match read_component(&mut stdin) {
        Ok(wasm) => wasm,
        Err(error) => return fail(format!("cannot read the component: {error}"), 1),
    };
    // Waits only for the end of stdin; the parent sends no more data.
    let stdin_thread = std::thread::Builder::new().spawn(move || {
        let _end = std::io::copy(&mut stdin, &mut std::io::sink());
        exit();
    });
    if let Err(error) = stdin_thread {
        return fail(format!("cannot start a thread: {error}"), 1);
    }
    match compile_in_process(&wasm) {
        Ok(code) => match stdout.write_all(&code).and_then(|()| stdout.flush()) {
            Ok(()) => 0,
            Err(error) => fail(format!("cannot write the compiled code: {error}"), 1),
        },
        Err(LoadError::Invalid(reason)) => fail(reason, INVALID_COMPONENT_EXIT),
        Err(error) => fail(error.to_string(), 1),
    }
}

/// Reads the component: its length as little-endian u64, then its bytes.
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

/// Sets the resource limits of this process.
#[cfg(unix)]
fn set_process_limits(memory_bytes: u64, seconds: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |value: u64| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    // Errors are ignored: the parent's timeout applies in any case.
    let _memory = setrlimit(Resource::As, limit(memory_bytes));
    let _cpu = setrlimit(Resource::Cpu, limit(seconds.saturating_mul(core_count())));
    let _written = setrlimit(Resource::Fsize, limit(0));
    let _opened = setrlimit(Resource::Nofile, limit(0));
    let _core = setrlimit(Resource::Core, limit(0));
}

#[cfg(unix)]
fn core_count() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

#[cfg(not(unix))]
fn set_process_limits(_memory_bytes: u64, _seconds: u64) {}
