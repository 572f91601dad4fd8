//! The registry's file: read without a lock, written under one. What is
//! written replaces the old file by a rename after it has reached the disk, so
//! that at every moment one good file is there; the one before is the backup.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use jiff::Timestamp;

use super::observations::{self, Observation};
use super::record::{Registry, SCHEMA};

/// How long another process may hold the lock. It holds it for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(20);

const FILE: &str = "registry.json";
const BACKUP: &str = "registry.backup.json";
const LOCK: &str = "registry.lock";
const OBSERVATIONS: &str = "observations.jsonl";
const OBSERVATIONS_LOCK: &str = "observations.lock";

/// The registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer program wrote it.
    #[error(
        "{} has schema {found}, and this program knows {SCHEMA}: a newer one wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// Somebody holds the lock for too long.
    #[error("another process holds {} for more than {} s", path.display(), LOCK_WAIT.as_secs())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written; the old one is as it was.
    #[error("cannot write {}; what it held before is untouched", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What is known, and what is wrong with where it is kept.
#[derive(Debug, Default)]
pub struct Known {
    /// What is known, with the observations that are not folded in yet.
    pub registry: Registry,
    /// What the user should know about the files.
    pub warnings: Vec<String>,
}

/// The folder that the registry lies in.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// What is there before a write.
enum Old {
    Absent,
    /// It becomes the backup.
    Good,
    /// It makes no sense, and is kept under this name.
    Corrupt(PathBuf),
}

/// A file that was looked at.
enum Found {
    Good(Box<Registry>, String),
    Absent,
    Corrupt(String),
}

impl Store {
    /// The registry in a folder, which need not be there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads what is known. Writes nothing and waits for nobody.
    ///
    /// # Errors
    /// The file cannot be read, or a newer program wrote it. A file that makes
    /// no sense is a warning: the backup is read instead.
    pub fn read(&self) -> Result<Known, Error> {
        let mut known = Known::default();
        match look(&self.path())? {
            Found::Good(registry, _) => known.registry = *registry,
            Found::Absent => {
                if let Found::Good(registry, _) = look(&self.folder.join(BACKUP))? {
                    known.registry = *registry;
                    known.warnings.push(self.absent());
                }
            }
            Found::Corrupt(why) => {
                let (registry, from) = self.backup()?;
                known.registry = registry;
                known.warnings.push(format!(
                    "{} makes no sense ({why}); {from}. The next `scan` sets it aside",
                    self.path().display()
                ));
            }
        }
        // The last runs may not be folded in yet; what cannot be read of them
        // is no reason to show nothing.
        let _unread = observations::fold(&self.folder.join(OBSERVATIONS), &mut known.registry);
        Ok(known)
    }

    /// It never goes by our doing: somebody took it, or a disk lost it.
    fn absent(&self) -> String {
        format!(
            "{} is not there; the one before it, {BACKUP}, is used",
            self.path().display()
        )
    }

    fn backup(&self) -> Result<(Registry, &'static str), Error> {
        Ok(match look(&self.folder.join(BACKUP))? {
            Found::Good(registry, _) => (*registry, "the one before it is used"),
            Found::Absent | Found::Corrupt(_) => (Registry::default(), "nothing is known"),
        })
    }

