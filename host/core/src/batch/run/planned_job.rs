//! A job of the plan, compared with the folder: run, skip, adopt or keep.

use std::path::Path;

use fs_err as fs;

use super::identified_jobs::IdentifiedJob;
use super::setup::BatchOptions;
use super::spool::SpoolEntry;
use crate::batch::{
    self, FolderHistory, JobCoordinates, JobHistory, KeptResult, ResultOnDisk, ResumeDecision,
    ResumeFacts, TokenNeed,
};
use crate::sink::AnswerFile;

/// A job of the plan, with the decision on it.
#[derive(Debug)]
pub struct PlannedJob {
    /// Prompt, combination, input and model.
    pub coordinates: JobCoordinates,
    /// The name of the result file.
    pub name: String,
    /// The digest of what is asked.
    pub identity: String,
    /// The length of all messages in bytes.
    pub prompt_bytes: u64,
    /// The number of its images.
    pub images: usize,
    /// Tokens that the job needs.
    pub need: TokenNeed,
    /// Run, skip, adopt or keep.
    pub decision: ResumeDecision,
    /// The first line of the message if the pack could not resolve the prompt; it will be
    /// asked again.
    pub failure: Option<String>,
    /// The digest of what the job is made of.
    pub(super) key: String,
    /// Results of earlier runs that may be replaced.
    pub(super) own_results: Vec<KeptResult>,
    /// The resolved prompt; absent for a job that is not resolved yet.
    pub(super) resolved: Option<SpoolEntry>,
}

impl PlannedJob {
    /// Returns whether the job is to be run.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.decision, ResumeDecision::Run(_))
    }
}

/// Compares a job with the folder, and decides what is to be done.
pub(super) fn decide(
    coordinates: JobCoordinates,
    identified: IdentifiedJob,
    options: &BatchOptions,
    images: usize,
    history: &FolderHistory,
    out: &Path,
) -> PlannedJob {
    let known = history.jobs.get(&identified.name);
    let path = out.join(&identified.name);
    let on_disk = result_on_disk(&path, known, options.verify);
    let facts = ResumeFacts {
        identity: &identified.identity,
        history: known,
        on_disk,
    };
    PlannedJob {
        coordinates,
        decision: batch::decide(facts, options.changed),
        name: identified.name,
        identity: identified.identity,
        key: identified.key,
        prompt_bytes: identified.prompt_bytes,
        images,
        need: identified.need,
        own_results: known
            .map(|known| known.results().into_iter().cloned().collect())
            .unwrap_or_default(),
        resolved: identified.resolved,
        failure: identified.failure,
    }
}

/// Compares the file of a result with its record in the journal: the size, and with
/// `verify` the digest. A failure in its place does not count as a result.
fn result_on_disk(path: &Path, known: Option<&JobHistory>, verify: bool) -> ResultOnDisk {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return ResultOnDisk::Absent;
    };
    let length = metadata.len();
    let kept = known
        .and_then(|known| known.kept.as_ref())
        .filter(|kept| kept.length == length);
    match kept {
        Some(kept) if verify && !batch::has_digest(path, &kept.sha256) => {
            ResultOnDisk::Modified(length)
        }
        Some(_) => ResultOnDisk::Present(length),
        None if known.is_some() && AnswerFile::is_failure(path) => ResultOnDisk::Absent,
        None => ResultOnDisk::Present(length),
    }
}
