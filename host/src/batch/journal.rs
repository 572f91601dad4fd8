//! What happened in a batch, line by line: JSON, one record for each step, one
//! write for each record, only ever appended. It is the truth for resuming.
//!
//! A line that a kill tore off is passed over. `Done` is written only when the
//! result has reached the disk; `Answer` is written before the result gets its
//! name, so that a kill between the two costs nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use jiff::Timestamp;

use super::record::{Context, Head, LogItem, Of, Record, Run};

/// The journal's name in the folder of the results.
pub const JOURNAL: &str = "batch.journal.jsonl";
/// The name of the lock that keeps two runs out of one folder.
const LOCK: &str = ".batch.lock";
/// The version of the format.
const SCHEMA: u32 = 1;
/// The longest line that is read: a plan with inline texts is in one.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another run works in the folder.
    #[error("another run is at work in {}", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} has schema {found}, which this program does not know", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// There is none.
    #[error("{} has no {JOURNAL}: no batch ran there", folder.display())]
    Absent {
        /// The folder.
        folder: PathBuf,
    },
}

/// A result as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What the job was.
    pub identity: String,
    /// What it was made of.
    pub key: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was sent.
    Started,
    /// Its answer was complete, and had this name.
    Answered(Kept, String),
    /// Its result is safe.
    Done,
    /// It failed.
    Failed,
}

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The last that happened.
    pub state: State,
    /// The last result that was safe.
    pub kept: Option<Kept>,
    /// Lengths of failures that were written in the result's place since.
    pub inline: Vec<u64>,
    /// That job in words.
    pub of: Option<Of>,
    /// Bytes of that job's prompt, and the context that it needed.
    pub size: (u64, u32),
}

impl Known {
    /// The result that is there, if a kill did not come in between: the last safe
    /// one, or one whose answer was complete.
    #[must_use]
    pub fn results(&self) -> Vec<&Kept> {
        let answered = match &self.state {
            State::Answered(kept, _) => Some(kept),
            _ => None,
        };
        answered.into_iter().chain(&self.kept).collect()
    }
}

/// What happened in a folder so far.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The first line.
    pub head: Option<Head>,
    /// The last run's line.
    pub run: Option<Run>,
    /// By the result's name.
    pub jobs: BTreeMap<String, Known>,
    /// Names of safe results by what they were made of.
    pub by_key: BTreeMap<String, String>,
    /// The contexts of models, by engine and name.
    pub contexts: BTreeMap<(String, String), Context>,
    /// Models that were loaded here and never unloaded, by engine and name.
    pub loaded: BTreeMap<(String, String), LogItem>,
    /// Lines that make no sense.
    pub garbage: usize,
}

impl Past {
    fn take(&mut self, record: Record) {
        match record {
            Record::Head(head) => self.head = self.head.take().or(Some(head)),
            Record::Run(run) => self.run = Some(*run),
            Record::Context(it) => {
                let of = (it.engine.clone(), it.model.clone());
                self.contexts.insert(of, it);
            }
            Record::Loading(it) | Record::Loaded(it) => {
                self.loaded
                    .insert((it.engine.clone(), it.model.clone()), it);
            }
            Record::Unloaded(it) => {
                self.loaded.remove(&(it.engine, it.model));
            }
            Record::Start(it) => self.to(it.job, State::Started),
            Record::Answer(it) => {
                let kept = Kept {
                    identity: it.identity,
                    key: it.key,
                    length: it.length,
                    sha256: it.sha256,
                };
                self.to(it.job, State::Answered(kept, it.file));
            }
            Record::Done(it) => {
                self.by_key.insert(it.key.clone(), it.job.clone());
                let known = Known {
                    state: State::Done,
                    inline: Vec::new(),
                    of: Some(it.of),
                    kept: Some(Kept {
                        identity: it.identity,
                        key: it.key,
                        length: it.length,
                        sha256: it.sha256,
                    }),
                    size: (it.prompt_bytes, it.need),
                };
                self.jobs.insert(it.job, known);
            }
            Record::Failed(it) => {
                self.to(it.job.clone(), State::Failed);
                if let Some(known) = self.jobs.get_mut(&it.job) {
                    known.inline.extend(it.inline);
                }
            }
            Record::Aside(_) | Record::End(_) | Record::Other => {}
        }
    }

    fn to(&mut self, job: String, state: State) {
        let known = self.jobs.entry(job).or_insert_with(|| Known {
            state: State::Started,
            kept: None,
            inline: Vec::new(),
            of: None,
            size: (0, 0),
        });
        known.state = state;
    }
}

/// Reads what happened in a folder; nothing where there is no journal.
///
/// # Errors
/// It cannot be read, or a newer program wrote it.
pub fn read(folder: &Path) -> Result<Past, Error> {
    let mut past = Past::default();
    let garbage = match visit(folder, |record| past.take(record)) {
        Ok(garbage) => garbage,
        Err(Error::Absent { .. }) => 0,
        Err(error) => return Err(error),
    };
    past.garbage = garbage;
    Ok(past)
}

/// Goes through all records of a folder; gives the number of lines that make no
/// sense. A last line without an end was torn by a kill and is none of them.
///
/// # Errors
/// There is no journal, it cannot be read, or a newer program wrote it.
pub fn visit(folder: &Path, mut take: impl FnMut(Record)) -> Result<usize, Error> {
    let path = folder.join(JOURNAL);
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Absent {
                folder: folder.to_owned(),
            });
        }
        Err(source) => return Err(failed(source)),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let mut garbage = 0;
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_BYTES_MAX);
        let mut read = read;
        if read.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(garbage);
        }
        let is_whole = line.last() == Some(&b'\n');
        match serde_json::from_slice(&line) {
            Ok(Record::Head(head)) if head.schema > SCHEMA => {
                return Err(Error::Newer {
                    path: path.clone(),
                    found: head.schema,
                });
            }
            Ok(record) => take(record),
            Err(_) if is_whole && !line.trim_ascii().is_empty() => garbage += 1,
            Err(_) => {}
        }
    }
}

