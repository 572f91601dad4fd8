//! Ownership of instances: which instances this program loaded and may unload,
//! and a lock that serializes loads. There is one lock file and one record file
//! per server, in the state folder.
//!
//! A record is written before a load and removed after the unload, so that it
//! survives a kill. The lock is a file lock of the operating system, which
//! releases it when the process ends for any reason.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::store::{AtomicFile, FileLock, sha256_hex};

/// Interval between attempts to take a lock that another process holds.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

const SCHEMA: u32 = 1;

/// An instance that this program is loading or has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnershipRecord {
    /// The model's name on the server.
    pub(super) model: String,
    /// The instance's name; absent while it is being loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// The effective context length, in tokens, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<u32>,
    /// The requested context length, in tokens.
    #[serde(rename = "asked", default, skip_serializing_if = "Option::is_none")]
    pub(super) requested_context: Option<u32>,
    /// Instances of the model that existed before the load, and that this program
    /// therefore does not own.
    #[serde(rename = "before", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) existing_instances: Vec<String>,
    /// The ID of the process that loaded it.
    #[serde(default)]
    pub(super) process: u32,
    /// The process that loaded it is done, and the last one that uses it unloads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) handed_over: bool,
}

#[derive(Serialize, Deserialize)]
struct OwnershipFile {
    schema: u32,
    server: String,
    #[serde(rename = "claims")]
    records: Vec<OwnershipRecord>,
}

/// The ownership records of one server, and its lock, which is held until this
/// value is dropped.
#[derive(Debug)]
pub(super) struct Ownership {
    server: String,
    path: PathBuf,
    records: Vec<OwnershipRecord>,
    _lock: FileLock,
}

/// Returns the file name, without extension, of the files of a server.
fn file_stem(server: &str) -> String {
    let mut digest = sha256_hex(server.as_bytes());
    digest.truncate(16);
    digest
}

/// Reads the ownership records of a server without taking its lock, for display.
pub(super) fn read_unlocked(folder: &Path, server: &str) -> Vec<OwnershipRecord> {
    read_file(&folder.join(format!("{}.json", file_stem(server))))
}

fn read_file(path: &Path) -> Vec<OwnershipRecord> {
    // A corrupt file counts as no ownership: an instance that stays loaded only
    // costs memory, but unloading the wrong one can interrupt another program.
    fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<OwnershipFile>(&bytes).ok())
        .filter(|file| file.schema == SCHEMA)
        .map(|file| file.records)
        .unwrap_or_default()
}

impl Ownership {
    /// Takes the lock of a server and reads its records. Waits for the lock without
    /// a limit; the caller sets the timeout.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub(super) async fn lock(folder: &Path, server: &str) -> Result<Self, Error> {
        let name = file_stem(server);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::WriteState { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join(format!("{name}.lock"));
        let lock = loop {
            match FileLock::try_acquire(&path).map_err(failed(&path))? {
                Some(lock) => break lock,
                None => tokio::time::sleep(LOCK_RETRY_INTERVAL).await,
            }
        };
        let path = folder.join(format!("{name}.json"));
        Ok(Self {
            server: server.to_owned(),
            records: read_file(&path),
            path,
            _lock: lock,
        })
    }

    /// Removes records of instances that no longer exist. `instances` are the
    /// loaded instances of all models with their contexts.
    ///
    /// # Errors
    /// Returns an error if the record file cannot be written.
    pub(super) fn reconcile(&mut self, instances: &[(String, Option<u32>)]) -> Result<(), Error> {
        let previous = self.records.clone();
        self.records.retain(|record| match &record.instance {
            Some(id) => instances
                .iter()
                // The same name with another context is another instance.
                .any(|(instance, context)| {
                    instance == id && contexts_match(*context, record.context)
                }),
            // The load was interrupted by a kill; its instance may have appeared since.
            None => instances
                .iter()
                .any(|(instance, _)| record.may_be_instance(instance)),
        });
        if self.records == previous {
            return Ok(());
        }
        self.write()
    }

    /// Returns whether this program loaded the instance.
    pub(super) fn is_owned(&self, instance: &str, context: Option<u32>) -> bool {
        is_owned(&self.records, instance, context)
    }

    /// Returns the context that was requested when this program loaded the
    /// instance.
    pub(super) fn requested_context(&self, instance: &str) -> Option<u32> {
        let mut records = self.records.iter();
        records
            .find(|record| record.instance.as_deref() == Some(instance))?
            .requested_context
    }

    /// Returns whether this process loaded the instance of the model, or may have
    /// loaded it with a load that has not finished.
    pub(super) fn may_be_loaded_by_process(
        &self,
        model: &str,
        instance: &str,
        context: Option<u32>,
    ) -> bool {
        let records: Vec<OwnershipRecord> = self.records_of_process(model).cloned().collect();
        is_owned(&records, instance, context)
    }

    /// Returns whether this process loaded the model or began to load it.
    pub(super) fn has_loaded_by_process(&self, model: &str) -> bool {
        self.records_of_process(model).next().is_some()
    }

    /// Returns whether this process began a load of the model that has not finished.
    pub(super) fn has_pending_load(&self, model: &str) -> bool {
        self.records_of_process(model)
            .any(|record| record.instance.is_none())
    }

    fn records_of_process(&self, model: &str) -> impl Iterator<Item = &OwnershipRecord> {
        self.records
            .iter()
            .filter(move |record| record.process == std::process::id() && record.model == model)
    }

