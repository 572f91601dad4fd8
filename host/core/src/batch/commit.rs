//! Group commit of results, so that a power cut loses no result that the journal reports, and
//! leaves no torn file under a result's name: the text and the journal so far are flushed to
//! the disk, then the text gets its name, then the folder and the `done` record are flushed.
//! One thread does this for the whole run, for all jobs that wait at the same time.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs_err as fs;
use tokio::sync::oneshot;

use super::journal::{Error, Journal};
use super::record::Record;

/// The longest time that a `done` record waits for others.
const GROUP_WAIT: Duration = Duration::from_millis(200);
/// The number of threads that flush files concurrently. Disks handle several flushes
/// at once.
const SYNC_THREADS: usize = 4;

/// What the commit thread does for a job.
#[derive(Debug)]
enum Task {
    /// Flush a text that has no name yet.
    Flush(fs::File, oneshot::Sender<()>),
    /// Record a result that has its name.
    Record(Record),
}

/// Flushes results to disk and records them in the journal.
#[derive(Debug)]
pub struct Committer {
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
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
        let mut rounds = Rounds {
            tasks,
            folder: folder.to_owned(),
            journal,
            records: Vec::new(),
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                // Jobs that wait are told only once the failure can be taken.
                if let Err(error) = rounds.run()
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
            tasks: Some(sender),
            thread: Some(thread),
            failure,
        })
    }

    /// Waits until the text of a result and the journal so far are on the disk. Only then may
    /// the text get its name.
    ///
    /// # Errors
    /// Returns an error if they, or an earlier result, could not be written. The run must end
    /// then.
    pub async fn flush(&self, file: fs::File) -> Result<(), Error> {
        let (done, is_done) = oneshot::channel();
        self.send(Task::Flush(file, done))?;
        let failed = |_| self.take_failure().unwrap_or_else(thread_died);
        is_done.await.map_err(failed)
    }

    /// Appends the record of a result that has its name, once the name is on the disk.
    ///
    /// # Errors
    /// Returns an error if an earlier result could not be committed. The run must end
    /// then.
    pub fn record(&self, record: Record) -> Result<(), Error> {
        self.send(Task::Record(record))
    }

    fn send(&self, task: Task) -> Result<(), Error> {
        let sent = self.tasks.as_ref().map(|tasks| tasks.send(task));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.take_failure().unwrap_or_else(thread_died)),
        }
    }

    /// Waits until all results are committed.
    ///
    /// # Errors
    /// Returns an error if a result could not be committed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.tasks = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(thread_died());
        }
        self.take_failure().map_or(Ok(()), Err)
    }

    fn take_failure(&self) -> Option<Error> {
        let mut failure = self.failure.lock().ok()?;
        failure.take()
    }
}

fn thread_died() -> Error {
    Error::Write {
        path: PathBuf::from(super::JOURNAL),
        source: std::io::Error::other("the commit thread died"),
    }
}

/// The work of the commit thread. Each round flushes what waits.
struct Rounds {
    tasks: mpsc::Receiver<Task>,
    folder: PathBuf,
    journal: Journal,
    /// The records of results that have their names.
    records: Vec<Record>,
    /// The jobs whose texts this round flushes.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Rounds {
    /// Works until all senders are gone.
    fn run(&mut self) -> Result<(), Error> {
        let mut is_open = true;
        while is_open {
            let Ok(first) = self.tasks.recv() else { break };
            let mut files = Vec::new();
            self.take(first, &mut files);
            let deadline = Instant::now() + GROUP_WAIT;
            // A text does not wait for others; those that came meanwhile are taken along.
            while files.is_empty() && is_open {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.tasks.recv_timeout(left) {
                    Ok(task) => self.take(task, &mut files),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => is_open = false,
                }
            }
            while let Ok(task) = self.tasks.try_recv() {
                self.take(task, &mut files);
            }
            self.flush(&files)?;
        }
        Ok(())
    }

    fn take(&mut self, task: Task, files: &mut Vec<fs::File>) {
        match task {
            Task::Flush(file, done) => {
                files.push(file);
                self.waiting.push(done);
            }
            Task::Record(record) => self.records.push(record),
        }
    }

    fn flush(&mut self, files: &[fs::File]) -> Result<(), Error> {
        flush_files(files).map_err(|source| Error::Write {
            path: self.folder.clone(),
            source,
        })?;
        if !self.records.is_empty() {
            // Some systems cannot flush a folder, so an error is ignored.
            if let Ok(folder) = fs::File::open(&self.folder) {
                let _unsupported = folder.sync_all();
            }
            for record in self.records.drain(..) {
                self.journal.append(&record)?;
            }
        }
        self.journal.sync()?;
        for done in self.waiting.drain(..) {
            // The job may have been cancelled.
            let _gone = done.send(());
        }
        Ok(())
    }
}

fn flush_files(files: &[fs::File]) -> std::io::Result<()> {
    let flush = |files: &[fs::File]| files.iter().try_for_each(fs::File::sync_data);
    if let [file] = files {
        return file.sync_data();
    }
    let chunk_length = files.len().div_ceil(SYNC_THREADS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(chunk_length)
            .map(|files| scope.spawn(move || flush(files)))
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
    use crate::batch::record::DoneRecord;

    #[tokio::test]
    async fn finish_commits_all_results() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let committer = Committer::start(folder.path(), journal).unwrap();
        for number in 0..600 {
            let name = format!("{number}.txt");
            let path = folder.path().join(&name);
            fs::write(&path, "x").unwrap();
            let record = Record::Done(Box::new(DoneRecord {
                job: name,
                ..DoneRecord::default()
            }));
            committer
                .flush(fs::File::open(&path).unwrap())
                .await
                .unwrap();
            committer.record(record).unwrap();
        }
        committer.finish().unwrap();
        assert_eq!(read_history(folder.path()).unwrap().jobs.len(), 600);
    }
}
