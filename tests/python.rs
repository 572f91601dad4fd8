//! Creates a Python environment with llama.cpp, once, under `target/`. If that fails, the
//! tests that need it are skipped with a message.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub(crate) const PACKAGES: &[&str] = &["gguf==0.19.0", "numpy==2.4.6", "xllamacpp==2026.10.11549"];

/// Returns the path of the interpreter, or the reason why it is not available.
pub(crate) fn environment() -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(create_environment).clone()
}

fn create_environment() -> Result<PathBuf, String> {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/embedded");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let folder = work.join("python");
    let python = folder.join("bin/python");
    let ready = folder.join("ready.txt");
    if std::fs::read_to_string(&ready).ok() != Some(PACKAGES.concat()) {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
            "",
        )?;
        let install = ["-m", "pip", "install", "--quiet"];
        run(Command::new(&python).args(install).args(PACKAGES), "")?;
        std::fs::write(&ready, PACKAGES.concat()).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

/// Runs a program with `input` as its stdin and returns its stdout. If it fails, the error is
/// its stderr.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let to_message = |error: std::io::Error| error.to_string();
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(to_message)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(to_message)?;
    }
    let output = child.wait_with_output().map_err(to_message)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}
