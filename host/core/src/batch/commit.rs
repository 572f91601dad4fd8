//! Group commit of results, so that a power cut loses no result that the journal reports, and
//! leaves no incomplete file under a result's name: the text is flushed to the disk, then the
//! record that it is complete, then the text gets its name, then the folder and the `done`
//! record are flushed. One thread does this for the whole run. A job waits until its text and
//! the record are flushed, together with those of the other jobs that wait.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs_err as fs;
use tokio::sync::oneshot;

use super::journal::{Error, Journal};
use super::record::Record;
use crate::store::open_plain;

/// The longest time that a `done` record waits for others.
const GROUP_WAIT: Duration = Duration::from_millis(200);
/// The number of threads that flush files concurrently. Disks handle several flushes
/// at once.
const SYNC_THREADS: usize = 4;

/// A task of the commit thread.
enum Task {
    Flush(Flush),
    /// Append the record of a result that has its name.
    Record(Box<Record>),
}

/// Files that get their names once they and their record are on the disk.
struct Flush {
    files: Vec<StagedFile>,
    record: Record,
    then: Box<dyn FnOnce() + Send>,
}

/// A file that is complete but not flushed.
enum StagedFile {
    Open(fs::File),
    /// Opened to be flushed: failures may come faster than the disk takes them, and each open
    /// file counts against the limit of the process.
    At(PathBuf),
}

impl StagedFile {
    fn sync(&self) -> std::io::Result<()> {
        match self {
            Self::Open(file) => file.sync_data(),
            Self::At(path) => match open_plain(path, fs::OpenOptions::new().write(true)) {
                Ok(file) => file.sync_data(),
                // The record of the failure is what counts.
                Err(_) => Ok(()),
            },
        }
    }
}

/// Flushes results to disk and records them in the journal.
#[derive(Debug)]
pub struct Committer {
    /// Not bounded: a running job waits for its task, and the others hold no open file.
    tasks: mpsc::Sender<Task>,
    thread: JoinHandle<()>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Committer {
    /// Starts the commit thread. `journal` is a handle for this thread alone.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn start(folder: &Path, journal: Journal) -> Result<Self, Error> {
        let (sender, tasks) = mpsc::channel();
        let failure = Arc::new(Mutex::new(None));
        let thread_failure = Arc::clone(&failure);
        let mut commit_loop = CommitLoop {
            tasks,
            folder: folder.to_owned(),
            journal,
            flushes: Vec::new(),
            records: Vec::new(),
            deadline: None,
        };
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                // The failure is stored before the loop and its waiting jobs are dropped.
                if let Err(error) = commit_loop.run()
                    && let Ok(mut failure) = thread_failure.lock()
                {
                    *failure = Some(error);
                }
            })
            .map_err(|source| Error::Write {
                path: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            tasks: sender,
            thread,
            failure,
        })
    }

    /// Flushes the files of a result, then appends and flushes the record that they are
    /// complete. Only after this may they get their names. The work starts at once; the future
    /// waits for it.
    ///
    /// # Errors
    /// Returns an error if they, or an earlier result, could not be written. The run must end
    /// then.
    pub fn flush(
        &self,
        files: Vec<fs::File>,
        record: Record,
    ) -> impl Future<Output = Result<(), Error>> {
        let (done, flushed) = oneshot::channel();
        let files = files.into_iter().map(StagedFile::Open).collect();
        let then = move || {
            // The job may have been cancelled.
            let _gone = done.send(());
        };
        let sent = self.send(Task::Flush(Flush {
            files,
            record,
            then: Box::new(then),
        }));
        async move {
            sent?;
            flushed.await.map_err(|_| self.failure())
        }
    }

    /// Flushes the file at a path and its record as [`Self::flush`] does, and calls `then`. Does
    /// not wait.
    ///
    /// # Errors
    /// Returns an error if an earlier result could not be written. The run must end then.
    pub fn flush_then(
        &self,
        path: PathBuf,
        record: Record,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        self.send(Task::Flush(Flush {
            files: vec![StagedFile::At(path)],
            record,
            then: Box::new(then),
        }))
    }

    /// Appends the record of a result that has its name, once the name is on the disk.
    ///
    /// # Errors
    /// Returns an error if an earlier result could not be committed. The run must end
    /// then.
    pub fn record(&self, record: Record) -> Result<(), Error> {
        self.send(Task::Record(Box::new(record)))
    }

    fn send(&self, task: Task) -> Result<(), Error> {
        self.tasks.send(task).map_err(|_| self.failure())
    }

    /// Waits until all results are committed.
    ///
    /// # Errors
    /// Returns an error if a result could not be committed.
    pub fn finish(self) -> Result<(), Error> {
        let Self {
            tasks,
            thread,
            failure,
        } = self;
        drop(tasks);
        if thread.join().is_err() {
            return Err(thread_died());
        }
        copied(&failure).map_or(Ok(()), Err)
    }

    /// Returns the error that ended the commit thread.
    fn failure(&self) -> Error {
        copied(&self.failure).unwrap_or_else(thread_died)
    }
}

