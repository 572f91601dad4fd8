//! The history of a results folder: what its journal records about jobs, models and runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::journal::{Error, SkippedLines, visit_records};
use super::record::{ContextRecord, HeadRecord, InstanceRecord, JobLabels, Record, RunRecord};

/// A result file as a run wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptResult {
    /// Identity of the job.
    pub identity: String,
    /// Key of the job.
    pub key: String,
    /// Size in bytes.
    pub length: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// The last recorded state of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Sent to the engine.
    Started,
    /// The answer is complete. Holds the result and its temporary file name.
    Answered(KeptResult, String),
    /// The result is on disk.
    Done,
    /// Failed.
    Failed,
}

/// What the journal records about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHistory {
    /// The last recorded state.
    pub state: JobState,
    /// The last result that reached the disk.
    pub kept: Option<KeptResult>,
    /// Labels of the job that produced `kept`.
    pub labels: Option<JobLabels>,
    /// Prompt size in bytes and estimated context length in tokens of that job.
    pub size: (u64, u32),
}

impl JobHistory {
    /// Returns the results that the file may hold: the one of a complete answer, if
    /// the run was killed before its `Done` record, then the last one on disk.
    #[must_use]
    pub fn results(&self) -> Vec<&KeptResult> {
        let answered = match &self.state {
            JobState::Answered(kept, _) => Some(kept),
            _ => None,
        };
        answered.into_iter().chain(&self.kept).collect()
    }
}

/// The history of a results folder, read from its journal.
#[derive(Clone, Debug, Default)]
pub struct FolderHistory {
    /// The first record.
    pub head: Option<HeadRecord>,
    /// The record of the last run.
    pub run: Option<RunRecord>,
    /// Jobs by the file name of their result.
    pub jobs: BTreeMap<String, JobHistory>,
    /// File names of the results on disk, by job key.
    pub by_key: BTreeMap<String, String>,
    /// Context lengths by engine and model name.
    pub contexts: BTreeMap<(String, String), ContextRecord>,
    /// Models that were loaded and not unloaded, by engine and model name.
    pub loaded: BTreeMap<(String, String), InstanceRecord>,
    /// Lines that were skipped.
    pub skipped: SkippedLines,
}

impl FolderHistory {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Head(head) => self.head = self.head.take().or(Some(head)),
            Record::Run(run) => self.run = Some(*run),
            Record::Context(context) => {
                let model = (context.engine.clone(), context.model.clone());
                self.contexts.insert(model, context);
            }
            Record::Loading(instance) | Record::Loaded(instance) => {
                let model = (instance.engine.clone(), instance.model.clone());
                self.loaded.insert(model, instance);
            }
            Record::Unloaded(instance) => {
                self.loaded.remove(&(instance.engine, instance.model));
            }
            Record::Start(start) => self.set_state(start.job, JobState::Started),
            Record::Answer(answer) => {
                let kept = KeptResult {
                    identity: answer.identity,
                    key: answer.key,
                    length: answer.length,
                    sha256: answer.sha256,
                };
                self.set_state(answer.job, JobState::Answered(kept, answer.file));
            }
            Record::Done(done) => {
                self.by_key.insert(done.key.clone(), done.job.clone());
                let history = JobHistory {
                    state: JobState::Done,
                    labels: Some(done.labels),
                    kept: Some(KeptResult {
                        identity: done.identity,
                        key: done.key,
                        length: done.length,
                        sha256: done.sha256,
                    }),
                    size: (done.prompt_bytes, done.need),
                };
                self.jobs.insert(done.job, history);
            }
            Record::Failed(failed) => {
                self.set_state(failed.job, JobState::Failed);
            }
            Record::Aside(_) | Record::End(_) | Record::Other => {}
        }
    }

    fn set_state(&mut self, job: String, state: JobState) {
        let history = self.jobs.entry(job).or_insert_with(|| JobHistory {
            state: JobState::Started,
            kept: None,
            labels: None,
            size: (0, 0),
        });
        history.state = state;
    }
}

/// Reads the history of a folder. It is empty if the folder has no journal.
///
/// # Errors
/// Returns an error if the journal cannot be read or has a newer schema.
pub fn read_history(folder: &Path) -> Result<FolderHistory, Error> {
    let mut history = FolderHistory::default();
    match visit_records(folder, |record| history.apply(record)) {
        Ok(skipped) => history.skipped = skipped,
        Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::super::record::{AnswerRecord, DoneRecord};
    use super::*;

    #[test]
    fn the_last_record_sets_the_state_and_an_earlier_result_is_kept() {
        let done = || {
            Record::Done(Box::new(DoneRecord {
                job: "a".to_owned(),
                identity: "id-a".to_owned(),
                key: "key-a".to_owned(),
                ..DoneRecord::default()
            }))
        };
        let answer = || {
            Record::Answer(AnswerRecord {
                job: "a".to_owned(),
                identity: "i".to_owned(),
                key: "k".to_owned(),
                length: 1,
                sha256: "s".to_owned(),
                file: "a.partial".to_owned(),
            })
        };
        let mut history = FolderHistory::default();
        history.apply(done());
        history.apply(answer());
        let job = &history.jobs["a"];
        assert!(matches!(&job.state, JobState::Answered(_, file) if file == "a.partial"));
        assert_eq!(job.kept.as_ref().unwrap().identity, "id-a");
        assert_eq!(history.by_key["key-a"], "a");
        history.apply(serde_json::from_str(r#"{"kind":"weather","x":1}"#).unwrap());
        let instance = InstanceRecord {
            engine: "e".to_owned(),
            model: "m".to_owned(),
            ..InstanceRecord::default()
        };
        history.apply(Record::Loading(instance.clone()));
        assert_eq!(history.loaded.len(), 1);
        history.apply(Record::Unloaded(instance));
        assert!(history.loaded.is_empty());
    }
}
