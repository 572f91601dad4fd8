//! Reads and writes the registry's file. Reading needs no lock. A write holds a lock,
//! writes and syncs a new file and renames it over the old one, so that a valid file
//! exists at every moment. The previous file is kept as the backup.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::observations::{self, Observation};
use super::record::{Registry, SCHEMA};
use crate::store::{AtomicFile, FileLock, Sweep, TEMPORARY_PREFIX, unused_path};

/// Limit on waiting for the lock of the registry. Other processes hold it for milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
/// The same for the statistics of a run, which are worth less than its time.
const OBSERVATION_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

const FILE: &str = "registry.json";
const BACKUP: &str = "registry.backup.json";
const LOCK: &str = "registry.lock";
/// The backup until it is complete.
const NEW_BACKUP: &str = ".registry-backup";
const OBSERVATIONS: &str = "observations.jsonl";
const OBSERVATIONS_LOCK: &str = "observations.lock";

/// The registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A newer version of this program wrote the file.
    #[error(
        "{} was written by a newer version: it has schema {found}, but this version supports \
         {SCHEMA}",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema of the file.
        found: u64,
    },
    /// Another process does not release the lock.
    #[error(
        "cannot lock {}: another process has held the lock for more than {} s",
        path.display(),
        limit.as_secs_f64()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The time that was waited for it.
        limit: Duration,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written; the old one is unchanged.
    #[error("cannot write {}; the old file is unchanged", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

/// The registry as read from its file.
#[derive(Debug, Default)]
pub struct LoadedRegistry {
    /// The registry, with the observations that are not yet merged into the file.
    pub registry: Registry,
    /// Warnings about the files, to be shown to the user.
    pub warnings: Vec<String>,
}

/// The registry in a folder.
#[derive(Clone, Debug)]
pub struct RegistryStore {
    folder: PathBuf,
    /// Another process held the lock of the log at the last attempt.
    is_log_locked: Arc<AtomicBool>,
}

/// The state of the file before a write.
enum PreviousFile {
    Missing,
    /// Becomes the backup.
    Valid,
    /// Is kept under this path.
    Corrupt(PathBuf),
}

/// The result of reading a registry file.
enum RegistryFile {
    /// The registry, and the text of the file.
    Valid(Box<Registry>, String),
    Missing,
    /// The file does not parse, for this reason.
    Corrupt(String),
}

