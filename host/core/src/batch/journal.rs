//! The batch journal: an append-only file with one JSON record per line, each
//! written by a single write. Resuming relies on the journal alone.
//!
//! An incomplete last line, left by a killed process, is skipped. `Done` is written
//! only after the result has reached the disk. `Answer` is written before the result
//! file gets its final name, so that no answer is lost if the process is killed in
//! between.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use jiff::Timestamp;

use super::record::{HeadRecord, JOURNAL, LOCK, Record};
use crate::quantity::count;
use crate::store::{FileLock, open_plain};

/// Version of the journal format.
const SCHEMA: u32 = 1;
/// The longest line that is read. A plan with inline texts takes one line.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// An error of the journal or of the folder lock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The journal or the folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// Another run holds the lock of the folder.
    #[error("another run is using `{}`", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A newer version of the program wrote the journal.
    #[error("`{}` has schema {found}; this version reads schema {SCHEMA}", path.display())]
    UnsupportedSchema {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: u32,
    },
    /// The folder has no journal.
    #[error("no {JOURNAL} in `{}`: no batch has run there", folder.display())]
    NotFound {
        /// The folder.
        folder: PathBuf,
    },
}

/// Lines of a journal that were skipped: unreadable ones, and records that name a file
/// outside the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedLines {
    lines: usize,
    /// The number and the reason of the first lines.
    first: Vec<(usize, String)>,
}

impl SkippedLines {
    /// Lines whose reasons are shown.
    const SHOWN: usize = 3;

    fn add(&mut self, line: usize, error: &serde_json::Error) {
        self.lines += 1;
        if self.first.len() < Self::SHOWN {
            // The position is that inside the line.
            let position = format!(" at line {} column {}", error.line(), error.column());
            let text = error.to_string();
            let reason = text.strip_suffix(&position).unwrap_or(&text).to_owned();
            self.first.push((line, reason));
        }
    }

    /// Returns a warning that names the first lines; `None` if no line was skipped.
    #[must_use]
    pub fn warning(&self, folder: &Path) -> Option<String> {
        if self.lines == 0 {
            return None;
        }
        let mut reasons: Vec<String> = self
            .first
            .iter()
            .map(|(line, reason)| format!("line {line}: {reason}"))
            .collect();
        if self.lines > self.first.len() {
            reasons.push("…".to_owned());
        }
        Some(format!(
            "skipped {} in {} ({})",
            count(self.lines, "unreadable journal line"),
            folder.display(),
            reasons.join("; ")
        ))
    }
}

/// Calls `visit` with each record of a folder's journal. Returns the lines that were
/// skipped; an incomplete last line, left by a killed process, is not one of them.
///
/// # Errors
/// Returns an error if there is no journal, if it cannot be read, or if it has a
/// newer schema.
pub fn visit_records(folder: &Path, mut visit: impl FnMut(Record)) -> Result<SkippedLines, Error> {
    let path = folder.join(JOURNAL);
    let read_error = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let file = match open_plain(&path, fs::OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound {
                folder: folder.to_owned(),
            });
        }
        Err(source) => return Err(read_error(source)),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let mut skipped = SkippedLines::default();
    for number in 1.. {
        line.clear();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut line).map_err(read_error)? == 0 {
            break;
        }
        let is_complete = line.last() == Some(&b'\n');
        match serde_json::from_slice(&line) {
            Ok(Record::Head(head)) if head.schema > SCHEMA => {
                return Err(Error::UnsupportedSchema {
                    path: path.clone(),
                    found: head.schema,
                });
            }
            Ok(record) => visit(record),
            Err(error) if is_complete && !line.trim_ascii().is_empty() => {
                skipped.add(number, &error);
            }
            Err(_) => {}
        }
    }
    Ok(skipped)
}

/// The lock of a results folder. It is released on drop and when the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _lock: FileLock,
}

impl FolderLock {
    /// Acquires the lock. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// Returns an error if another run holds the lock or the folder cannot be
    /// written.
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        let write_error = |source| Error::Write {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(write_error)?;
        let lock = FileLock::try_acquire(&folder.join(LOCK)).map_err(write_error)?;
        let busy = || Error::Busy {
            folder: folder.to_owned(),
        };
        Ok(Self {
            _lock: lock.ok_or_else(busy)?,
        })
    }
}