/// The lock of a folder, held until this is dropped, also by a kill.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Takes the lock; makes the folder when it is not there.
    ///
    /// # Errors
    /// Another run has it, or the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Write {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(LOCK))
            .map_err(failed)?;
        match file.file().try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy {
                folder: folder.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// The journal, open for more.
#[derive(Debug)]
pub struct Journal {
    file: fs::File,
    path: PathBuf,
    /// The last line has no end; all hands on the file know it.
    torn: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal of a folder. Whoever does so holds its lock.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(JOURNAL);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut torn = false;
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(failed)?;
            file.read_exact(&mut last).map_err(failed)?;
            torn = last != *b"\n";
        }
        Ok(Self {
            file,
            path,
            torn: Arc::new(AtomicBool::new(torn)),
        })
    }

    /// A second hand on the same file.
    ///
    /// # Errors
    /// The system has no more handles.
    pub fn another(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })?;
        Ok(Self {
            file,
            path: self.path.clone(),
            torn: Arc::clone(&self.torn),
        })
    }

    /// The first line of a new journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(&mut self, name: &str, at: Timestamp) -> Result<(), Error> {
        self.append(&Record::Head(Head {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            name: name.to_owned(),
        }))
    }

    /// Adds a record, by one write.
    ///
    /// # Errors
    /// The disk is full, or gone. The record may be torn; the next one begins on
    /// a line of its own.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let failed = |source| Error::Write {
            path: self.path.clone(),
            source,
        };
        let mut line = Vec::with_capacity(512);
        if self.torn.load(Ordering::Relaxed) {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        self.torn.store(written.is_err(), Ordering::Relaxed);
        written.map_err(failed)
    }

    /// Waits until all that was appended has reached the disk.
    ///
    /// # Errors
    /// The disk says that it has not.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Answer, Done, Start};
    use super::*;

    fn done(job: &str) -> Record {
        Record::Done(Box::new(Done {
            job: job.to_owned(),
            identity: format!("id-{job}"),
            key: format!("key-{job}"),
            length: 3,
            sha256: "abc".to_owned(),
            ..Done::default()
        }))
    }

    fn answer(job: &str) -> Record {
        Record::Answer(Answer {
            job: job.to_owned(),
            identity: "i".to_owned(),
            key: "k".to_owned(),
            length: 1,
            sha256: "s".to_owned(),
            file: format!("{job}.partial"),
        })
    }

    #[test]
    fn a_journal_cut_at_any_byte_gives_what_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.begin("{prompt}", Timestamp::UNIX_EPOCH).unwrap();
        for job in ["a", "b", "ä"] {
            journal
                .append(&Record::Start(Start {
                    job: job.to_owned(),
                    identity: "x".to_owned(),
                    attempt: 1,
                }))
                .unwrap();
            journal.append(&answer(job)).unwrap();
            journal.append(&done(job)).unwrap();
        }
        let path = folder.path().join(JOURNAL);
        let whole = fs::read(&path).unwrap();
        let count = |past: &Past| {
            let all = past.jobs.values();
            all.filter(|it| it.state == State::Done).count()
        };
        let mut seen = 0;
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let past = read(folder.path()).unwrap();
            assert_eq!(past.garbage, 0, "{end}");
            assert!(count(&past) >= seen, "{end}");
            seen = count(&past);
            // What is appended next stands on a line of its own.
            let mut journal = Journal::open(folder.path()).unwrap();
            journal.append(&done("later")).unwrap();
            let past = read(folder.path()).unwrap();
            assert!(past.jobs.contains_key("later"), "{end}");
            assert!(past.garbage <= 1, "{end}");
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn the_last_word_on_a_job_counts_and_its_result_is_remembered() {
        let mut past = Past::default();
        past.take(done("a"));
        past.take(answer("a"));
        let known = &past.jobs["a"];
        assert!(matches!(&known.state, State::Answered(_, file) if file == "a.partial"));
        assert_eq!(known.kept.as_ref().unwrap().identity, "id-a");
        assert_eq!(past.by_key["key-a"], "a");
        past.take(serde_json::from_str(r#"{"kind":"weather","x":1}"#).unwrap());
        let item = LogItem {
            engine: "e".to_owned(),
            model: "m".to_owned(),
            ..LogItem::default()
        };
        past.take(Record::Loading(item.clone()));
        assert_eq!(past.loaded.len(), 1);
        past.take(Record::Unloaded(item));
        assert!(past.loaded.is_empty());
    }

    #[test]
    fn one_run_at_a_time_and_newer_journals_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("new");
        let lock = Lock::take(&inner).unwrap();
        assert!(matches!(Lock::take(&inner), Err(Error::Busy { .. })));
        drop(lock);
        Lock::take(&inner).unwrap();
        assert!(matches!(visit(&inner, |_| ()), Err(Error::Absent { .. })));
        fs::write(
            inner.join(JOURNAL),
            "{\"kind\":\"head\",\"schema\":2,\"version\":\"9\",\"at\":\"2030-01-01T00:00:00Z\",\"name\":\"x\"}\n",
        )
        .unwrap();
        assert!(matches!(read(&inner), Err(Error::Newer { found: 2, .. })));
        fs::write(inner.join(JOURNAL), "nonsense\n\n{\"kind\":\"start\"}\n").unwrap();
        assert_eq!(read(&inner).unwrap().garbage, 2);
    }
}
