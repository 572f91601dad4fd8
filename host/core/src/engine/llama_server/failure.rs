//! Failures of a llama-server that this program starts.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::server_log::last_lines;
use crate::engine::format_seconds;

/// The lines of a server's output that an error shows.
const LINES_SHOWN: usize = 8;

/// A failure of a llama-server that this program started.
#[derive(Clone, Debug, thiserror::Error)]
pub struct LlamaServerFailure {
    /// The executable.
    pub program: PathBuf,
    /// The model.
    pub model: String,
    /// The problem.
    pub fault: LlamaServerFault,
    /// The last lines of the server's output.
    pub lines: Vec<String>,
    /// The file with its whole output.
    pub log: Option<PathBuf>,
}

/// The problem of a llama-server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LlamaServerFault {
    /// The executable cannot be started, for this reason.
    NotStarted(String),
    /// The executable is not a llama-server, or too old: it lacks this.
    Lacks(String),
    /// It ended before it was ready. Its exit status.
    ExitedEarly(String),
    /// It ended while it was used.
    Crashed,
    /// It was not ready within this time.
    NotReady(Duration),
}

impl LlamaServerFailure {
    /// Creates a failure with the last lines of the server's log.
    pub(super) fn with_log(
        program: PathBuf,
        model: String,
        fault: LlamaServerFault,
        log: PathBuf,
    ) -> Self {
        Self {
            program,
            model,
            fault,
            lines: last_lines(&log, LINES_SHOWN),
            log: Some(log),
        }
    }

    /// Returns whether one of the last lines of the output contains one of `parts`, which are
    /// in lower case.
    #[must_use]
    pub fn log_contains(&self, parts: &[&str]) -> bool {
        self.lines.iter().any(|line| {
            let line = line.to_lowercase();
            parts.iter().any(|part| line.contains(part))
        })
    }
}

impl fmt::Display for LlamaServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (program, model) = (self.program.display(), &self.model);
        match &self.fault {
            LlamaServerFault::NotStarted(cause) => write!(f, "cannot start `{program}`: {cause}"),
            LlamaServerFault::Lacks(part) => write!(
                f,
                "`{program}` is not a llama-server, or too old: it has no {part}"
            ),
            LlamaServerFault::ExitedEarly(status) => {
                write!(f, "llama-server cannot load model `{model}` ({status})")
            }
            LlamaServerFault::Crashed => {
                write!(f, "llama-server ended while it ran model `{model}`")
            }
            LlamaServerFault::NotReady(limit) => write!(
                f,
                "llama-server did not load model `{model}` within {}",
                format_seconds(*limit)
            ),
        }?;
        if !self.lines.is_empty() {
            f.write_str("; its last lines:")?;
        }
        for line in &self.lines {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}
