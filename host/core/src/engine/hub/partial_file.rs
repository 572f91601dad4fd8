//! The data of a download that is not complete: `NAME.gguf.partial`, next to
//! `NAME.gguf.partial.json`, which identifies the remote file. The data is kept for a
//! later run only if both are of the same remote file.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::error::HubError;
use super::remote_file::RemoteFile;
use crate::store::sha256_hex_of_file;

/// Disk space that a download leaves free, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

/// A partial download, opened for writing.
#[derive(Debug)]
pub(super) struct PartialFile {
    file: fs::File,
    path: PathBuf,
    identity_path: PathBuf,
    present_bytes: u64,
}

impl PartialFile {
    /// Opens the partial download of `remote` to `path`, or creates an empty one.
    /// Partial data of another remote file is removed.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written or removed.
    pub(super) fn open(path: &Path, remote: &RemoteFile) -> Result<Self, HubError> {
        let partial = append_extension(path, ".partial");
        let identity_path = append_extension(path, ".partial.json");
        let identity = fs::read(&identity_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<RemoteFile>(&bytes).ok());
        if identity.as_ref() != Some(remote) {
            // The partial data is of another or an unknown remote file.
            for old in [&partial, &identity_path] {
                match fs::remove_file(old) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(HubError::write_file(old)(e));
                    }
                    _ => {}
                }
            }
            let text = serde_json::to_vec(remote)
                .map_err(|e| HubError::write_file(&identity_path)(e.into()))?;
            fs::write(&identity_path, text).map_err(HubError::write_file(&identity_path))?;
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&partial)
            .map_err(HubError::write_file(&partial))?;
        let present_bytes = file
            .metadata()
            .map_err(HubError::write_file(&partial))?
            .len();
        let mut opened = Self {
            file,
            path: partial,
            identity_path,
            present_bytes,
        };
        if present_bytes > remote.size {
            opened.clear()?;
        }
        Ok(opened)
    }

    /// Returns the number of bytes downloaded so far.
    pub(super) fn present_bytes(&self) -> u64 {
        self.present_bytes
    }

    /// Checks that the disk has space for the rest of `remote`. `path` is the file in
    /// the error.
    ///
    /// # Errors
    /// Returns an error if the disk is known to have too little free space.
    pub(super) fn check_disk_space(
        &self,
        remote: &RemoteFile,
        path: &Path,
    ) -> Result<(), HubError> {
        let required = remote.size - self.present_bytes;
        match free_bytes(&self.path) {
            Some(free) if required.saturating_add(SPARE_BYTES) > free => {
                Err(HubError::InsufficientDiskSpace {
                    path: path.to_owned(),
                    required_bytes: required,
                    free_bytes: free,
                })
            }
            _ => Ok(()),
        }
    }

    /// Removes all data, so that the download starts from the beginning.
    pub(super) fn clear(&mut self) -> Result<(), HubError> {
        self.present_bytes = 0;
        self.file
            .set_len(0)
            .map_err(HubError::write_file(&self.path))
    }

    /// Sets the position to the end of the data, for [`PartialFile::append`].
    pub(super) fn seek_to_end(&mut self) -> Result<(), HubError> {
        self.file
            .seek(SeekFrom::Start(self.present_bytes))
            .map(|_| ())
            .map_err(HubError::write_file(&self.path))
    }

    /// Appends received data.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(data)
            .map_err(HubError::write_file(&self.path))?;
        self.present_bytes += data.len() as u64;
        Ok(())
    }

    /// Writes the complete data of `remote` to the disk.
    pub(super) fn sync(&self, remote: &RemoteFile) -> Result<(), HubError> {
        self.file
            .set_len(remote.size)
            .map_err(HubError::write_file(&self.path))?;
        self.file
            .sync_all()
            .map_err(HubError::write_file(&self.path))
    }

    /// Compares the SHA-256 of the data with `expected`, and removes the data if it
    /// differs.
    ///
    /// # Errors
    /// Returns an error if the checksum differs or the file cannot be read.
    pub(super) fn verify(&self, expected: &str) -> Result<(), HubError> {
        let actual = sha256_hex_of_file(&self.path).map_err(HubError::write_file(&self.path))?;
        if actual == expected {
            return Ok(());
        }
        // Resuming from corrupt data would fail again.
        let _ignored = fs::remove_file(&self.path);
        let _ignored = fs::remove_file(&self.identity_path);
        Err(HubError::ChecksumMismatch {
            path: self.path.clone(),
            expected: expected.to_owned(),
            actual,
        })
    }

    /// Moves the data to `path`.
    pub(super) fn move_to(self, path: &Path) -> Result<(), HubError> {
        fs::rename(&self.path, path).map_err(HubError::write_file(path))?;
        let _ignored = fs::remove_file(&self.identity_path);
        Ok(())
    }
}

/// Appends `extension` to the whole file name.
pub(super) fn append_extension(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(extension);
    PathBuf::from(path)
}

/// Returns the free space of the file's disk, in bytes, if known.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
