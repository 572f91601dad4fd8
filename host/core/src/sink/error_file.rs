//! `FILE.error.txt`: why an answer is missing.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, escape_controls};
use crate::store::{open_plain, write_plain};

/// The first line of every error file, which identifies files of this program. It is a
/// written format: files of earlier versions begin with it, too.
const HEADER: &str = "lmstrix-host could not finish this answer";

/// Returns the contents of an error file.
pub(super) fn error_text(reason: &str) -> String {
    format!("{HEADER}\n\n{}\n", escape_controls(reason))
}

/// Returns whether this program wrote a file as the reason of a failure.
pub(super) fn is_error_file(path: &Path) -> bool {
    let mut start = [0; HEADER.len()];
    let opened = open_plain(path, fs::OpenOptions::new().read(true));
    let read = opened.and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *HEADER.as_bytes()
}

/// Writes the reason of a failure to the error file of `target`. A file of that name
/// that this program did not write is kept: the reason is also on stderr.
pub(super) fn write_error_file(target: &Path, reason: &str) -> Result<(), Error> {
    let path = with_suffix(target, ".error.txt");
    if fs::symlink_metadata(&path).is_ok() && !is_error_file(&path) {
        return Ok(());
    }
    write_plain(&path, error_text(reason)).map_err(|source| Error::File { path, source })
}

/// Removes the error file of an earlier failure, if this program wrote it.
pub(super) fn remove_error_file(target: &Path) {
    let path = with_suffix(target, ".error.txt");
    if is_error_file(&path) {
        let _absent = fs::remove_file(path);
    }
}

/// Returns the path of `target` with a suffix appended to its file name.
pub(super) fn with_suffix(target: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(target.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}