    /// Changes what is known, under the lock, with the observations folded in.
    /// The warnings say what was found wrong and mended.
    ///
    /// # Errors
    /// The folder cannot be written, or the lock not be had. The old file is
    /// then as it was.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut Registry) -> T,
    ) -> Result<(T, Vec<String>), Error> {
        fs::create_dir_all(&self.folder).map_err(|source| self.unwritable(source))?;
        let _lock = self.lock(LOCK)?;
        let mut warnings = Vec::new();
        let (mut registry, before, old) = match look(&self.path())? {
            Found::Good(registry, text) => (*registry, Some(text), Old::Good),
            Found::Absent => match look(&self.folder.join(BACKUP))? {
                Found::Good(registry, _) => {
                    warnings.push(self.absent());
                    (*registry, None, Old::Absent)
                }
                _ => (Registry::default(), None, Old::Absent),
            },
            Found::Corrupt(why) => {
                let aside = self.aside();
                let (registry, from) = self.backup()?;
                warnings.push(format!(
                    "{} made no sense ({why}); it is kept as {}, and {from}",
                    self.path().display(),
                    aside.display()
                ));
                (registry, None, Old::Corrupt(aside))
            }
        };
        let observed = self.folder.join(OBSERVATIONS);
        let lock = self.lock(OBSERVATIONS_LOCK)?;
        let folded =
            observations::fold(&observed, &mut registry).map_err(|source| Error::Read {
                path: observed.clone(),
                source,
            })?;
        if !folded {
            drop(lock);
        }
        let given = change(&mut registry);
        registry.schema = SCHEMA;
        let mut text = serde_json::to_string_pretty(&registry)
            .map_err(|e| self.unwritable(std::io::Error::other(e)))?;
        text.push('\n');
        if before.as_ref() != Some(&text) {
            self.write(&text, &old)
                .map_err(|source| self.unwritable(source))?;
        }
        if folded {
            // All of it is in the file on the disk; a kill before this only
            // leaves it to the next time.
            let _left = fs::remove_file(&observed);
        }
        Ok((given, warnings))
    }

    /// Remembers a finished run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn observe(&self, observation: &Observation) -> Result<(), Error> {
        let path = self.folder.join(OBSERVATIONS);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let _lock = self.lock(OBSERVATIONS_LOCK)?;
        observations::append(&path, observation).map_err(failed)
    }

    fn unwritable(&self, source: std::io::Error) -> Error {
        Error::Write {
            path: self.path(),
            source,
        }
    }

    /// The lock goes when its file is closed, by the system also after a kill.
    fn lock(&self, name: &str) -> Result<fs::File, Error> {
        let path = self.folder.join(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| self.unwritable(source))?;
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match file.file().try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(Error::Locked { path }),
                Err(std::fs::TryLockError::Error(source)) => return Err(self.unwritable(source)),
            }
        }
    }

    /// Where a file that makes no sense goes: a name that no other has.
    fn aside(&self) -> PathBuf {
        free_name(&self.folder, "registry.corrupt", "json")
    }

    fn write(&self, text: &str, old: &Old) -> std::io::Result<()> {
        let mut new = tempfile::Builder::new()
            .prefix(".registry-")
            .tempfile_in(&self.folder)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        // A second name for the old file, which the rename below leaves alone;
        // where the disk knows no such thing, a copy.
        let also_named = |name: &Path| -> std::io::Result<()> {
            if fs::hard_link(self.path(), name).is_err() {
                fs::copy(self.path(), name)?;
            }
            Ok(())
        };
        match old {
            Old::Absent => {}
            Old::Good => {
                let fresh = self.folder.join(".registry-backup");
                let _old = fs::remove_file(&fresh);
                also_named(&fresh)?;
                fs::rename(&fresh, self.folder.join(BACKUP))?;
            }
            // Not before the new one is on the disk: who finds no file at all
            // knows less than who finds one that makes no sense.
            Old::Corrupt(aside) => also_named(aside)?,
        }
        new.persist(self.path()).map_err(|e| e.error)?;
        // The name, too, must reach the disk; not every system can say so.
        if let Ok(folder) = fs::File::open(&self.folder) {
            let _unsupported = folder.sync_all();
        }
        Ok(())
    }
}

