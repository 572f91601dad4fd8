//! The files of running servers, in the folder `llama.cpp` of the state folder. Processes
//! share a server by them:
//!
//! - `ID.json`: the server's process, address and key, as long as it takes new users
//! - `ID.lock`: locked by its supervisor as long as the server may run
//! - `ID.control.json`: instructions to its supervisor
//! - `ID.key`: its API key, for a llama-server that takes it from a file only
//! - `ID.log`: its output
//! - `FILE.start`: locked while a server for a model file is looked for or started
//!
//! The folder is private, since the key gives access to the server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::tied_child::end_group;
use crate::engine::{Error, LLAMA_CPP, process_start_time};
use crate::store::{AtomicFile, FileLock, sha256_hex};

const SCHEMA: u32 = 1;
/// Interval between attempts to take a lock, or looks at whether one is free.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerRecord {
    pub(super) schema: u32,
    pub(super) id: String,
    /// The model's name, as `ps` shows it.
    pub(super) model: String,
    /// The model file.
    pub(super) file: PathBuf,
    /// The name that requests use.
    pub(super) alias: String,
    /// The effective context length of one slot in tokens, if it is known.
    pub(super) context: Option<u32>,
    /// The context length that the server was started with, in tokens, if it was set.
    pub(super) requested_context: Option<u32>,
    /// The digest of the executable and the settings.
    pub(super) settings: String,
    /// The time without users after which the server ends, in milliseconds; `None` keeps it
    /// until it is unloaded.
    pub(super) idle_ms: Option<u64>,
    /// The base URL; empty until the server has loaded the model.
    pub(super) url: String,
    pub(super) key: ServerKey,
    /// The process ID of the server, and its start in seconds since the Unix epoch.
    pub(super) process: u32,
    pub(super) started: Option<i64>,
}

/// The API key of a server. It is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ServerKey(String);

impl ServerKey {
    /// Returns the key, to be sent to the server only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Instructions to a supervisor. A file with them may appear at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Control {
    /// End the server now.
    #[serde(default)]
    pub(super) stop: bool,
    /// The time without users after which the server ends, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) idle_ms: Option<u64>,
}

/// The files of all servers.
#[derive(Clone, Debug)]
pub(super) struct RunFiles {
    folder: PathBuf,
}

impl Control {
    /// End the server now.
    pub(super) const STOP: Self = Self {
        stop: true,
        idle_ms: None,
    };
    /// End the server with its last user.
    pub(super) const END_UNUSED: Self = Self {
        stop: false,
        idle_ms: Some(0),
    };
}

