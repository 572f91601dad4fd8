//! Keeps folders of state and caches from growing without bound.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;

/// The files of a folder that are removed, and the limits of the others.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The beginning of the names of the files.
    pub prefix: &'static str,
    /// The end of the names of the files.
    pub suffix: &'static str,
    /// Older files are removed.
    pub age_max: Duration,
    /// The oldest files are removed until the others have at most this many bytes.
    pub bytes_max: u64,
}

/// The age of temporary files that no running process still writes.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Sweep {
    /// Returns the sweep of temporary files that kills have left.
    #[must_use]
    pub fn of_temporary_files(prefix: &'static str) -> Self {
        Self {
            prefix,
            suffix: "",
            age_max: DAY,
            bytes_max: u64::MAX,
        }
    }

    /// Removes files. What cannot be read or removed stays.
    pub fn run(&self, folder: &Path) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with(self.prefix) && name.ends_with(self.suffix)
            })
            .filter_map(|entry| {
                let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some((last_use(&metadata)?, metadata.len(), entry.path()))
            })
            .collect();
        // The newest first.
        files.sort_by(|a, b| b.cmp(a));
        let now = SystemTime::now();
        let mut bytes = 0_u64;
        for (used, length, path) in files {
            bytes = bytes.saturating_add(length);
            let age = now.duration_since(used).unwrap_or_default();
            if age > self.age_max || bytes > self.bytes_max {
                let _still_there = fs::remove_file(path);
            }
        }
    }
}

/// Returns the time of the last change, or of the last read where the system keeps it.
fn last_use(metadata: &std::fs::Metadata) -> Option<SystemTime> {
    let modified = metadata.modified().ok()?;
    Some(
        metadata
            .accessed()
            .map_or(modified, |read| read.max(modified)),
    )
}

/// Returns the size in bytes of all files in a folder and its subfolders. Links are not
/// followed.
#[must_use]
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(metadata, path)| {
            if metadata.is_dir() {
                folder_bytes(&path)
            } else {
                metadata.len()
            }
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_and_then_the_oldest_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, days, bytes) in [
            ("a.tmp", 0, 10),
            ("b.tmp", 1, 10),
            ("c.tmp", 2, 10),
            ("old.tmp", 9, 1),
            ("old.txt", 9, 1),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, vec![0; bytes]).unwrap();
            let time = now - DAY * days;
            let times = std::fs::FileTimes::new()
                .set_modified(time)
                .set_accessed(time);
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.file().set_times(times).unwrap();
        }
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(folder_bytes(folder.path()), 32);
        let sweep = Sweep {
            prefix: "",
            suffix: ".tmp",
            age_max: DAY * 5,
            bytes_max: 100,
        };
        sweep.run(folder.path());
        assert_eq!(names(), "a.tmp b.tmp c.tmp old.txt");
        Sweep {
            bytes_max: 20,
            ..sweep
        }
        .run(folder.path());
        assert_eq!(names(), "a.tmp b.tmp old.txt");
        Sweep::of_temporary_files("").run(folder.path());
        assert_eq!(names(), "a.tmp");
    }
}
