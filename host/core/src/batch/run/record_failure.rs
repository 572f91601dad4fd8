//! Records the failure of a job: beside its result, or in its place, and in the journal.

use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;

use super::planned_job::PlannedJob;
use super::result_folder::{ResultFolder, WriteError};
use crate::batch::{FailedRecord, Record, exit_code};
use crate::error::Error;
use crate::sink::AnswerFile;

/// Writes the failure of a job beside its result and into the journal. With
/// `--errors inline` it takes the place of the result, if that is free. A failure that
/// cannot be written beside the result is in the journal only.
///
/// # Errors
/// Returns an error if no file can be written any more.
pub(super) fn record_failure(
    folder: &ResultFolder<'_>,
    job: &PlannedJob,
    failure: &Error,
    partial: Option<AnswerFile>,
    attempts: u32,
    seconds: f64,
) -> Result<(), Error> {
    let target = folder.path(job);
    let file = partial.unwrap_or_else(|| AnswerFile::in_folder(&target));
    let reason: Vec<&str> = std::iter::once(&failure.message)
        .chain(&failure.hints)
        .map(String::as_str)
        .collect();
    let reason = reason.join("\n");
    // With `--errors inline` a failure replaces nothing but an earlier failure.
    let is_free = fs::symlink_metadata(&target).is_err() || AnswerFile::is_failure(&target);
    let written = if folder.results.errors_inline && is_free {
        file.fail_inline(&reason).map(Some)
    } else {
        file.fail(&reason).map(|()| None)
    };
    let staged = match written.map_err(WriteError::from) {
        Ok(staged) => staged,
        Err(WriteError::Run(error)) => return Err(error),
        Err(WriteError::Job(error)) => {
            folder.observer.warning(&error.message);
            None
        }
    };
    let record = Record::Failed(Box::new(FailedRecord {
        job: job.name.clone(),
        identity: job.identity.clone(),
        at: Timestamp::now(),
        labels: folder.inputs.labels(job.coordinates),
        exit: exit_code(failure.kind),
        error: failure.message.clone(),
        seconds,
        attempts,
        inline: staged.as_ref().map(|(.., length)| *length),
    }));
    let Some((staged, text, _)) = staged else {
        return folder.record(&record);
    };
    let path = text.path().to_owned();
    drop(text);
    // After the record, so that the file is never taken for a result.
    let publish = move || {
        let is_failure = |path: &Path, _: u64| AnswerFile::is_failure(path);
        // The journal has the failure, also if a full disk keeps the file from its place.
        let _not_in_place = staged.publish(is_failure);
    };
    Ok(folder.committer.flush_then(path, record, publish)?)
}