impl RunFiles {
    /// Returns the files in the state folder of servers.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join(LLAMA_CPP),
        }
    }

    /// Creates the folder.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub(super) fn create(&self) -> Result<(), Error> {
        let create = || {
            fs::create_dir_all(&self.folder)?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let private = std::fs::Permissions::from_mode(0o700);
                fs::set_permissions(&self.folder, private)?;
            }
            Ok(())
        };
        create().map_err(|source| self.write_error(&self.folder, source))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a file of a server.
    pub(super) fn path(&self, id: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    /// Returns the lock file under which servers for a model file are started and withdrawn.
    pub(super) fn start_lock(&self, file: &Path) -> PathBuf {
        self.path(&file_id(file), "start")
    }

    /// Waits for the lock under which a server for a model file is started. The caller sets
    /// the time limit.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub(super) async fn lock_start(&self, file: &Path) -> Result<FileLock, Error> {
        let path = self.start_lock(file);
        loop {
            let lock = FileLock::try_acquire(&path);
            match lock.map_err(|source| self.write_error(&path, source))? {
                Some(lock) => return Ok(lock),
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Returns the servers, also those that are still loading. Removes what is left of servers
    /// whose supervisor has ended, and ends those that outlived it.
    pub(super) fn running(&self) -> Vec<ServerRecord> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        // The dot of `ID.control.json` is not a part of an ID.
        let ids = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
        let records = ids.filter_map(|id| self.read_record(&id));
        let (mut running, ended): (Vec<_>, Vec<_>) =
            records.partition(|record| self.is_supervised(&record.id));
        ended.iter().for_each(|record| self.clean_up(record));
        running.sort_by(|a, b| a.id.cmp(&b.id));
        running
    }

    /// Returns the record of a server, if there is a valid one.
    pub(super) fn read_record(&self, id: &str) -> Option<ServerRecord> {
        let text = fs::read(self.path(id, "json")).ok()?;
        let record: ServerRecord = serde_json::from_slice(&text).ok()?;
        (record.schema == SCHEMA && record.id == id).then_some(record)
    }

    /// Returns the time without users after which a server ends, in milliseconds; `None` if it
    /// stays until it is unloaded.
    pub(super) fn idle_ms(&self, record: &ServerRecord) -> Option<u64> {
        let control = self.read_control(&record.id);
        control
            .and_then(|control| control.idle_ms)
            .or(record.idle_ms)
    }

    /// Returns whether the supervisor of a server runs.
    pub(super) fn is_supervised(&self, id: &str) -> bool {
        FileLock::is_held(&self.path(id, "lock"))
    }

    /// Removes the files of a server whose supervisor has ended. Ends the server if it outlived
    /// its supervisor, which only a kill of the supervisor on a system without parent-death
    /// signals can cause.
    pub(super) fn clean_up(&self, record: &ServerRecord) {
        let is_same =
            record.started.is_some() && process_start_time(record.process) == record.started;
        if is_same {
            end_group(record.process);
        }
        self.remove(&record.id);
    }

    /// Removes the files of a server, except its log.
    pub(super) fn remove(&self, id: &str) {
        for extension in ["json", "control.json", "key", "lock"] {
            let _absent = fs::remove_file(self.path(id, extension));
        }
    }

    /// Waits until the supervisor of a server has ended, for at most `limit`. Returns whether
    /// it has.
    pub(super) async fn wait_until_ended(&self, id: &str, limit: Duration) -> bool {
        let ended = async {
            while self.is_supervised(id) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub(super) fn write_record(&self, record: &ServerRecord) -> std::io::Result<()> {
        AtomicFile::replace(
            &self.path(&record.id, "json"),
            &serde_json::to_vec_pretty(record)?,
        )
    }

    /// Takes a record back, so that the server gets no new users.
    pub(super) fn remove_record(&self, id: &str) {
        let _absent = fs::remove_file(self.path(id, "json"));
    }

    /// Writes instructions to the supervisor of a server.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub(super) fn write_control(&self, id: &str, control: Control) -> Result<(), Error> {
        let path = self.path(id, "control.json");
        let write = || AtomicFile::replace(&path, &serde_json::to_vec(&control)?);
        write().map_err(|source| self.write_error(&path, source))
    }

    /// Returns the instructions to the supervisor of a server.
    pub(super) fn read_control(&self, id: &str) -> Option<Control> {
        let text = fs::read(self.path(id, "control.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write_error(&self, path: &Path, source: std::io::Error) -> Error {
        Error::WriteState {
            path: path.to_owned(),
            source,
        }
    }
}

impl ServerRecord {
    /// Creates the record of a server that does not listen yet.
    ///
    /// # Errors
    /// Returns an error if the operating system has no random numbers.
    pub(super) fn new(
        model: &str,
        file: &Path,
        alias: &str,
        settings: String,
    ) -> std::io::Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            id: format!("{}-{}", file_id(file), random_text(4)?),
            model: model.to_owned(),
            file: file.to_owned(),
            alias: alias.to_owned(),
            context: None,
            requested_context: None,
            settings,
            idle_ms: None,
            url: String::new(),
            key: ServerKey(random_text(32)?),
            process: 0,
            started: None,
        })
    }
}

/// Returns the start of the names of a model file's servers.
fn file_id(file: &Path) -> String {
    let mut digest = sha256_hex(file.to_string_lossy().as_bytes());
    digest.truncate(12);
    digest
}

/// Returns random bytes from the operating system as hexadecimal digits.
///
/// # Errors
/// Returns an error if there are none.
fn random_text(bytes: usize) -> std::io::Result<String> {
    use rustls::crypto::ring::default_provider;

    let mut random = vec![0; bytes];
    let provider = default_provider();
    let filled = provider.secure_random.fill(&mut random);
    filled.map_err(|_| std::io::Error::other("the system has no random numbers"))?;
    Ok(crate::store::hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, RunFiles) {
        let state = tempfile::tempdir().unwrap();
        let files = RunFiles::new(state.path());
        files.create().unwrap();
        (state, files)
    }

    fn new_record() -> ServerRecord {
        ServerRecord::new("m", Path::new("/m.gguf"), "m", String::new()).unwrap()
    }

    #[test]
    fn a_server_is_listed_as_long_as_its_supervisor_runs() {
        let (_state, files) = files();
        let record = new_record();
        files.write_record(&record).unwrap();
        let lock = FileLock::try_acquire(&files.path(&record.id, "lock")).unwrap();
        assert_eq!(files.running(), std::slice::from_ref(&record));
        drop(lock);
        assert_eq!(files.running(), []);
        assert_eq!(fs::read_dir(files.folder()).unwrap().count(), 0);
    }

    #[test]
    fn keys_are_random_and_files_are_private() {
        let (_state, files) = files();
        let (first, second) = (new_record(), new_record());
        assert_eq!(first.key.expose().len(), 64);
        assert!(first.key != second.key && first.id != second.id);
        assert!(!format!("{first:?}").contains(first.key.expose()));
        files.write_record(&first).unwrap();
        #[cfg(unix)]
        for (path, mode) in [
            (files.folder().to_owned(), 0o700),
            (files.path(&first.id, "json"), 0o600),
        ] {
            use std::os::unix::fs::PermissionsExt;
            let permissions = fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{}", path.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_server_that_outlived_its_supervisor_is_ended() {
        let (_state, files) = files();
        use crate::engine::llama_server::tied_child::lead_group;

        let mut command = std::process::Command::new("sleep");
        lead_group(command.arg("600"));
        let mut child = command.spawn().unwrap();
        let mut record = new_record();
        record.process = child.id();
        // Another process with the same ID is not the server.
        record.started = process_start_time(child.id()).map(|start| start - 100);
        files.write_record(&record).unwrap();
        assert_eq!(files.running(), []);
        assert_eq!(child.try_wait().unwrap(), None);
        record.started = process_start_time(child.id());
        files.write_record(&record).unwrap();
        assert_eq!(files.running(), []);
        assert!(!child.wait().unwrap().success());
    }
}
