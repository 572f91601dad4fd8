//! Group commit of results: result files, then their folder, then the `done` records
//! of the journal are flushed to disk, in this order and in groups. One thread does
//! this for the whole run, so that no job waits for the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs_err as fs;
use tokio::sync::mpsc;

use super::journal::{Error, Journal};
use super::record::Record;

/// The time that the first result of a group waits for others.
const GROUP_WAIT: Duration = Duration::from_millis(200);
/// The maximum number of results in a group. Each keeps a file open.
const GROUP_MAX: usize = 256;
/// The number of threads that flush files concurrently. Disks handle several flushes
/// at once.
const SYNC_THREADS: usize = 4;

/// A result file with its final name, and its `done` record.
#[derive(Debug)]
struct PendingResult {
    file: fs::File,
    record: Record,
}

/// Flushes results to disk and records them in the journal.
#[derive(Debug)]
pub struct Committer {
    results: Option<mpsc::Sender<PendingResult>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Committer {
    /// Starts the commit thread. `journal` is a handle for this thread alone.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn start(folder: &Path, journal: Journal) -> Result<Self, Error> {
        let (results, pending) = mpsc::channel(GROUP_MAX);
        let failure = Arc::new(Mutex::new(None));
        let thread_failure = Arc::clone(&failure);
        let path = folder.to_owned();
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                if let Err(error) = commit_groups(pending, &path, journal)
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
            results: Some(results),
            thread: Some(thread),
            failure,
        })
    }

    /// Queues a result. `record` is appended to the journal once the result is on
    /// disk. Waits while the queue is full.
    ///
    /// # Errors
    /// Returns an error if an earlier result could not be committed. The run must end
    /// then.
    pub async fn commit(&self, file: fs::File, record: Record) -> Result<(), Error> {
        let Some(results) = &self.results else {
            return Ok(());
        };
        if results.send(PendingResult { file, record }).await.is_err() {
            return Err(self.take_failure().unwrap_or_else(thread_died));
        }
        Ok(())
    }

    /// Waits until all results are committed.
    ///
    /// # Errors
    /// Returns an error if a result could not be committed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.results = None;
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

fn commit_groups(
    mut pending: mpsc::Receiver<PendingResult>,
    folder: &Path,
    mut journal: Journal,
) -> Result<(), Error> {
    while let Some(first) = pending.blocking_recv() {
        let deadline = Instant::now() + GROUP_WAIT;
        let mut group = vec![first];
        let mut is_last = false;
        while group.len() < GROUP_MAX && Instant::now() < deadline {
            match pending.try_recv() {
                Ok(next) => group.push(next),
                Err(mpsc::error::TryRecvError::Empty) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    is_last = true;
                    break;
                }
            }
        }
        commit_group(&group, folder, &mut journal)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

fn commit_group(
    group: &[PendingResult],
    folder: &Path,
    journal: &mut Journal,
) -> Result<(), Error> {
    let chunk_length = group.len().div_ceil(SYNC_THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = group
            .chunks(chunk_length)
            .map(|results| {
                scope.spawn(move || {
                    results
                        .iter()
                        .try_for_each(|result| result.file.sync_data())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("the flush thread died")))
        })
    })
    .map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    // Some systems cannot flush a folder, so an error is ignored.
    if let Ok(folder) = fs::File::open(folder) {
        let _unsupported = folder.sync_all();
    }
    for result in group {
        journal.append(&result.record)?;
    }
    journal.sync()
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
                .commit(fs::File::open(&path).unwrap(), record)
                .await
                .unwrap();
        }
        committer.finish().unwrap();
        assert_eq!(read_history(folder.path()).unwrap().jobs.len(), 600);
    }
}
