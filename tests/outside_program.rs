//! Runs programs that are not part of this repository: Python, Node.js and their installers.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The number of times that a download is tried.
const DOWNLOAD_ATTEMPTS: usize = 3;

/// Runs a program with `input` as its stdin and returns its stdout. If it cannot be started or
/// fails, the error is its name and its stderr.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let to_message = |error: std::io::Error| format!("{name}: {error}");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(to_message)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(to_message)?;
    }
    let output = child.wait_with_output().map_err(to_message)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}: {stderr}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"))
}

/// The pause before a download is tried again.
const DOWNLOAD_PAUSE: Duration = Duration::from_secs(5);

/// Runs an installer, again if it fails: a registry may be unreachable for a moment.
pub(crate) fn download(command: &mut Command) -> Result<(), String> {
    let mut attempt = 1;
    loop {
        let Err(message) = run(command, "") else {
            return Ok(());
        };
        if attempt == DOWNLOAD_ATTEMPTS {
            return Err(message);
        }
        eprintln!("download {attempt} of {DOWNLOAD_ATTEMPTS}: {message}");
        attempt += 1;
        std::thread::sleep(DOWNLOAD_PAUSE);
    }
}