/// A name in the folder that no file has, with the time in it.
pub(super) fn free_name(folder: &Path, stem: &str, extension: &str) -> PathBuf {
    let second = Timestamp::now().as_second();
    let mut number = 0;
    loop {
        let name = match number {
            0 => format!("{stem}-{second}.{extension}"),
            number => format!("{stem}-{second}-{number}.{extension}"),
        };
        let path = folder.join(name);
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

fn look(path: &Path) -> Result<Found, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(Found::Corrupt("it is not UTF-8".to_owned()));
    };
    match serde_json::from_str::<Registry>(&text) {
        Ok(it) if it.schema == SCHEMA => Ok(Found::Good(Box::new(it), text)),
        parsed => {
            // A newer program's file may not even read as ours.
            let schema = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|it| it.get("schema")?.as_u64());
            match (schema, parsed) {
                (Some(found), _) if found > u64::from(SCHEMA) => Err(Error::Newer {
                    path: path.to_owned(),
                    found,
                }),
                (_, Err(e)) => Ok(Found::Corrupt(e.to_string())),
                (_, Ok(_)) => Ok(Found::Corrupt("its schema is 0".to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_cut_at_any_byte_is_set_aside_and_the_backup_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.update(|it| it.model_mut("s", "m").runs = 1).unwrap();
        store.update(|it| it.model_mut("s", "m").runs = 2).unwrap();
        let whole = fs::read(store.path()).unwrap();
        // All but the last two bytes, which are a line end and a brace.
        for end in 0..whole.len() - 2 {
            fs::write(store.path(), &whole[..end]).unwrap();
            let known = store.read().unwrap();
            assert_eq!(known.registry.model("s", "m").unwrap().runs, 1, "{end}");
            assert_eq!(known.warnings.len(), 1);
        }
        let ((), warnings) = store.update(|it| it.model_mut("s", "m").runs += 5).unwrap();
        assert!(warnings[0].contains("corrupt-"), "{warnings:?}");
        assert_eq!(
            store.read().unwrap().registry.model("s", "m").unwrap().runs,
            6
        );
        let aside: Vec<String> = names(folder.path())
            .into_iter()
            .filter(|it| it.contains("corrupt"))
            .collect();
        assert_eq!(
            fs::read(folder.path().join(&aside[0])).unwrap(),
            whole[..whole.len() - 3]
        );
    }

    #[test]
    fn a_file_that_is_gone_is_made_from_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.update(|it| it.model_mut("s", "m").runs = 1).unwrap();
        store.update(|it| it.model_mut("s", "m").runs = 2).unwrap();
        fs::remove_file(store.path()).unwrap();
        let known = store.read().unwrap();
        assert_eq!(known.registry.model("s", "m").unwrap().runs, 1);
        assert!(known.warnings[0].contains(BACKUP), "{:?}", known.warnings);
        let ((), warnings) = store.update(|it| it.model_mut("s", "m").runs += 5).unwrap();
        assert!(warnings[0].contains("is not there"), "{warnings:?}");
        let known = store.read().unwrap();
        assert_eq!(known.registry.model("s", "m").unwrap().runs, 6);
        assert!(known.warnings.is_empty());
    }

    #[test]
    fn a_newer_programs_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        fs::write(store.path(), r#"{"schema":2,"engines":[]}"#).unwrap();
        assert!(matches!(store.read(), Err(Error::Newer { found: 2, .. })));
        assert!(matches!(store.update(|_| ()), Err(Error::Newer { .. })));
        assert_eq!(
            fs::read_to_string(store.path()).unwrap(),
            r#"{"schema":2,"engines":[]}"#
        );
    }

    #[test]
    fn what_did_not_change_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.update(|it| it.model_mut("s", "m").runs = 1).unwrap();
        let before = names(folder.path());
        store.update(|_| ()).unwrap();
        assert_eq!(names(folder.path()), before);
        assert!(!before.iter().any(|it| it == BACKUP), "{before:?}");
    }

    #[test]
    fn runs_are_seen_at_once_and_folded_in_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.observe(&observations::example("m")).unwrap();
        for _ in 0..2 {
            let known = store.read().unwrap();
            assert_eq!(known.registry.model("embedded", "m").unwrap().runs, 1);
            store.update(|_| ()).unwrap();
        }
    }
}
