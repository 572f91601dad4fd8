//! The errors of the hub and of its downloads.

use std::path::{Path, PathBuf};

use crate::quantity::format_bytes;

/// Number of consecutive attempts without progress before a download fails.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// An error of a download.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is not a repository.
    #[error("`{0}` is not of the form OWNER/REPO[:QUANT]")]
    InvalidReference(String),
    /// The hub cannot be reached.
    #[error("cannot reach {hub}: {reason}")]
    Unreachable {
        /// The hub's address.
        hub: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The hub returned an HTTP error.
    #[error("{hub} returned HTTP {status} for `{repo}`: {message}")]
    Status {
        /// The hub's address.
        hub: String,
        /// The repository.
        repo: String,
        /// The HTTP status.
        status: u16,
        /// The hub's message.
        message: String,
    },
    /// The hub's list of files is not valid.
    #[error("invalid list of files from {hub}")]
    InvalidFileList {
        /// The hub's address.
        hub: String,
    },
    /// The reference matches no file or more than one.
    #[error("{repo}: {reason}")]
    SelectFile {
        /// The repository.
        repo: String,
        /// The reason.
        reason: String,
        /// The model files of the repository: name and size in bytes.
        candidates: Vec<(String, u64)>,
    },
    /// The file's name is reserved for the built-in model.
    #[error("{repo}: `-m {name}` is the built-in model, so `{name}.gguf` could not be used")]
    ReservedName {
        /// The repository.
        repo: String,
        /// The name.
        name: &'static str,
    },
    /// A different file of that name exists.
    #[error("{} already exists and is a different file", .0.display())]
    FileExists(PathBuf),
    /// Another process is downloading the file.
    #[error("another process is downloading {}", .0.display())]
    AlreadyDownloading(PathBuf),
    /// The disk has too little free space.
    #[error(
        "{} needs {} of disk space, but only {} are free",
        path.display(),
        format_bytes(*required_bytes),
        format_bytes(*free_bytes)
    )]
    InsufficientDiskSpace {
        /// The file.
        path: PathBuf,
        /// The bytes that remain to be downloaded.
        required_bytes: u64,
        /// The free disk space, in bytes.
        free_bytes: u64,
    },
    /// The downloaded file differs from the one on the hub.
    #[error(
        "checksum mismatch for {}: expected {expected}, got {actual}",
        path.display()
    )]
    ChecksumMismatch {
        /// The file, which has been removed.
        path: PathBuf,
        /// The expected SHA-256, in hex.
        expected: String,
        /// The actual SHA-256, in hex.
        actual: String,
    },
    /// Too many attempts without progress.
    #[error("download failed after {MAX_ATTEMPTS} attempts without progress: {0}")]
    DownloadInterrupted(String),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

impl HubError {
    /// Returns a function that adds `path` to an error of the operating system.
    pub(super) fn write_file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::WriteFile { path, source }
    }
}
