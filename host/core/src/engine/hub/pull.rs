//! Pulls a model file into a folder: selects it, downloads it under a lock, and
//! verifies its checksum.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::client::Hub;
use super::download::PullProgress;
use super::error::HubError;
use super::partial_file::{PartialFile, append_extension};
use super::reference::HubReference;
use super::remote_file::{RemoteFile, select_file};
use crate::engine::DEMO;
use crate::store::{FileLock, sha256_hex_of_file};

/// The result of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullResult {
    /// The file.
    pub path: PathBuf,
    /// The size in bytes.
    pub size_bytes: u64,
    /// True if the complete file existed already.
    pub already_present: bool,
}

impl Hub {
    /// Downloads a file into a folder, or resumes its download.
    ///
    /// # Errors
    /// Returns an error if the file does not exist, the disk is too small, the
    /// connection fails repeatedly, the checksum does not match, or a different file
    /// exists and `force` is not set. A partial download is kept.
    pub async fn pull(
        &self,
        reference: &HubReference,
        revision: &str,
        folder: &Path,
        force: bool,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<PullResult, HubError> {
        let files = self.list_files(&reference.repo, revision).await?;
        let remote = select_file(reference, &files)?;
        if remote.name().strip_suffix(".gguf") == Some(DEMO) {
            return Err(HubError::ReservedName {
                repo: reference.repo.clone(),
                name: DEMO,
            });
        }
        let path = folder.join(remote.name());
        fs::create_dir_all(folder).map_err(HubError::write_file(folder))?;
        let lock_path = append_extension(&path, ".lock");
        let lock = FileLock::try_acquire(&lock_path).map_err(HubError::write_file(&lock_path))?;
        if lock.is_none() {
            return Err(HubError::AlreadyDownloading(path));
        }
        let pulled = self
            .pull_locked(reference, revision, remote, &path, force, on_progress)
            .await;
        // Other processes do not wait for this lock, so the file can be removed.
        let _ignored = fs::remove_file(&lock_path);
        pulled
    }

    async fn pull_locked(
        &self,
        reference: &HubReference,
        revision: &str,
        remote: &RemoteFile,
        path: &Path,
        force: bool,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<PullResult, HubError> {
        let result = |already_present| PullResult {
            path: path.to_owned(),
            size_bytes: remote.size,
            already_present,
        };
        if let Ok(existing) = fs::metadata(path) {
            on_progress(PullProgress::Verifying);
            if is_same_file(path, existing.len(), remote)? {
                return Ok(result(true));
            }
            if !force {
                return Err(HubError::FileExists(path.to_owned()));
            }
        }
        let mut partial = PartialFile::open(path, remote)?;
        partial.check_disk_space(remote, path)?;
        self.download(reference, revision, remote, &mut partial, on_progress)
            .await?;
        partial.sync(remote)?;
        if let Some(expected) = &remote.sha256 {
            on_progress(PullProgress::Verifying);
            partial.verify(expected)?;
        }
        partial.move_to(path)?;
        Ok(result(false))
    }
}

/// Returns whether the file at `path`, of `size` bytes, is the remote one.
fn is_same_file(path: &Path, size: u64, remote: &RemoteFile) -> Result<bool, HubError> {
    if size != remote.size {
        return Ok(false);
    }
    match &remote.sha256 {
        Some(sha256) => {
            let actual = sha256_hex_of_file(path).map_err(HubError::write_file(path))?;
            Ok(actual == *sha256)
        }
        None => Ok(true),
    }
}
