//! Keeps the raw text of an answer that failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use lmstrix::job::Answer;
use lmstrix::sink::AnswerFile;
use lmstrix::store::{AtomicFile, Sweep};

use crate::error::{Exit, Failure};

/// Keeps the raw text of a failed answer and adds to the failure where it is. `kept` is
/// the partial file of an output file that could not be completed.
pub(super) fn keep(
    failure: Failure,
    answer: &Answer,
    file: Option<AnswerFile>,
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
        kept = file
            .partial_path()
            .filter(|_| !answer.raw.is_empty())
            .map(Path::to_owned);
        if let Err(error) = file.fail(&reason.join("\n")) {
            failure = failure.hint(lmstrix::error_chain::error_chain(&error));
        }
    }
    // Text that went to stdout is not lost. But processors may have held text back,
    // and stdout itself may be what failed.
    let is_on_stdout = answer.raw == answer.text && failure.exit != Exit::Broken;
    if answer.raw.is_empty() || (kept.is_none() && is_on_stdout) {
        return failure;
    }
    match kept.map_or_else(|| keep_raw(state, &answer.raw), Ok) {
        Ok(path) => failure.hint(format!("the model's output is kept in {}", path.display())),
        Err(error) => failure.hint(format!("the model's output cannot be kept: {error}")),
    }
}

fn keep_raw(state: &Path, raw: &str) -> std::io::Result<PathBuf> {
    let folder = state.join("answers");
    fs::create_dir_all(&folder)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let path = folder.join(format!("{}-{}.txt", now.as_millis(), std::process::id()));
    // A new file is private.
    AtomicFile::replace(&path, raw.as_bytes())?;
    KEPT_ANSWERS.run(&folder);
    Ok(path)
}

/// The answers that are kept.
const KEPT_ANSWERS: Sweep = Sweep {
    prefix: "",
    suffix: ".txt",
    age_max: Duration::from_secs(30 * 24 * 60 * 60),
    bytes_max: 64 << 20,
};
