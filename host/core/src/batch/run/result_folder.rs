//! The folder of a run while jobs write to it: its results and its journal.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::event::SharedObserver;
use super::job_inputs::JobInputs;
use super::planned_job::PlannedJob;
use crate::batch::{Committer, Journal, Record, ResultOptions};
use crate::error::{Error, ErrorKind};
use crate::sink;

/// The hint of a result that cannot be written.
pub(super) const DISK_HINT: &str =
    "free disk space or make the folder writable, and run the same command to continue";

/// The results and the journal of a run.
pub(super) struct ResultFolder<'a> {
    pub(super) inputs: &'a JobInputs,
    pub(super) out: &'a Path,
    pub(super) results: ResultOptions,
    pub(super) observer: &'a SharedObserver,
    pub(super) journal: RefCell<Journal>,
    pub(super) committer: Committer,
}

impl ResultFolder<'_> {
    /// Returns the path of a job's result.
    pub(super) fn path(&self, job: &PlannedJob) -> PathBuf {
        self.out.join(&job.name)
    }

    /// Appends a record to the journal.
    pub(super) fn record(&self, record: &Record) -> Result<(), Error> {
        Ok(self.journal.borrow_mut().append(record)?)
    }
}

/// The error of a result that cannot be written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Only this result cannot be written.
    Job(Error),
    /// No result can be written any more.
    Run(Error),
}

impl From<sink::Error> for WriteError {
    fn from(error: sink::Error) -> Self {
        let is_of_disk = error.is_of_disk();
        let error = Error {
            kind: ErrorKind::Broken,
            ..Error::from(error)
        };
        if is_of_disk {
            Self::Run(error.hint(DISK_HINT))
        } else {
            Self::Job(error)
        }
    }
}

/// The journal cannot be written.
impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}
