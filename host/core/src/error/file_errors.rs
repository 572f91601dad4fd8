//! Errors of the user's files.

use super::definition::{Error, ErrorKind};
use crate::attachment::AttachmentError;
use crate::error_chain::error_chain;
use crate::registry;
use crate::toml_file::TomlFileError;

pub(super) fn registry_error(error: &registry::Error) -> Error {
    let message = error_chain(error);
    match error {
        registry::Error::Newer { .. } => {
            Error::usage(message).hint("update lmstrix-host, or move the file away")
        }
        registry::Error::Locked { .. } => Error::new(ErrorKind::Broken, message)
            .hint("the lock is released when its process ends; look for a hung process"),
        registry::Error::Read { .. } | registry::Error::Write { .. } => {
            Error::new(ErrorKind::Broken, message)
                .hint("free disk space or fix the folder's permissions, or set LMSTRIX_HOST_HOME to another folder")
        }
    }
}

pub(super) fn attachment_error(error: &AttachmentError) -> Error {
    Error::usage(error_chain(error)).optional_hint(error.hint())
}

pub(super) fn toml_file_error(error: &TomlFileError) -> Error {
    Error::usage(error_chain(error))
}
