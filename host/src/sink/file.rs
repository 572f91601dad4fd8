//! `-o FILE`: complete or absent.
//!
//! While the model speaks, its raw answer goes into `FILE.partial`, so that
//! nothing that was paid for is lost, whatever the processors do and however
//! the machine ends. When all is well the finished text appears as `FILE` by
//! one rename, and the rest goes. A failure is never written into `FILE`; it
//! goes into `FILE.error.txt`.

use std::ffi::OsString;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Error, Sink, visible};

/// A file that an answer is written to.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    partial: Partial,
    text: String,
}

#[derive(Debug)]
enum Partial {
    /// A pipe or a device: written at once, since it cannot be renamed.
    Direct(fs::File),
    /// `FILE.partial`; whether it was there before, and whether text was written.
    Kept {
        file: fs::File,
        path: PathBuf,
        is_old: bool,
        written: bool,
    },
}

/// The first line of every error file: by it we know our own.
const ERROR_HEAD: &str = "lmstrix-host could not finish this answer";

impl OutputFile {
    /// Makes sure that the file can be written, before any model is loaded. An
    /// older `.partial` is left alone until the first text arrives.
    ///
    /// # Errors
    /// The folder is missing or cannot be written, or the path is a folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let target = behind_links(path);
        let partial = match fs::metadata(&target) {
            Ok(it) if it.is_dir() => {
                return Err(failed(std::io::Error::from(
                    std::io::ErrorKind::IsADirectory,
                )));
            }
            // A name below /dev may stand for a stream of this process that leads
            // into a file; what is in there already is none of our business.
            _ if path.starts_with("/dev") || path.starts_with("/proc") => {
                let file = fs::OpenOptions::new()
                    .append(true)
                    .open(path)
                    .map_err(failed)?;
                Partial::Direct(file)
            }
            Ok(it) if !it.is_file() => {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(&target)
                    .map_err(failed)?;
                Partial::Direct(file)
            }
            _ => {
                let path = beside(&target, ".partial");
                let is_old = path.exists();
                let file = fs::OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)
                    .map_err(failed)?;
                // Two runs would write over each other's answer.
                if let Err(std::fs::TryLockError::WouldBlock) = file.file().try_lock() {
                    let what = "another run is writing this file";
                    return Err(failed(std::io::Error::other(what)));
                }
                Partial::Kept {
                    file,
                    path,
                    is_old,
                    written: false,
                }
            }
        };
        Ok(Self {
            target,
            partial,
            text: String::new(),
        })
    }

    /// Where the raw answer is kept until it is complete; a pipe or a device
    /// keeps nothing.
    #[must_use]
    pub fn partial(&self) -> Option<PathBuf> {
        match &self.partial {
            Partial::Direct(_) => None,
            Partial::Kept { path, .. } => Some(path.clone()),
        }
    }

    /// The finished text becomes the file.
    ///
    /// # Errors
    /// The disk is full, or the folder changed under us. The raw answer stays
    /// in `.partial`.
    pub fn complete(self) -> Result<(), Error> {
        let failed = |source| Error::File {
            path: self.target.clone(),
            source,
        };
        let (mut file, partial) = match self.partial {
            Partial::Direct(mut file) => {
                use std::io::{ErrorKind, IsTerminal};
                let is_terminal = file.file().is_terminal();
                let text = if is_terminal {
                    visible(&self.text)
                } else {
                    self.text
                };
                let written = file.write_all(text.as_bytes());
                return written.map_err(|e| match e.kind() {
                    ErrorKind::BrokenPipe => Error::BrokenPipe,
                    _ => failed(e),
                });
            }
            Partial::Kept { file, path, .. } => (file, path),
        };
        file.sync_data().map_err(failed)?;
        let folder = folder_of(&self.target);
        let mut finished = tempfile::Builder::new()
            .prefix(".lmstrix-")
            .permissions(default_permissions(&self.target, &file))
            .tempfile_in(folder)
            .map_err(failed)?;
        finished.write_all(self.text.as_bytes()).map_err(failed)?;
        finished.as_file().sync_all().map_err(failed)?;
        finished
            .persist(&self.target)
            .map_err(|e| failed(e.error))?;
        file.flush().map_err(failed)?;
        drop(file);
        // The answer is safe; what is left over only confuses.
        let _gone = fs::remove_file(partial);
        remove_our_error(&self.target);
        Ok(())
    }

    /// The answer failed: the reason goes beside the file, the raw answer stays
    /// in `.partial`. Returns where the partial text is, if there is any.
    ///
    /// # Errors
    /// The error file cannot be written.
    pub fn fail(self, reason: &str) -> Result<Option<PathBuf>, Error> {
        let Partial::Kept {
            file,
            path,
            is_old,
            written,
        } = self.partial
        else {
            return Ok(None);
        };
        drop(file);
        if !written && !is_old {
            let _gone = fs::remove_file(&path);
        }
        write_our_error(&self.target, reason)?;
        Ok(written.then_some(path))
    }
}

