//! An answer of a batch under a temporary name, until its journal has recorded it.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Error;
use super::error_file::{remove_error_file, with_suffix};

/// A finished text that does not have its name yet.
#[derive(Debug)]
pub struct StagedAnswer {
    pub(super) target: PathBuf,
    pub(super) path: PathBuf,
    /// The raw answer, if it is another file.
    pub(super) partial: Option<PathBuf>,
}

impl StagedAnswer {
    /// Returns the temporary file name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Renames the staged file, which must be on the disk, to the answer. An existing file
    /// is replaced if it is empty or `is_own` returns `true` for its path and length;
    /// otherwise it is moved to a free name, which is returned.
    ///
    /// # Errors
    /// Returns an error if a file cannot be renamed.
    pub fn publish(self, is_own: impl Fn(&Path, u64) -> bool) -> Result<Option<PathBuf>, Error> {
        let aside = move_aside(&self.target, is_own)?;
        fs::rename(&self.path, &self.target).map_err(|source| Error::File {
            path: self.target.clone(),
            source,
        })?;
        if let Some(partial) = self.partial {
            let _absent = fs::remove_file(partial);
        }
        remove_error_file(&self.target);
        Ok(aside)
    }
}

/// Moves an existing file that this program did not write to a free name, and returns
/// that name.
fn move_aside(
    target: &Path,
    is_own: impl Fn(&Path, u64) -> bool,
) -> Result<Option<PathBuf>, Error> {
    let Ok(existing) = fs::symlink_metadata(target) else {
        return Ok(None);
    };
    if existing.is_file() && (existing.len() == 0 || is_own(target, existing.len())) {
        return Ok(None);
    }
    let mut number = 1;
    let aside = loop {
        let path = with_suffix(target, &format!(".kept-{number}"));
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
