//! When a result counts as safe: results, then their folder, then the journal's
//! `done` lines reach the disk, in this order and in groups. One thread does it
//! for the whole run, so that no job waits for the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs_err as fs;
use tokio::sync::mpsc;

use super::journal::{Error, Journal};
use super::record::Record;

/// How long a result may wait for others, so that one group takes them all.
const GROUP: Duration = Duration::from_millis(200);
/// The most results of a group: each keeps a file open.
const GROUP_MAX: usize = 256;
/// Threads that wait for the disk at once; it takes several files together.
const SYNC_THREADS: usize = 4;

/// A result that has its name, and the line that says so.
#[derive(Debug)]
struct Finished {
    file: fs::File,
    record: Record,
}

/// Makes results safe.
#[derive(Debug)]
pub struct Committer {
    results: Option<mpsc::Sender<Finished>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Committer {
    /// Starts the thread; `journal` is its own hand on the file.
    ///
    /// # Errors
    /// The machine gives us no thread.
    pub fn start(folder: &Path, journal: Journal) -> Result<Self, Error> {
        let (results, waiting) = mpsc::channel(GROUP_MAX);
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        let path = folder.to_owned();
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                if let Err(error) = work(waiting, &path, journal)
                    && let Ok(mut told) = told.lock()
                {
                    *told = Some(error);
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

    /// Hands over a result; `record` is written when it is safe. Waits when the
    /// disk is slower than the models.
    ///
    /// # Errors
    /// An earlier result could not be made safe: the run must end.
    pub async fn commit(&self, file: fs::File, record: Record) -> Result<(), Error> {
        let Some(results) = &self.results else {
            return Ok(());
        };
        if results.send(Finished { file, record }).await.is_err() {
            return Err(self.taken().unwrap_or_else(gone));
        }
        Ok(())
    }

    /// Waits until all results are safe.
    ///
    /// # Errors
    /// One is not.
    pub fn finish(mut self) -> Result<(), Error> {
        self.results = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(gone());
        }
        self.taken().map_or(Ok(()), Err)
    }

    fn taken(&self) -> Option<Error> {
        self.failure.lock().ok().and_then(|mut it| it.take())
    }
}

fn gone() -> Error {
    Error::Write {
        path: PathBuf::from(super::JOURNAL),
        source: std::io::Error::other("the thread that writes it died"),
    }
}

fn work(
    mut waiting: mpsc::Receiver<Finished>,
    folder: &Path,
    mut journal: Journal,
) -> Result<(), Error> {
    while let Some(first) = waiting.blocking_recv() {
        let until = Instant::now() + GROUP;
        let mut group = vec![first];
        let mut is_last = false;
        while group.len() < GROUP_MAX && Instant::now() < until {
            match waiting.try_recv() {
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
        make_safe(&group, folder, &mut journal)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

fn make_safe(group: &[Finished], folder: &Path, journal: &mut Journal) -> Result<(), Error> {
    let share = group.len().div_ceil(SYNC_THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = group
            .chunks(share)
            .map(|some| scope.spawn(move || some.iter().try_for_each(|it| it.file.sync_data())))
            .collect();
        threads.into_iter().try_for_each(|it| {
            it.join()
                .unwrap_or_else(|_| Err(std::io::Error::other("died")))
        })
    })
    .map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    // Not every system can say of a folder that it has reached the disk.
    if let Ok(folder) = fs::File::open(folder) {
        let _unsupported = folder.sync_all();
    }
    for it in group {
        journal.append(&it.record)?;
    }
    journal.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::journal::read;
    use crate::batch::record::Done;

    #[tokio::test]
    async fn results_are_safe_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let committer = Committer::start(folder.path(), journal).unwrap();
        for number in 0..600 {
            let name = format!("{number}.txt");
            let path = folder.path().join(&name);
            fs::write(&path, "x").unwrap();
            let record = Record::Done(Box::new(Done {
                job: name,
                ..Done::default()
            }));
            committer
                .commit(fs::File::open(&path).unwrap(), record)
                .await
                .unwrap();
        }
        committer.finish().unwrap();
        assert_eq!(read(folder.path()).unwrap().jobs.len(), 600);
    }
}