/// Writes the reason beside a result that failed. A file of that name that is
/// not ours stays as it is; the reason is on stderr, too.
pub(super) fn write_our_error(target: &Path, reason: &str) -> Result<(), Error> {
    let path = beside(target, ".error.txt");
    let is_ours = fs::read_to_string(&path).map(|text| text.starts_with(ERROR_HEAD));
    if !is_ours.unwrap_or(!path.exists()) {
        return Ok(());
    }
    fs::write(&path, error_text(reason)).map_err(|source| Error::File { path, source })
}

/// What an error file holds.
pub(super) fn error_text(reason: &str) -> String {
    format!("{ERROR_HEAD}\n\n{reason}\n")
}

impl Sink for OutputFile {
    fn raw(&mut self, text: &str) -> Result<(), Error> {
        let Partial::Kept {
            file,
            path,
            written,
            ..
        } = &mut self.partial
        else {
            return Ok(());
        };
        let result = if *written {
            file.write_all(text.as_bytes())
        } else {
            // Only now is an older partial answer replaced by a newer one.
            *written = true;
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(text.as_bytes()))
        };
        result.map_err(|source| Error::File {
            path: path.clone(),
            source,
        })
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.text.push_str(text);
        Ok(())
    }
}

pub(super) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(target.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// The file that a link leads to, whether it is there yet or not: the target
/// is replaced, not the link.
fn behind_links(path: &Path) -> PathBuf {
    /// As many as Linux follows.
    const LINKS_MAX: usize = 40;
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&path) else {
            break;
        };
        path = folder_of(&path).join(next);
    }
    path
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// As the file that is replaced has them, else as a new file gets them; a
/// temporary file alone would be readable by its owner only.
fn default_permissions(target: &Path, partial: &fs::File) -> std::fs::Permissions {
    let of_target = fs::metadata(target).ok().map(|it| it.permissions());
    let of_partial = || partial.metadata().ok().map(|it| it.permissions());
    of_target.or_else(of_partial).unwrap_or_else(|| {
        #[cfg(unix)]
        let fallback = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        #[cfg(not(unix))]
        let fallback = {
            let mut it = std::fs::Permissions::default();
            it.set_readonly(false);
            it
        };
        fallback
    })
}

/// Removes the reason of an earlier failure.
pub(super) fn remove_our_error(target: &Path) {
    let path = beside(target, ".error.txt");
    if fs::read_to_string(&path).is_ok_and(|text| text.starts_with(ERROR_HEAD)) {
        let _gone = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_good_answer_leaves_only_the_finished_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        OutputFile::open(&path).unwrap().fail("it broke").unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        file.raw("RAW").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.text("done").unwrap();
        file.complete().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "done");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_the_raw_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        file.raw("RA").unwrap();
        file.raw("W").unwrap();
        file.text("half").unwrap();
        let partial = file.fail("the engine broke").unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_to_string(partial).unwrap(), "RAW");
        let error = fs::read_to_string(folder.path().join("a.txt.error.txt")).unwrap();
        assert!(error.contains("the engine broke"), "{error}");
    }

    #[test]
    fn an_older_partial_answer_outlives_a_failure_without_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut first = OutputFile::open(&path).unwrap();
        first.raw("precious and long").unwrap();
        first.fail("x").unwrap();
        OutputFile::open(&path).unwrap().fail("no engine").unwrap();
        let partial = folder.path().join("a.txt.partial");
        assert_eq!(fs::read_to_string(&partial).unwrap(), "precious and long");
        let mut second = OutputFile::open(&path).unwrap();
        second.raw("new").unwrap();
        second.fail("x").unwrap();
        assert_eq!(fs::read_to_string(&partial).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_before_any_work() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().to_owned(),
            folder.path().join("no/such/folder/a.txt"),
        ] {
            assert!(
                matches!(OutputFile::open(&path), Err(Error::File { .. })),
                "{path:?}"
            );
        }
    }

    #[test]
    fn two_runs_cannot_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let first = OutputFile::open(&path).unwrap();
        let Err(error) = OutputFile::open(&path) else {
            panic!("both opened it")
        };
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("another run")
        );
        first.complete().unwrap();
        OutputFile::open(&path).unwrap().complete().unwrap();
    }

    #[test]
    fn somebody_elses_error_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let error = folder.path().join("a.txt.error.txt");
        fs::write(&error, "my notes").unwrap();
        OutputFile::open(&path).unwrap().fail("it broke").unwrap();
        assert_eq!(fs::read_to_string(&error).unwrap(), "my notes");
        OutputFile::open(&path).unwrap().complete().unwrap();
        assert_eq!(fs::read_to_string(&error).unwrap(), "my notes");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nothing_yet_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (
            folder.path().join("real.txt"),
            folder.path().join("link.txt"),
        );
        std::os::unix::fs::symlink("real.txt", &link).unwrap();
        let mut file = OutputFile::open(&link).unwrap();
        file.text("new").unwrap();
        file.complete().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_its_target_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (
            folder.path().join("real.txt"),
            folder.path().join("link.txt"),
        );
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut file = OutputFile::open(&link).unwrap();
        file.text("new").unwrap();
        file.complete().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
