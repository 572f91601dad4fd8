//! The file of one result of a batch. As with `-o` it is complete or absent, and
//! what the model said so far is in `NAME.partial`; but nothing is opened before
//! there is text, nothing waits for the disk, and the finished text lies there
//! under another name first, so that a journal can say so before it gets its own.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::file::{beside, error_text, remove_our_error, write_our_error};
use super::{Error, Sink};

/// A result that is being made.
#[derive(Debug)]
pub struct ResultFile {
    target: PathBuf,
    partial: PathBuf,
    file: Option<fs::File>,
}

/// A finished text that has not got its name yet.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    path: PathBuf,
    /// The raw answer, where it is another file.
    partial: Option<PathBuf>,
    file: fs::File,
}

impl ResultFile {
    /// Nothing is touched.
    #[must_use]
    pub fn new(target: &Path) -> Self {
        Self {
            partial: beside(target, ".partial"),
            target: target.to_owned(),
            file: None,
        }
    }

    /// Writes the finished text, which may be the raw answer as it is.
    ///
    /// # Errors
    /// The disk is full, or the folder has gone. The raw answer stays.
    pub fn stage(mut self, text: &str, raw: &str) -> Result<Staged, Error> {
        use std::io::Write;
        if let (Some(file), true) = (self.file.take(), text == raw) {
            return Ok(Staged {
                target: self.target,
                path: self.partial,
                partial: None,
                file,
            });
        }
        let path = beside(&self.target, ".finished");
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };
        let mut file = fs::File::create(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Staged {
            target: self.target,
            path: path.clone(),
            partial: Some(self.partial),
            file,
        })
    }

    /// Keeps a text beside the result.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_beside(&self, suffix: &str, text: &str) -> Result<(), Error> {
        let path = beside(&self.target, suffix);
        fs::write(&path, text).map_err(|source| Error::File { path, source })
    }

    /// The job failed: the reason goes beside the result, or `inline` into its
    /// place, where nothing is that is not ours. Gives the bytes of what stands
    /// in the result's place.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn fail(self, reason: &str, inline: bool) -> Result<Option<u64>, Error> {
        drop(self.file);
        if !inline {
            write_our_error(&self.target, reason)?;
            return Ok(None);
        }
        let text = error_text(reason);
        let path = self.target;
        fs::write(&path, &text).map_err(|source| Error::File { path, source })?;
        Ok(Some(text.len() as u64))
    }
}

impl Sink for ResultFile {
    fn raw(&mut self, text: &str) -> Result<(), Error> {
        use std::io::Write;
        let failed = |source| Error::File {
            path: self.partial.clone(),
            source,
        };
        let file = match &mut self.file {
            Some(file) => file,
            // Only now is an older partial answer replaced by a newer one.
            None => self
                .file
                .insert(fs::File::create(&self.partial).map_err(failed)?),
        };
        file.write_all(text.as_bytes()).map_err(failed)
    }

    fn text(&mut self, _text: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl Staged {
    /// The name that it has until it is published.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The text gets the result's name. A file that lies there is replaced when
    /// its length is one of `ours`, else it is moved aside; where to, is given.
    /// The file must still be made to reach the disk.
    ///
    /// # Errors
    /// The folder has gone, or changed its rights.
    pub fn publish(self, ours: &[u64]) -> Result<(fs::File, Option<PathBuf>), Error> {
        let aside = move_aside(&self.target, ours)?;
        fs::rename(&self.path, &self.target).map_err(|source| Error::File {
            path: self.target.clone(),
            source,
        })?;
        if let Some(partial) = self.partial {
            // The answer is there; what is left over only confuses.
            let _gone = fs::remove_file(partial);
        }
        remove_our_error(&self.target);
        Ok((self.file, aside))
    }
}

/// Moves a file that is not ours out of the way, under a name that is free.
fn move_aside(target: &Path, ours: &[u64]) -> Result<Option<PathBuf>, Error> {
    let Ok(there) = fs::symlink_metadata(target) else {
        return Ok(None);
    };
    if there.is_file() && (there.len() == 0 || ours.contains(&there.len())) {
        return Ok(None);
    }
    let mut number = 1;
    let aside = loop {
        let path = beside(target, &format!(".kept-{number}"));
        if !path.exists() {
            break path;
        }
        number += 1;
    };
    fs::rename(target, &aside).map_err(|source| Error::File {
        path: target.to_owned(),
        source,
    })?;
    Ok(Some(aside))
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
    fn a_result_has_another_name_until_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        for (text, before) in [("RAW", ".partial"), ("done", ".finished")] {
            let mut file = ResultFile::new(&target);
            assert_eq!(names(folder.path()), [""; 0]);
            file.raw("RA").unwrap();
            file.raw("W").unwrap();
            let staged = file.stage(text, "RAW").unwrap();
            assert_eq!(staged.name(), format!("a.txt{before}"));
            assert!(!target.exists());
            staged.publish(&[]).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert_eq!(names(folder.path()), ["a.txt"]);
            fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn what_is_not_ours_is_moved_aside_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        for (there, ours, kept) in [("mine!", vec![3], true), ("old", vec![3], false)] {
            fs::write(&target, there).unwrap();
            let mut file = ResultFile::new(&target);
            file.raw("new").unwrap();
            let (_, aside) = file.stage("new", "new").unwrap().publish(&ours).unwrap();
            assert_eq!(aside.is_some(), kept);
            assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        }
        let kept = folder.path().join("a.txt.kept-1");
        assert_eq!(fs::read_to_string(kept).unwrap(), "mine!");
    }

    #[test]
    fn a_failure_keeps_the_raw_answer_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        let mut file = ResultFile::new(&target);
        file.raw("half").unwrap();
        assert_eq!(file.fail("it broke", false).unwrap(), None);
        assert_eq!(names(folder.path()), ["a.txt.error.txt", "a.txt.partial"]);
        let inline = ResultFile::new(&target).fail("it broke", true).unwrap();
        let text = fs::read_to_string(&target).unwrap();
        assert_eq!(inline, Some(text.len() as u64));
        assert!(text.contains("it broke"), "{text}");
    }
}