/// A journal opened for appending.
#[derive(Debug)]
pub struct Journal {
    file: fs::File,
    path: PathBuf,
    /// The last line is incomplete. Shared by all handles of the file.
    torn: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal of a folder, or creates it. The caller must hold the
    /// folder's lock.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be opened for writing.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(JOURNAL);
        let write_error = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let mut options = fs::OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = open_plain(&path, &mut options).map_err(write_error)?;
        let length = file.seek(SeekFrom::End(0)).map_err(write_error)?;
        let mut torn = false;
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(write_error)?;
            file.read_exact(&mut last).map_err(write_error)?;
            torn = last != *b"\n";
        }
        Ok(Self {
            file,
            path,
            torn: Arc::new(AtomicBool::new(torn)),
        })
    }

    /// Returns a second handle of the same file.
    ///
    /// # Errors
    /// Returns an error if the file handle cannot be duplicated.
    pub fn try_clone(&self) -> Result<Self, Error> {
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

    /// Writes the first record of a new journal; `name` is the name template.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    pub fn write_head(&mut self, name: &str, at: Timestamp) -> Result<(), Error> {
        self.append(&Record::Head(HeadRecord {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            name: name.to_owned(),
        }))
    }

    /// Appends a record with a single write.
    ///
    /// # Errors
    /// Returns an error if the write fails. The record may be incomplete on disk;
    /// the next one starts on a new line.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let write_error = |source| Error::Write {
            path: self.path.clone(),
            source,
        };
        let mut line = Vec::with_capacity(512);
        if self.torn.load(Ordering::Relaxed) {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record).map_err(|error| write_error(error.into()))?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        self.torn.store(written.is_err(), Ordering::Relaxed);
        written.map_err(write_error)
    }

    /// Checks that the file still has its name: a journal that was removed or replaced while
    /// a run wrote it is lost with the run.
    ///
    /// # Errors
    /// Returns an error if it has not.
    pub fn check_in_place(&self) -> Result<(), Error> {
        #[cfg(unix)]
        let is_same = {
            use std::os::unix::fs::MetadataExt;
            let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
            let own = self.file.metadata().map(id).ok();
            own == fs::symlink_metadata(&self.path).map(id).ok()
        };
        // Elsewhere an open file cannot be removed.
        #[cfg(not(unix))]
        let is_same = true;
        if is_same {
            return Ok(());
        }
        Err(Error::Write {
            path: self.path.clone(),
            source: std::io::Error::other(
                "the file was removed or replaced while the batch ran; the results stay, and the \
                 next run does not know them",
            ),
        })
    }

    /// Waits until all appended records have reached the disk.
    ///
    /// # Errors
    /// Returns an error if the data cannot be flushed to disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::Write {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{AnswerRecord, DoneRecord, StartRecord};
    use super::*;
    use crate::batch::{FolderHistory, JobState, read_history};

    fn done_record(job: &str) -> Record {
        Record::Done(Box::new(DoneRecord {
            job: job.to_owned(),
            identity: format!("id-{job}"),
            key: format!("key-{job}"),
            length: 3,
            sha256: "abc".to_owned(),
            ..DoneRecord::default()
        }))
    }

    fn answer_record(job: &str) -> Record {
        Record::Answer(AnswerRecord {
            job: job.to_owned(),
            identity: "i".to_owned(),
            key: "k".to_owned(),
            length: 1,
            sha256: "s".to_owned(),
            file: format!("{job}.partial"),
        })
    }

    #[test]
    fn a_truncated_journal_yields_the_records_before_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal
            .write_head("{prompt}", Timestamp::UNIX_EPOCH)
            .unwrap();
        for job in ["a", "b", "ä"] {
            journal
                .append(&Record::Start(StartRecord {
                    job: job.to_owned(),
                    identity: "x".to_owned(),
                    attempt: 1,
                }))
                .unwrap();
            journal.append(&answer_record(job)).unwrap();
            journal.append(&done_record(job)).unwrap();
        }
        let path = folder.path().join(JOURNAL);
        let bytes = fs::read(&path).unwrap();
        let count_done = |history: &FolderHistory| {
            let jobs = history.jobs.values();
            jobs.filter(|job| job.state == JobState::Done).count()
        };
        let mut done = 0;
        for end in 0..=bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            let history = read_history(folder.path()).unwrap();
            assert_eq!(history.skipped, SkippedLines::default(), "{end}");
            assert!(count_done(&history) >= done, "{end}");
            done = count_done(&history);
            // The next record starts on a new line.
            let mut journal = Journal::open(folder.path()).unwrap();
            journal.append(&done_record("later")).unwrap();
            let history = read_history(folder.path()).unwrap();
            assert!(history.jobs.contains_key("later"), "{end}");
            assert!(history.skipped.lines <= 1, "{end}");
        }
        assert_eq!(done, 3);
    }

    #[test]
    fn a_second_lock_and_a_newer_schema_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("new");
        let lock = FolderLock::acquire(&inner).unwrap();
        assert!(matches!(
            FolderLock::acquire(&inner),
            Err(Error::Busy { .. })
        ));
        drop(lock);
        FolderLock::acquire(&inner).unwrap();
        assert!(matches!(
            visit_records(&inner, |_| ()),
            Err(Error::NotFound { .. })
        ));
        fs::write(
            inner.join(JOURNAL),
            "{\"kind\":\"head\",\"schema\":2,\"version\":\"9\",\"at\":\"2030-01-01T00:00:00Z\",\"name\":\"x\"}\n",
        )
        .unwrap();
        assert!(matches!(
            read_history(&inner),
            Err(Error::UnsupportedSchema { found: 2, .. })
        ));
        fs::write(inner.join(JOURNAL), "nonsense\n\n{\"kind\":\"start\"}\n").unwrap();
        let skipped = read_history(&inner).unwrap().skipped;
        let warning = skipped.warning(Path::new("d")).unwrap();
        assert!(
            warning.starts_with("skipped 2 unreadable journal lines in d (line 1: expected ident"),
            "{warning}"
        );
    }
}
