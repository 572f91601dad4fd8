//! Publishes the result of a job that is done.

use std::path::Path;

use jiff::Timestamp;

use super::job_inputs::JobInputs;
use super::planned_job::PlannedJob;
use super::result_folder::{ResultFolder, WriteError};
use crate::batch::{self, AnswerRecord, DoneRecord, Record};
use crate::error::Error;
use crate::job::{Answer, JobFacts};
use crate::sink::AnswerFile;
use crate::store::sha256_hex;

/// The suffix of the file with a job's reasoning.
pub(super) const REASONING_SUFFIX: &str = ".reasoning.txt";

/// Gives the result its name, in an order that survives a kill or a power cut at any moment:
/// text, disk, journal, disk, name, disk, journal.
pub(super) async fn publish(
    folder: &ResultFolder<'_>,
    job: &PlannedJob,
    attempt: u32,
    file: AnswerFile,
    answer: &Answer,
    used: JobFacts,
) -> Result<(), WriteError> {
    let done = done_record(folder.inputs, job, attempt, answer, used);
    let mut files = Vec::new();
    if folder.results.keep_raw {
        files.push(file.write_beside(".raw.txt", &answer.raw)?);
    }
    let keeps_reasoning = folder.results.keep_reasoning && !answer.reasoning.is_empty();
    if keeps_reasoning {
        files.push(file.write_beside(REASONING_SUFFIX, &answer.reasoning)?);
    }
    let (staged, text) = file.stage(&answer.text, &answer.raw)?;
    files.push(text);
    let record = Record::Answer(AnswerRecord {
        job: done.job.clone(),
        identity: done.identity.clone(),
        key: done.key.clone(),
        length: done.length,
        sha256: done.sha256.clone(),
        file: staged.name(),
    });
    let flushed = folder.committer.flush(files, record);
    flushed.await.map_err(Error::from)?;
    let is_own = |path: &Path, length: u64| is_own_result(job, path, length);
    if let Some(aside) = staged.publish(is_own)? {
        folder.observer.warning(&format!(
            "{} had been changed by hand; the old file is kept as {}",
            job.name,
            aside.display()
        ));
    }
    if !keeps_reasoning {
        // That of an earlier attempt or an earlier answer.
        AnswerFile::in_folder(&folder.path(job)).remove_beside(REASONING_SUFFIX);
    }
    let record = Record::Done(Box::new(done));
    Ok(folder.committer.record(record).map_err(Error::from)?)
}

/// Returns the journal's record of a job that is done.
fn done_record(
    inputs: &JobInputs,
    job: &PlannedJob,
    attempt: u32,
    answer: &Answer,
    used: JobFacts,
) -> DoneRecord {
    DoneRecord {
        job: job.name.clone(),
        identity: job.identity.clone(),
        key: job.key.clone(),
        length: answer.text.len() as u64,
        sha256: sha256_hex(answer.text.as_bytes()),
        at: Timestamp::now(),
        labels: inputs.labels(job.coordinates),
        prompt_bytes: job.prompt_bytes,
        need: job.need.context,
        prompt_tokens: answer.usage.map(|usage| usage.prompt_tokens),
        completion_tokens: answer.usage.map(|usage| usage.completion_tokens),
        first_token_s: answer.timings.first_token_s,
        seconds: answer.timings.total_s,
        finish: answer.finish.as_ref().and_then(|reason| {
            let name = serde_json::to_value(reason).ok()?;
            name.as_str().map(str::to_owned)
        }),
        seed: used.settings.seed.map(|seed| seed.value),
        attempts: attempt,
        packs: used
            .packs
            .into_iter()
            .map(|pack| (pack.name, pack.digest))
            .collect(),
        warnings: answer.warnings.iter().map(ToString::to_string).collect(),
        adopted: false,
    }
}

/// Returns whether a file in a result's place was written by an earlier run: it has the
/// digest of a result, or is a failure of `--errors inline`.
fn is_own_result(job: &PlannedJob, path: &Path, length: u64) -> bool {
    job.own_results
        .iter()
        .any(|kept| kept.length == length && batch::has_digest(path, &kept.sha256))
        || AnswerFile::is_failure(path)
}