impl RegistryStore {
    /// Returns the registry in a folder, which need not exist.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            is_log_locked: Arc::default(),
        }
    }

    /// Returns the path of the registry's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads the registry. Does not write, and does not wait for a lock.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or was written by a newer version. A
    /// missing or corrupt file is only a warning: the backup is used instead.
    pub fn read(&self) -> Result<LoadedRegistry, Error> {
        let mut loaded = LoadedRegistry::default();
        match read_registry_file(&self.path())? {
            RegistryFile::Valid(registry, _) => loaded.registry = *registry,
            RegistryFile::Missing => {
                if let RegistryFile::Valid(registry, _) =
                    read_registry_file(&self.folder.join(BACKUP))?
                {
                    loaded.registry = *registry;
                    loaded.warnings.push(self.missing_warning());
                }
            }
            RegistryFile::Corrupt(reason) => {
                let (registry, fallback) = self.read_backup()?;
                loaded.registry = registry;
                loaded.warnings.push(format!(
                    "{} is corrupt ({reason}); {fallback}; the next `scan` keeps it under another \
                     name",
                    self.path().display()
                ));
            }
        }
        // The last runs may not be merged yet. If they cannot be read, the registry is
        // still useful.
        let _ignored = observations::merge(&self.folder.join(OBSERVATIONS), &mut loaded.registry);
        Ok(loaded)
    }

    /// Returns the warning for a missing file. This program never removes it.
    fn missing_warning(&self) -> String {
        format!(
            "{} is missing; using {BACKUP}, the previous version",
            self.path().display()
        )
    }

    /// Reads the backup. Also returns a text that says whether it is used.
    fn read_backup(&self) -> Result<(Registry, &'static str), Error> {
        Ok(match read_registry_file(&self.folder.join(BACKUP))? {
            RegistryFile::Valid(registry, _) => (*registry, "using the backup"),
            RegistryFile::Missing | RegistryFile::Corrupt(_) => {
                (Registry::default(), "starting with an empty registry")
            }
        })
    }

    /// Changes the registry under the lock, after merging the observations. Returns the
    /// result of `change` and warnings about problems that were repaired.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written or the lock cannot be taken. The
    /// old file is then unchanged.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut Registry) -> T,
    ) -> Result<(T, Vec<String>), Error> {
        fs::create_dir_all(&self.folder).map_err(|source| self.write_error(source))?;
        let _lock = self.lock(LOCK, LOCK_TIMEOUT)?;
        for prefix in [TEMPORARY_PREFIX, NEW_BACKUP] {
            Sweep::of_temporary_files(prefix).run(&self.folder);
        }
        let mut warnings = Vec::new();
        let (mut registry, old_text, previous) = match read_registry_file(&self.path())? {
            RegistryFile::Valid(registry, text) => (*registry, Some(text), PreviousFile::Valid),
            RegistryFile::Missing => match read_registry_file(&self.folder.join(BACKUP))? {
                RegistryFile::Valid(registry, _) => {
                    warnings.push(self.missing_warning());
                    (*registry, None, PreviousFile::Missing)
                }
                _ => (Registry::default(), None, PreviousFile::Missing),
            },
            RegistryFile::Corrupt(reason) => {
                let corrupt_path = self.corrupt_path();
                let (registry, fallback) = self.read_backup()?;
                warnings.push(format!(
                    "{} was corrupt ({reason}) and is kept as {}; {fallback}",
                    self.path().display(),
                    corrupt_path.display()
                ));
                (registry, None, PreviousFile::Corrupt(corrupt_path))
            }
        };
        let observations_path = self.folder.join(OBSERVATIONS);
        let lock = self.lock(OBSERVATIONS_LOCK, self.log_lock_limit(LOCK_TIMEOUT))?;
        let can_remove_log =
            observations::merge(&observations_path, &mut registry).map_err(|source| {
                Error::Read {
                    path: observations_path.clone(),
                    source,
                }
            })?;
        if !can_remove_log {
            drop(lock);
        }
        let result = change(&mut registry);
        registry.schema = SCHEMA;
        let mut text = serde_json::to_string_pretty(&registry)
            .map_err(|e| self.write_error(std::io::Error::other(e)))?;
        text.push('\n');
        if old_text.as_ref() != Some(&text) {
            self.write(&text, &previous)
                .map_err(|source| self.write_error(source))?;
        }
        if can_remove_log {
            // The registry on the disk contains all of the log. After a kill before
            // this line, the next update removes it.
            let _ignored = fs::remove_file(&observations_path);
        }
        Ok((result, warnings))
    }

    /// Appends a finished run to the log.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written or the lock cannot be taken.
    pub fn record_observation(&self, observation: &Observation) -> Result<(), Error> {
        let path = self.folder.join(OBSERVATIONS);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let limit = self.log_lock_limit(OBSERVATION_LOCK_TIMEOUT);
        let lock = self.lock(OBSERVATIONS_LOCK, limit);
        let is_locked = matches!(lock, Err(Error::Locked { .. }));
        self.is_log_locked.store(is_locked, Ordering::Relaxed);
        let _lock = lock?;
        observations::append(&path, observation).map_err(failed)
    }

    /// Returns the limit on waiting for the lock of the log: a process waits for it once.
    fn log_lock_limit(&self, limit: Duration) -> Duration {
        if self.is_log_locked.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            limit
        }
    }

    fn write_error(&self, source: std::io::Error) -> Error {
        Error::Write {
            path: self.path(),
            source,
        }
    }

    /// Takes a file lock, which is released when the returned file is closed. After a
    /// kill, the operating system closes it.
    ///
    /// # Errors
    /// Returns `Error::Locked` after `limit`.
    fn lock(&self, name: &str, limit: Duration) -> Result<FileLock, Error> {
        let path = self.folder.join(name);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let lock = FileLock::try_acquire(&path).map_err(|source| self.write_error(source))?;
            match lock {
                Some(lock) => return Ok(lock),
                None if start.elapsed() < limit => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                None => return Err(Error::Locked { path, limit }),
            }
        }
    }

    /// Returns an unused path for keeping a corrupt file.
    fn corrupt_path(&self) -> PathBuf {
        unused_path(&self.folder, "registry.corrupt", "json")
    }

    /// Replaces the registry's file atomically, after keeping the old one.
    fn write(&self, text: &str, previous: &PreviousFile) -> std::io::Result<()> {
        let mut new = AtomicFile::with_permissions(&self.path(), None)?;
        new.write_all(text.as_bytes())?;
        new.sync()?;
        // A hard link keeps the old file when the rename below replaces it. File systems
        // without hard links need a copy.
        let link_or_copy = |path: &Path| -> std::io::Result<()> {
            if fs::hard_link(self.path(), path).is_err() {
                fs::copy(self.path(), path)?;
            }
            Ok(())
        };
        match previous {
            PreviousFile::Missing => {}
            PreviousFile::Valid => {
                let new_backup = self.folder.join(NEW_BACKUP);
                let _ignored = fs::remove_file(&new_backup);
                link_or_copy(&new_backup)?;
                fs::rename(&new_backup, self.folder.join(BACKUP))?;
            }
            // A link rather than a rename: the corrupt file stays in place until the new
            // one replaces it, so that readers never find the file missing.
            PreviousFile::Corrupt(corrupt_path) => link_or_copy(corrupt_path)?,
        }
        new.commit()
    }
}