/// Returns the error of a write, which every job that waits for it gets.
fn copied(failure: &Mutex<Option<Error>>) -> Option<Error> {
    let failure = failure.lock().ok()?;
    let Error::Write { path, source } = failure.as_ref()? else {
        return None;
    };
    let source = match source.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(source.kind(), source.to_string()),
    };
    let path = path.clone();
    Some(Error::Write { path, source })
}

fn thread_died() -> Error {
    Error::Write {
        path: PathBuf::from(super::JOURNAL),
        source: std::io::Error::other("the commit thread died"),
    }
}

/// The work of the commit thread.
struct CommitLoop {
    tasks: mpsc::Receiver<Task>,
    folder: PathBuf,
    journal: Journal,
    flushes: Vec<Flush>,
    /// The records of results that have their names.
    records: Vec<Record>,
    /// The time at which the records are committed.
    deadline: Option<Instant>,
}

impl CommitLoop {
    /// Works until the sender is gone.
    fn run(&mut self) -> Result<(), Error> {
        loop {
            let left = self.deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            match self.tasks.recv_timeout(left) {
                Ok(task) => {
                    self.take(task);
                    while let Ok(task) = self.tasks.try_recv() {
                        self.take(task);
                    }
                    self.flush_texts()?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.commit_records(),
            }
            if self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
            {
                self.commit_records()?;
            }
        }
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Flush(flush) => self.flushes.push(flush),
            Task::Record(record) => {
                self.records.push(*record);
                self.deadline
                    .get_or_insert_with(|| Instant::now() + GROUP_WAIT);
            }
        }
    }

    fn flush_texts(&mut self) -> Result<(), Error> {
        if self.flushes.is_empty() {
            return Ok(());
        }
        let files: Vec<&StagedFile> = self.flushes.iter().flat_map(|flush| &flush.files).collect();
        flush_files(&files).map_err(|source| Error::Write {
            path: self.folder.clone(),
            source,
        })?;
        for flush in &self.flushes {
            self.journal.append(&flush.record)?;
        }
        self.journal.sync()?;
        for flush in self.flushes.drain(..) {
            (flush.then)();
        }
        Ok(())
    }

    fn commit_records(&mut self) -> Result<(), Error> {
        self.deadline = None;
        if self.records.is_empty() {
            return Ok(());
        }
        // Some systems cannot flush a folder, so an error is ignored.
        if let Ok(folder) = fs::File::open(&self.folder) {
            let _unsupported = folder.sync_all();
        }
        for record in self.records.drain(..) {
            self.journal.append(&record)?;
        }
        self.journal.sync()
    }
}

fn flush_files(files: &[&StagedFile]) -> std::io::Result<()> {
    let chunk_length = files.len().div_ceil(SYNC_THREADS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(chunk_length)
            .map(|files| scope.spawn(move || files.iter().try_for_each(|file| file.sync())))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("the flush thread died")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::history::read_history;
    use crate::batch::record::{AnswerRecord, DoneRecord};

    fn answer(job: &str) -> Record {
        Record::Answer(AnswerRecord {
            job: job.to_owned(),
            ..AnswerRecord::default()
        })
    }

    fn done(job: &str) -> Record {
        Record::Done(Box::new(DoneRecord {
            job: job.to_owned(),
            ..DoneRecord::default()
        }))
    }

    #[tokio::test]
    async fn finish_commits_all_results() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let committer = Committer::start(folder.path(), journal).unwrap();
        let names: Vec<String> = (0..600).map(|number| format!("{number}.txt")).collect();
        let flushes: Vec<_> = names
            .iter()
            .map(|name| {
                let file = fs::File::create(folder.path().join(name)).unwrap();
                committer.flush(vec![file], answer(name))
            })
            .collect();
        // The first one waits while the others are sent.
        for (flush, name) in flushes.into_iter().zip(&names) {
            flush.await.unwrap();
            committer.record(done(name)).unwrap();
        }
        committer.finish().unwrap();
        assert_eq!(read_history(folder.path()).unwrap().jobs.len(), 600);
    }

    /// Linux cannot flush this device.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_file_that_cannot_be_flushed_ends_the_run_without_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let committer = Committer::start(folder.path(), journal).unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        let error = committer.flush(vec![file], answer("a")).await.unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        committer.record(done("a")).unwrap_err();
        committer.finish().unwrap_err();
        assert!(read_history(folder.path()).unwrap().jobs.is_empty());
    }
}
