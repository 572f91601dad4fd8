//! Locks between processes.

use std::path::Path;

use fs_err as fs;

use super::plain_file::open_plain;

/// A locked file. Dropping it releases the lock; after a kill, the operating system does.
#[derive(Debug)]
pub struct FileLock {
    _file: fs::File,
}

impl FileLock {
    /// Locks a file, which is created if it does not exist. Returns `None` if another
    /// process holds the lock.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or locked.
    pub fn try_acquire(path: &Path) -> std::io::Result<Option<Self>> {
        let mut options = fs::OpenOptions::new();
        let file = open_plain(path, options.write(true).create(true).truncate(false))?;
        match file.file().try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns whether a process holds the lock of a file. Does not create the file. A lock
    /// that cannot be tried counts as held.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        match open_plain(path, fs::OpenOptions::new().read(true)) {
            Ok(file) => file.file().try_lock().is_err(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_released_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = FileLock::try_acquire(&path).unwrap();
        assert!(first.is_some());
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        assert!(FileLock::is_held(&path));
        drop(first);
        assert!(!FileLock::is_held(&path));
        let absent = folder.path().join("absent");
        assert!(!FileLock::is_held(&absent) && !absent.exists());
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
        FileLock::try_acquire(&folder.path().join("no/lock")).unwrap_err();
    }
}
