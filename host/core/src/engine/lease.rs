//! Leases: which processes use a model of a server now. A lease is a locked file in the state
//! folder; a kill releases the lock, so that a lease never outlives its process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;

use super::Error;
use crate::store::{FileLock, sha256_hex};

/// Numbers the leases of this process.
static NEXT: AtomicUsize = AtomicUsize::new(0);
const EXTENSION: &str = "lease";

/// A use of a model by this process. Dropping it ends the use.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    _lock: FileLock,
}

impl Lease {
    /// Begins a use of a model. Must be called before an instance is selected, so that no
    /// other process unloads it in between.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub(super) fn acquire(folder: &Path, server: &str, model: &str) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::WriteState { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(
                "{}{}-{number}.{EXTENSION}",
                prefix(server, model),
                std::process::id()
            );
            let path = folder.join(name);
            let lock = FileLock::try_acquire(&path).map_err(failed(&path))?;
            // Another process may have taken the new file for a dead one and removed it.
            if let Some(lock) = lock
                && path.exists()
            {
                return Ok(Self { path, _lock: lock });
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If this fails, the file counts as dead.
        let _absent = fs::remove_file(&self.path);
    }
}

/// Returns whether a process uses the model, apart from `own`. Files of processes that have
/// ended are removed.
pub(super) fn is_used(folder: &Path, server: &str, model: &str, own: Option<&Lease>) -> bool {
    let prefix = prefix(server, model);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut is_used = false;
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_lease = name.starts_with(&prefix) && name.ends_with(EXTENSION);
        if !is_lease || own.is_some_and(|own| own.path == path) {
            continue;
        }
        match FileLock::try_acquire(&path) {
            Ok(Some(_lock)) => {
                let _removed_meanwhile = fs::remove_file(&path);
            }
            // A lock that cannot be tried may be held.
            Ok(None) | Err(_) => is_used = true,
        }
    }
    is_used
}

/// Returns the start of the file names of a model's leases.
fn prefix(server: &str, model: &str) -> String {
    let mut digest = sha256_hex(format!("{server}\n{model}").as_bytes());
    digest.truncate(16);
    format!("{digest}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_when_it_is_dropped_or_its_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let used = |model: &str| is_used(folder, "http://h", model, None);
        let shared = |lease: &Lease| is_used(folder, "http://h", "m", Some(lease));
        assert!(!used("m"));
        let first = Lease::acquire(folder, "http://h", "m").unwrap();
        assert!(used("m") && !used("n"));
        assert!(!shared(&first));
        let second = Lease::acquire(folder, "http://h", "m").unwrap();
        assert!(shared(&first));
        drop(second);
        assert!(!shared(&first));
        // A kill leaves the file, without its lock.
        let left = folder.join(format!("{}1-1.{EXTENSION}", prefix("http://h", "m")));
        fs::write(&left, "").unwrap();
        assert!(!shared(&first));
        assert!(!left.exists());
    }
}
