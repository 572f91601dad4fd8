//! The file of an answer, which is complete or absent.
//!
//! The raw answer is written to `FILE.partial` while it arrives, so that a failed
//! processor or a crash never loses model output. The finished text is staged under
//! another name and becomes `FILE` by one rename. A failure never changes `FILE`; its
//! reason goes to `FILE.error.txt`.
//!
//! `infer -o` opens its file at the start, so that a bad path fails before a model is
//! loaded, and may write to a pipe or a device. A batch opens a file at the first text,
//! and records a staged answer in its journal and flushes it before it is published.

use std::io::{ErrorKind, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::error_file::{
    error_text, is_error_file, remove_error_file, with_suffix, write_error_file,
};
use super::staged_answer::StagedAnswer;
use super::{Error, Sink, escape_controls};
use crate::store::{AtomicFile, create_plain, open_plain};

/// Writes an answer to a file.
#[derive(Debug)]
pub struct AnswerFile {
    target: PathBuf,
    raw: RawText,
}

/// The destination of the raw answer.
#[derive(Debug)]
enum RawText {
    /// Nowhere: the target is a pipe or a device, which cannot be replaced.
    Direct(fs::File),
    /// To `FILE.partial`.
    Partial {
        path: PathBuf,
        /// Open from the start, or from the first text.
        file: Option<fs::File>,
        /// True if the partial file existed before, with text of an earlier attempt.
        existed: bool,
        /// True once text was written to it.
        is_written: bool,
    },
}

impl AnswerFile {
    /// Opens the file, so that errors appear before a model is loaded. An older
    /// `.partial` file is kept until the first text arrives.
    ///
    /// # Errors
    /// Returns an error if the folder is missing or not writable, if the path is a
    /// folder, or if another run writes the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let target = resolve_links(path);
        let raw = match fs::metadata(&target) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(failed(ErrorKind::IsADirectory.into()));
            }
            // A name below /dev may stand for a stream of this process that leads into
            // a file, whose contents must stay.
            _ if path.starts_with("/dev") || path.starts_with("/proc") => {
                let file = fs::OpenOptions::new().append(true).open(path);
                RawText::Direct(file.map_err(failed)?)
            }
            Ok(metadata) if !metadata.is_file() => {
                let file = fs::OpenOptions::new().write(true).open(&target);
                RawText::Direct(file.map_err(failed)?)
            }
            _ => {
                let path = with_suffix(&target, ".partial");
                let (file, existed) = open_partial(&path)?;
                if let Err(std::fs::TryLockError::WouldBlock) = file.file().try_lock() {
                    let cause = "another run writes this file";
                    return Err(failed(std::io::Error::other(cause)));
                }
                RawText::Partial {
                    path,
                    file: Some(file),
                    existed,
                    is_written: false,
                }
            }
        };
        Ok(Self { target, raw })
    }

    /// Prepares a file of a folder that the caller has locked. Nothing is opened before
    /// [`Self::open_partial`] or the first text.
    #[must_use]
    pub fn in_folder(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            raw: RawText::Partial {
                path: with_suffix(target, ".partial"),
                file: None,
                existed: true,
                is_written: false,
            },
        }
    }

    /// Opens the `.partial` file, so that errors appear before the model is asked. An older
    /// one is kept until the first text arrives.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn open_partial(&mut self) -> Result<(), Error> {
        if let RawText::Partial {
            path,
            file: file @ None,
            existed,
            ..
        } = &mut self.raw
        {
            let (opened, has_text) = open_partial(path)?;
            *existed = has_text;
            *file = Some(opened);
        }
        Ok(())
    }

    /// Removes the `.partial` file of a cancelled job if it has no text.
    pub fn discard_unwritten(self) {
        if let RawText::Partial {
            path,
            existed: false,
            is_written: false,
            ..
        } = self.raw
        {
            let _absent = fs::remove_file(path);
        }
    }

    /// Returns the path of the raw answer, or `None` for a pipe or a device.
    #[must_use]
    pub fn partial_path(&self) -> Option<&Path> {
        match &self.raw {
            RawText::Direct(_) => None,
            RawText::Partial { path, .. } => Some(path),
        }
    }

    /// Makes a text the content of the file, and waits until it is on the disk.
    ///
    /// # Errors
    /// Returns an error if the text cannot be written; the raw answer then stays in
    /// `.partial`.
    pub fn complete(self, text: &str) -> Result<(), Error> {
        let target = self.target;
        let failed = |source| Error::File {
            path: target.clone(),
            source,
        };
        let (path, partial) = match self.raw {
            RawText::Direct(mut file) => {
                let is_terminal = file.file().is_terminal();
                let written = if is_terminal {
                    file.write_all(escape_controls(text).as_bytes())
                } else {
                    file.write_all(text.as_bytes())
                };
                return written.map_err(|error| match error.kind() {
                    ErrorKind::BrokenPipe => Error::BrokenPipe,
                    _ => failed(error),
                });
            }
            RawText::Partial { path, file, .. } => (path, file),
        };
        // A file that is replaced keeps its permissions; a new one gets the usual ones.
        let metadata = fs::metadata(&target).or_else(|_| fs::metadata(&path));
        let permissions = metadata.map(|metadata| metadata.permissions());
        let mut finished =
            AtomicFile::with_permissions(&target, permissions.ok()).map_err(failed)?;
        finished.write_all(text.as_bytes()).map_err(failed)?;
        finished.commit().map_err(failed)?;
        // The lock is held until the answer has its name.
        drop(partial);
        let _absent = fs::remove_file(path);
        remove_error_file(&target);
        Ok(())
    }

    /// Writes the finished text under a temporary name. If it equals the raw answer,
    /// that is the `.partial` file. Also returns the open file, which must be on the disk
    /// before the answer is published.
    ///
    /// # Errors
    /// Returns an error if the text cannot be written; the raw answer then stays.
    pub fn stage(self, text: &str, raw: &str) -> Result<(StagedAnswer, fs::File), Error> {
        let Self { target, raw: place } = self;
        let partial = match place {
            RawText::Direct(_) => None,
            RawText::Partial {
                path,
                file: Some(file),
                is_written: true,
                ..
            } if text == raw => {
                let staged = StagedAnswer {
                    target,
                    path,
                    partial: None,
                };
                return Ok((staged, file));
            }
            RawText::Partial { path, .. } => Some(path),
        };
        let path = with_suffix(&target, ".finished");
        let written = write_open(&path, text);
        if written.is_err() {
            let _absent = fs::remove_file(&path);
        }
        let staged = StagedAnswer {
            target,
            path,
            partial,
        };
        written.map(|file| (staged, file))
    }

    /// Writes a text to a file beside the answer, and returns the open file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_beside(&self, suffix: &str, text: &str) -> Result<fs::File, Error> {
        write_open(&with_suffix(&self.target, suffix), text)
    }

    /// Removes a file beside the answer, if it exists.
    pub fn remove_beside(&self, suffix: &str) {
        let _absent = fs::remove_file(with_suffix(&self.target, suffix));
    }

    /// Writes the reason of a failure to the error file; the raw answer stays in
    /// `.partial`.
    ///
    /// # Errors
    /// Returns an error if the error file cannot be written.
    pub fn fail(self, reason: &str) -> Result<(), Error> {
        if matches!(self.raw, RawText::Direct(_)) {
            return Ok(());
        }
        let target = self.target.clone();
        self.discard_unwritten();
        write_error_file(&target, reason)
    }

    /// Stages the reason of a failure in place of the answer, for `--errors inline`; see
    /// [`Self::stage`]. The raw answer stays. Also returns the length of the text in bytes.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn fail_inline(self, reason: &str) -> Result<(StagedAnswer, fs::File, u64), Error> {
        let text = error_text(reason);
        let length = text.len() as u64;
        let (mut staged, file) = self.stage(&text, "")?;
        staged.partial = None;
        Ok((staged, file, length))
    }

    /// Returns whether a file is a failure that `--errors inline` wrote in place of an
    /// answer.
    #[must_use]
    pub fn is_failure(path: &Path) -> bool {
        is_error_file(path)
    }

    /// Removes files that earlier attempts left beside a complete answer.
    pub fn remove_leftovers(target: &Path) {
        let _absent = fs::remove_file(with_suffix(target, ".partial"));
        remove_error_file(target);
    }
}

