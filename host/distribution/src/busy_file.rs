//! The lock on a packs folder while a process changes it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use lmstrix::store::FileLock;

use crate::error::Error;

/// The file that is locked while a process changes the folder.
const BUSY_FILE: &str = ".lmstrix-packs.lock";
/// How long a process waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two tries to lock the file.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// The locked file, which is removed at the end.
#[derive(Debug)]
pub(crate) struct BusyFile {
    pub(crate) path: PathBuf,
    _lock: FileLock,
}

impl BusyFile {
    /// Locks the file, which is created. Waits for another process for some seconds.
    pub(crate) fn acquire(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(BUSY_FILE);
        let end = Instant::now() + BUSY_TIMEOUT;
        loop {
            let lock = FileLock::try_acquire(&path).map_err(Error::write(&path))?;
            // Its last holder may have removed the file before it was locked here.
            if let Some(lock) = lock.filter(|_| path.exists()) {
                return Ok(Self { path, _lock: lock });
            }
            if Instant::now() >= end {
                return Err(Error::Busy(folder.to_owned()));
            }
            std::thread::sleep(BUSY_POLL);
        }
    }
}

impl Drop for BusyFile {
    fn drop(&mut self) {
        let _ignored = fs::remove_file(&self.path);
    }
}
