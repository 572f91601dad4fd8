//! How an answer ended, in the words and exit codes of the command, and what
//! is kept of one that failed.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;

use crate::args::Output;
use crate::error::{Exit, Failure};
use crate::inference::Finish;
use crate::pipeline::{Account, Failed};
use crate::sink::{self, OutputFile};

/// An answer that counts, with what is to be said of it.
pub(super) struct Judged {
    pub(super) warning: Option<&'static str>,
}

/// A cut answer is an answer, with a warning; under `--strict` it is none.
pub(super) fn judge(
    result: Result<Finish, Failed>,
    account: &Account,
    output: &Output,
) -> Result<Judged, Failure> {
    let finish = match result {
        Ok(finish) => finish,
        Err(Failed::Sink(sink::Error::BrokenPipe)) => return Ok(Judged { warning: None }),
        Err(failed) => {
            let has_text = !account.raw.is_empty() || !account.reasoning.is_empty();
            // Lost before the first byte is another thing than broken after it.
            let is_broken = match &failed {
                Failed::Engine(error) => has_text && (error.is_loss() || error.is_unreachable()),
                _ => false,
            };
            let failure = Failure::from(failed);
            return Err(if is_broken {
                Failure {
                    exit: Exit::Broken,
                    ..failure
                }
            } else {
                failure
            });
        }
    };
    let cut = match finish {
        Finish::Length => "the answer was cut at the limit of tokens (--max-tokens)",
        Finish::ContextFull => "the answer was cut because the model's context is full (--context)",
        Finish::Repetition => {
            "the answer was ended because it repeated itself (--max-repeat 0 lets it)"
        }
        Finish::End | Finish::Enough | Finish::Cancelled => return Ok(Judged { warning: None }),
    };
    if output.strict {
        return Err(Failure::new(Exit::Empty, cut));
    }
    Ok(Judged { warning: Some(cut) })
}

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