impl Sink for AnswerFile {
    fn raw(&mut self, text: &str) -> Result<(), Error> {
        let RawText::Partial {
            path,
            file,
            is_written,
            ..
        } = &mut self.raw
        else {
            return Ok(());
        };
        let written = match file {
            Some(file) => {
                // An older partial answer is replaced only by newer text.
                let emptied = if *is_written { Ok(()) } else { file.set_len(0) };
                emptied.and_then(|()| file.write_all(text.as_bytes()))
            }
            None => create_plain(path)
                .and_then(|created| file.insert(created).write_all(text.as_bytes())),
        };
        *is_written = true;
        written.map_err(|source| Error::File {
            path: path.clone(),
            source,
        })
    }

    fn text(&mut self, _text: &str) -> Result<(), Error> {
        Ok(())
    }

    fn restart(&mut self) -> Result<bool, Error> {
        if let RawText::Partial {
            path,
            file: Some(file),
            is_written: true,
            ..
        } = &mut self.raw
        {
            let emptied = file.set_len(0).and_then(|()| file.rewind());
            emptied.map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?;
        }
        Ok(true)
    }
}

/// Opens a `.partial` file without changing it. Also returns whether it has text.
fn open_partial(path: &Path) -> Result<(fs::File, bool), Error> {
    let open = || {
        let mut options = fs::OpenOptions::new();
        let file = open_plain(path, options.create(true).truncate(false).write(true))?;
        let has_text = file.metadata()?.len() > 0;
        Ok((file, has_text))
    };
    open().map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

/// Returns the file that a link leads to, whether it exists or not: the target is
/// replaced, not the link.
fn resolve_links(path: &Path) -> PathBuf {
    /// The limit of Linux.
    const LINKS_MAX: usize = 40;
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}

/// Writes a file beside an answer and returns it open.
fn write_open(path: &Path, text: &str) -> Result<fs::File, Error> {
    let written = create_plain(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        Ok(file)
    });
    written.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_complete_answer_leaves_only_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["done", "RAW", ""] {
            fs::write(&path, "old").unwrap();
            AnswerFile::open(&path).unwrap().fail("it broke").unwrap();
            let mut file = AnswerFile::open(&path).unwrap();
            if !text.is_empty() {
                file.raw("RA").unwrap();
                file.raw("W").unwrap();
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            file.complete(text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(folder.path()), ["a.txt"]);
        }
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_the_raw_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for open in [AnswerFile::open, |path: &Path| {
            Ok(AnswerFile::in_folder(path))
        }] {
            fs::write(&path, "old").unwrap();
            let mut file = open(&path).unwrap();
            file.raw("RA").unwrap();
            file.raw("W").unwrap();
            let partial = file.partial_path().unwrap().to_owned();
            file.fail("the engine broke").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(fs::read_to_string(partial).unwrap(), "RAW");
            let error = fs::read_to_string(folder.path().join("a.txt.error.txt")).unwrap();
            assert!(error.contains("the engine broke"), "{error}");
            AnswerFile::remove_leftovers(&path);
            assert_eq!(names(folder.path()), ["a.txt"]);
        }
    }

    #[test]
    fn a_failure_without_text_keeps_the_older_partial_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let partial = folder.path().join("a.txt.partial");
        for open in [AnswerFile::open, |path: &Path| {
            Ok(AnswerFile::in_folder(path))
        }] {
            let mut first = open(&path).unwrap();
            first.raw("an older answer").unwrap();
            first.fail("x").unwrap();
            open(&path).unwrap().fail("no engine").unwrap();
            assert_eq!(fs::read_to_string(&partial).unwrap(), "an older answer");
            let mut second = open(&path).unwrap();
            second.raw("new").unwrap();
            second.fail("x").unwrap();
            assert_eq!(fs::read_to_string(&partial).unwrap(), "new");
        }
    }

    #[test]
    fn opening_an_unwritable_path_fails() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().to_owned(),
            folder.path().join("no/such/folder/a.txt"),
        ] {
            assert!(
                matches!(AnswerFile::open(&path), Err(Error::File { .. })),
                "{path:?}"
            );
        }
    }

    #[test]
    fn two_runs_cannot_write_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let first = AnswerFile::open(&path).unwrap();
        let Err(error) = AnswerFile::open(&path) else {
            panic!("both runs opened the file")
        };
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("another run"), "{cause}");
        first.complete("").unwrap();
        AnswerFile::open(&path).unwrap().complete("").unwrap();
    }

    #[test]
    fn a_file_of_the_user_with_the_suffix_of_a_staged_answer_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let foreign = folder.path().join("a.txt.finished");
        fs::write(&foreign, "my notes").unwrap();
        AnswerFile::open(&path).unwrap().complete("done").unwrap();
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "my notes");
        assert_eq!(fs::read_to_string(&path).unwrap(), "done");
    }

    #[test]
    fn foreign_error_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let error = folder.path().join("a.txt.error.txt");
        fs::write(&error, "my notes").unwrap();
        AnswerFile::open(&path).unwrap().fail("it broke").unwrap();
        assert_eq!(fs::read_to_string(&error).unwrap(), "my notes");
        AnswerFile::open(&path).unwrap().complete("").unwrap();
        assert_eq!(fs::read_to_string(&error).unwrap(), "my notes");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_kept_and_its_target_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (
            folder.path().join("real.txt"),
            folder.path().join("link.txt"),
        );
        // The target does not exist at first.
        std::os::unix::fs::symlink("real.txt", &link).unwrap();
        for text in ["first", "second"] {
            let file = AnswerFile::open(&link).unwrap();
            file.complete(text).unwrap();
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn an_answer_has_a_temporary_name_until_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        for (text, suffix) in [("RAW", ".partial"), ("done", ".finished")] {
            let mut file = AnswerFile::in_folder(&target);
            assert_eq!(names(folder.path()), [""; 0]);
            file.raw("RA").unwrap();
            file.raw("W").unwrap();
            let (staged, _) = file.stage(text, "RAW").unwrap();
            assert_eq!(staged.name(), format!("a.txt{suffix}"));
            assert!(!target.exists());
            staged.publish(|_, _| false).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert_eq!(names(folder.path()), ["a.txt"]);
            fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn foreign_files_are_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        for (existing, is_kept) in [("mine!", true), ("own", false)] {
            fs::write(&target, existing).unwrap();
            let mut file = AnswerFile::in_folder(&target);
            file.raw("new").unwrap();
            let (staged, _) = file.stage("new", "new").unwrap();
            let is_own = |path: &Path, length: u64| {
                length == 3 && fs::read_to_string(path).unwrap() == "own"
            };
            let aside = staged.publish(is_own).unwrap();
            assert_eq!(aside.is_some(), is_kept);
            assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        }
        let kept = folder.path().join("a.txt.kept-1");
        assert_eq!(fs::read_to_string(kept).unwrap(), "mine!");
    }

    #[test]
    fn an_inline_failure_takes_the_answers_place_and_keeps_the_raw_answer() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        let mut file = AnswerFile::in_folder(&target);
        file.raw("half").unwrap();
        let (staged, _, length) = file.fail_inline("it broke").unwrap();
        assert!(!target.exists());
        staged.publish(|_, _| false).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert_eq!(length, text.len() as u64);
        assert!(text.contains("it broke"), "{text}");
        assert!(AnswerFile::is_failure(&target));
        assert!(folder.path().join("a.txt.partial").exists());
    }
}
