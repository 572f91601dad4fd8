//! Files that survive a kill: written completely or not at all, and locked against other
//! processes.

mod atomic_file;
mod digest;
mod file_lock;
mod plain_file;
mod sweep;

use std::path::{Path, PathBuf};

pub use atomic_file::{AtomicFile, TEMPORARY_PREFIX};
pub use digest::{hex, sha256_hex, sha256_hex_of_file};
pub use file_lock::FileLock;
use jiff::Timestamp;
pub use plain_file::{create_plain, open_plain, read_plain, write_plain};
pub use sweep::{DAY, Sweep, folder_bytes};

/// Returns a path in the folder that does not exist, `STEM-UNIXTIME.EXTENSION`.
pub fn unused_path(folder: &Path, stem: &str, extension: &str) -> PathBuf {
    let second = Timestamp::now().as_second();
    let mut number = 0;
    loop {
        let name = match number {
            0 => format!("{stem}-{second}.{extension}"),
            number => format!("{stem}-{second}-{number}.{extension}"),
        };
        let path = folder.join(name);
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}