fn read_registry_file(path: &Path) -> Result<RegistryFile, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(RegistryFile::Missing),
        Err(source) => {
            return Err(Error::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(RegistryFile::Corrupt("not UTF-8".to_owned()));
    };
    match serde_json::from_str::<Registry>(&text) {
        Ok(registry) if registry.schema == SCHEMA => {
            Ok(RegistryFile::Valid(Box::new(registry), text))
        }
        parsed => {
            // The file of a newer version may not parse as this schema.
            let schema = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|value| value.get("schema")?.as_u64());
            match (schema, parsed) {
                (Some(found), _) if found > u64::from(SCHEMA) => Err(Error::Newer {
                    path: path.to_owned(),
                    found,
                }),
                (_, Err(e)) => Ok(RegistryFile::Corrupt(e.to_string())),
                (_, Ok(_)) => Ok(RegistryFile::Corrupt("its schema is 0".to_owned())),
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
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_truncated_at_any_byte_is_kept_and_the_backup_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = RegistryStore::new(folder.path());
        store
            .update(|registry| registry.model_mut("s", "m").runs = 1)
            .unwrap();
        store
            .update(|registry| registry.model_mut("s", "m").runs = 2)
            .unwrap();
        let complete = fs::read(store.path()).unwrap();
        // All but the last two bytes, which are a newline and a brace.
        for end in 0..complete.len() - 2 {
            fs::write(store.path(), &complete[..end]).unwrap();
            let loaded = store.read().unwrap();
            assert_eq!(loaded.registry.model("s", "m").unwrap().runs, 1, "{end}");
            assert_eq!(loaded.warnings.len(), 1);
        }
        let ((), warnings) = store
            .update(|registry| registry.model_mut("s", "m").runs += 5)
            .unwrap();
        assert!(warnings[0].contains("corrupt-"), "{warnings:?}");
        assert_eq!(
            store.read().unwrap().registry.model("s", "m").unwrap().runs,
            6
        );
        let corrupt_names: Vec<String> = names(folder.path())
            .into_iter()
            .filter(|name| name.contains("corrupt"))
            .collect();
        assert_eq!(
            fs::read(folder.path().join(&corrupt_names[0])).unwrap(),
            complete[..complete.len() - 3]
        );
    }

    #[test]
    fn a_missing_file_is_restored_from_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let store = RegistryStore::new(folder.path());
        store
            .update(|registry| registry.model_mut("s", "m").runs = 1)
            .unwrap();
        store
            .update(|registry| registry.model_mut("s", "m").runs = 2)
            .unwrap();
        fs::remove_file(store.path()).unwrap();
        let loaded = store.read().unwrap();
        assert_eq!(loaded.registry.model("s", "m").unwrap().runs, 1);
        assert!(loaded.warnings[0].contains(BACKUP), "{:?}", loaded.warnings);
        let ((), warnings) = store
            .update(|registry| registry.model_mut("s", "m").runs += 5)
            .unwrap();
        assert!(warnings[0].contains("is missing"), "{warnings:?}");
        let loaded = store.read().unwrap();
        assert_eq!(loaded.registry.model("s", "m").unwrap().runs, 6);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn a_file_of_a_newer_version_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = RegistryStore::new(folder.path());
        fs::write(store.path(), r#"{"schema":2,"engines":[]}"#).unwrap();
        assert!(matches!(store.read(), Err(Error::Newer { found: 2, .. })));
        assert!(matches!(store.update(|_| ()), Err(Error::Newer { .. })));
        assert_eq!(
            fs::read_to_string(store.path()).unwrap(),
            r#"{"schema":2,"engines":[]}"#
        );
    }

    #[test]
    fn an_unchanged_registry_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = RegistryStore::new(folder.path());
        store
            .update(|registry| registry.model_mut("s", "m").runs = 1)
            .unwrap();
        let before = names(folder.path());
        store.update(|_| ()).unwrap();
        assert_eq!(names(folder.path()), before);
        assert!(!before.iter().any(|name| name == BACKUP), "{before:?}");
    }

    #[test]
    fn runs_are_visible_at_once_and_merged_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = RegistryStore::new(folder.path());
        store
            .record_observation(&observations::example("m"))
            .unwrap();
        for _ in 0..2 {
            let loaded = store.read().unwrap();
            assert_eq!(loaded.registry.model("embedded", "m").unwrap().runs, 1);
            store.update(|_| ()).unwrap();
        }
    }
}