    /// Records the start of a load. Must be called before the load.
    ///
    /// # Errors
    /// Returns an error if the record file cannot be written.
    pub(super) fn begin_load(
        &mut self,
        model: &str,
        requested_context: Option<u32>,
        existing_instances: Vec<String>,
    ) -> Result<(), Error> {
        self.records
            .retain(|record| record.instance.is_some() || record.model != model);
        self.records.push(OwnershipRecord {
            model: model.to_owned(),
            requested_context,
            existing_instances,
            process: std::process::id(),
            ..OwnershipRecord::default()
        });
        self.write()
    }

    /// Records the end of a load: the new instance with its context, or `None` if
    /// the load failed.
    ///
    /// # Errors
    /// Returns an error if the record file cannot be written.
    pub(super) fn finish_load(
        &mut self,
        model: &str,
        instance: Option<(&str, Option<u32>)>,
    ) -> Result<(), Error> {
        let is_pending =
            |record: &OwnershipRecord| record.instance.is_none() && record.model == model;
        match instance {
            Some((id, context)) => {
                if let Some(record) = self.records.iter_mut().find(|record| is_pending(record)) {
                    record.instance = Some(id.to_owned());
                    record.context = context;
                    record.existing_instances.clear();
                }
            }
            None => self.records.retain(|record| !is_pending(record)),
        }
        self.write()
    }

    /// Leaves the unload of an instance to the last process that uses it.
    ///
    /// # Errors
    /// Returns an error if the record file cannot be written.
    pub(super) fn hand_over(&mut self, instance: &str) -> Result<(), Error> {
        let of_instance =
            |record: &&mut OwnershipRecord| record.instance.as_deref() == Some(instance);
        for record in self.records.iter_mut().filter(of_instance) {
            record.handed_over = true;
        }
        self.write()
    }

    /// Removes the records of an instance. Must be called after an unload.
    ///
    /// # Errors
    /// Returns an error if the record file cannot be written.
    pub(super) fn release(&mut self, instance: &str) -> Result<(), Error> {
        self.records.retain(|record| {
            record.instance.as_deref() != Some(instance) && !record.may_be_instance(instance)
        });
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let failed = |source| Error::WriteState {
            path: self.path.clone(),
            source,
        };
        let file = OwnershipFile {
            schema: SCHEMA,
            server: self.server.clone(),
            records: self.records.clone(),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|e| failed(e.into()))?;
        let write = || {
            let mut file = AtomicFile::with_permissions(&self.path, None)?;
            file.write_all(&text)?;
            file.commit()
        };
        write().map_err(failed)
    }
}

/// Returns whether one of the records is for this instance.
pub(super) fn is_owned(records: &[OwnershipRecord], instance: &str, context: Option<u32>) -> bool {
    records.iter().any(|record| match &record.instance {
        Some(id) => id == instance && contexts_match(context, record.context),
        None => record.may_be_instance(instance),
    })
}

impl OwnershipRecord {
    /// Returns whether the instance may come from this record's unfinished load.
    /// LM Studio names instances `MODEL`, `MODEL:2`, `MODEL:3`.
    fn may_be_instance(&self, instance: &str) -> bool {
        let is_name_of_model = instance
            .strip_prefix(self.model.as_str())
            .is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix(':')
                        .is_some_and(|number| number.parse::<u32>().is_ok())
            });
        self.instance.is_none()
            && is_name_of_model
            && !self
                .existing_instances
                .iter()
                .any(|existing| existing == instance)
    }
}

/// Returns whether two contexts can be the same; an unknown one matches any.
fn contexts_match(a: Option<u32>, b: Option<u32>) -> bool {
    a.is_none() || b.is_none() || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn locked(folder: &Path) -> Ownership {
        Ownership::lock(folder, "http://h:1").await.unwrap()
    }

    #[tokio::test]
    async fn records_survive_a_kill_and_are_removed_with_their_instances() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let foreign = ("m".to_owned(), Some(4096));
        let owned = ("m:2".to_owned(), Some(8192));
        locked(folder)
            .await
            .begin_load("m", None, vec!["m".to_owned()])
            .unwrap();
        // Killed during the load: the new instance is owned, the existing one is not.
        let mut ownership = locked(folder).await;
        ownership.reconcile(&[foreign.clone(), owned]).unwrap();
        assert!(ownership.is_owned("m:2", Some(8192)) && !ownership.is_owned("m", Some(4096)));
        ownership
            .finish_load("m", Some(("m:2", Some(8192))))
            .unwrap();
        drop(ownership);
        let records = read_unlocked(folder, "http://h:1");
        assert!(is_owned(&records, "m:2", Some(8192)));
        // The same name with another context is an instance of another program.
        assert!(!is_owned(&records, "m:2", Some(2048)));
        assert!(read_unlocked(folder, "http://h:2").is_empty());
        let mut ownership = locked(folder).await;
        ownership.reconcile(std::slice::from_ref(&foreign)).unwrap();
        assert!(!ownership.is_owned("m:2", Some(8192)));
    }

    #[tokio::test]
    async fn the_lock_is_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let first = locked(folder.path()).await;
        let wait = Duration::from_millis(120);
        let second = tokio::time::timeout(wait, locked(folder.path())).await;
        assert!(second.is_err());
        drop(first);
        locked(folder.path()).await;
    }
}
