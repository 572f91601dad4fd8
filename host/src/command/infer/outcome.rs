//! How an answer ended, in the words and exit codes of the command, and what
//! is kept of one that failed.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;

use crate::command::answer_check::Judged;
use crate::error::{Exit, Failure};
use crate::job::Account;
use crate::sink::{self, OutputFile};

/// What it means that the output file cannot be completed.
pub(super) fn completed(error: sink::Error) -> Result<Judged, Failure> {
    match error {
        // Whoever reads the other end of a pipe has had enough.
        sink::Error::BrokenPipe => Ok(Judged { warning: None }),
        other => Err(Failure {
            exit: Exit::Broken,
            ..Failure::from(other)
        }),
    }
}

/// Keeps what the model said when the answer failed, and says where. `kept` is
/// where a file that could not be completed left it.
pub(super) fn keep(
    failure: Failure,
    account: &Account,
    file: Option<OutputFile>,
    kept: Option<PathBuf>,
    state: &Path,
) -> Failure {
    let mut failure = failure;
    let mut kept = kept.filter(|path| path.exists());
    if let Some(file) = file {
        let reason: Vec<&str> = std::iter::once(&failure.message)
            .chain(&failure.hints)
            .map(String::as_str)
            .collect();
        kept = file.partial().filter(|_| !account.raw.is_empty());
        if let Err(e) = file.fail(&reason.join("\n")) {
            failure = failure.hint(crate::error::chain(&e));
        }
    }
    // What went to stdout is there. But processors may have kept text back,
    // and stdout itself may be what failed.
    let is_on_stdout = account.raw == account.text && failure.exit != Exit::Broken;
    if account.raw.is_empty() || (kept.is_none() && is_on_stdout) {
        return failure;
    }
    match kept.map_or_else(|| keep_raw(state, &account.raw), Ok) {
        Ok(path) => failure.hint(format!("what the model said is kept in {}", path.display())),
        Err(e) => failure.hint(format!("what the model said cannot be kept: {e}")),
    }
}

fn keep_raw(state: &Path, raw: &str) -> std::io::Result<PathBuf> {
    let folder = state.join("answers");
    fs::create_dir_all(&folder)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let path = folder.join(format!("{}-{}.txt", now.as_millis(), std::process::id()));
    fs::write(&path, raw)?;
    Ok(path)
}
