//! The errors of copying packs.

use std::path::PathBuf;

use lmstrix_sandbox::{ByteSize, Digest};

/// An error from adding, updating, removing or publishing a pack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of a pack is invalid.
    #[error("invalid source `{address}`: {reason}")]
    InvalidSource {
        /// The address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The reference of an artifact in a registry is invalid.
    #[error("invalid reference `{reference}`: {reason}")]
    InvalidReference {
        /// The reference, without the scheme.
        reference: String,
        /// The reason.
        reason: String,
    },
    /// The HTTP client cannot be created.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
    /// A server cannot be reached.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// The server.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// A registry requires a login, or refuses it.
    #[error("{address}: {reason}")]
    Login {
        /// The address of the artifact.
        address: String,
        /// The registry.
        registry: String,
        /// The registry's message.
        reason: String,
    },
    /// A server refused the request.
    #[error("{address}: {reason}")]
    Status {
        /// The address that was requested.
        address: String,
        /// The server's message.
        reason: String,
    },
    /// A transfer ended early.
    #[error("{address}: the transfer was cut off after {}: {reason}", ByteSize(*received))]
    CutOff {
        /// The address.
        address: String,
        /// The received bytes.
        received: u64,
        /// The innermost cause.
        reason: String,
    },
    /// The pack exceeds a size limit.
    #[error("{address} has {} or more, the limit is {} ({limit_name})", ByteSize(*bytes), ByteSize(*limit))]
    TooLarge {
        /// The address.
        address: String,
        /// The announced size, or the received bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// The name of the limit.
        limit_name: &'static str,
    },
    /// The content has another digest.
    #[error("{address} has {actual}, not {expected}")]
    WrongDigest {
        /// The address.
        address: String,
        /// The expected digest.
        expected: String,
        /// The digest of the content.
        actual: String,
    },
    /// The artifact or the file is not a pack.
    #[error("{address} is not a pack: {reason}")]
    NotAPack {
        /// The address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// A folder contains no packs.
    #[error("no packs in `{}`", .0.display())]
    EmptyFolder(PathBuf),
    /// Another pack has the name.
    #[error("the folder `{}` has another pack `{name}`", folder.display())]
    Exists {
        /// Name of the pack.
        name: String,
        /// The packs folder.
        folder: PathBuf,
    },
    /// A file that belongs to no pack has the path of a new one.
    #[error("`{}` exists and is no part of the pack", .0.display())]
    FileExists(PathBuf),
    /// The folder with the files of a pack is a symbolic link.
    #[error("`{}` is a symbolic link, and files in it are not changed", .0.display())]
    LinkedFolder(PathBuf),
    /// The packs folder does not exist.
    #[error("`{}` is not a folder", .0.display())]
    NoFolder(PathBuf),
    /// The files of a pack differ from the lock file.
    #[error(
        "pack `{name}` was changed by hand, or by a command that was interrupted: {difference}"
    )]
    Changed {
        /// Name of the pack.
        name: String,
        /// The first difference.
        difference: String,
    },
    /// The folder has no such pack.
    #[error("no pack `{name}` in `{}`", folder.display())]
    NotFound {
        /// Name of the pack.
        name: String,
        /// The packs folder.
        folder: PathBuf,
    },
    /// The pack is not in the lock file.
    #[error("pack `{name}` is not in `{}`", lock_file.display())]
    NotLocked {
        /// Name of the pack.
        name: String,
        /// The lock file.
        lock_file: PathBuf,
    },
    /// The source of a locked pack has changed.
    #[error("pack `{name}` at {address} has {actual}, and packs.lock has {locked}")]
    SourceChanged {
        /// Name of the pack.
        name: String,
        /// Where the pack was fetched.
        address: String,
        /// The digest in the lock file.
        locked: Digest,
        /// The digest of the fetched pack.
        actual: Digest,
    },
    /// Another process changes the folder.
    #[error("another process is changing the packs in `{}`", .0.display())]
    Busy(PathBuf),
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A pack cannot be read or loaded.
    #[error(transparent)]
    Pack(#[from] lmstrix_sandbox::Error),
}

impl Error {
    /// Returns a function that adds the path to an error of the operating system.
    pub(crate) fn write(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        // The causes around the innermost one name the path again.
        move |error| Self::Write {
            path,
            source: std::io::Error::new(error.kind(), root_cause(&error)),
        }
    }
}

/// Returns the message of the innermost cause; the others only say that a request failed.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
