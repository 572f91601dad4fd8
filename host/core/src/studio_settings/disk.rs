//! Writes settings files atomically, and undoes it.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::plan::FileChange;
use crate::store::{AtomicFile, sha256_hex};

/// The folder of backups, relative to the state folder.
const BACKUP_DIR: &str = "studio-settings";
const SCHEMA: u32 = 1;

/// An error of writing or restoring settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A settings file or backup cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// There is no change to undo.
    #[error("no `save` to undo")]
    NothingToUndo,
    /// The backup cannot be read.
    #[error("invalid backup {}: {reason}", path.display())]
    InvalidBackup {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Backup {
    schema: u32,
    files: Vec<SavedFile>,
}

#[derive(Serialize, Deserialize)]
struct SavedFile {
    path: PathBuf,
    /// The old text; absent if the file did not exist.
    before: Option<String>,
    after_sha256: String,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

/// Writes the changes after a backup of all of them. Returns the path of the backup.
///
/// # Errors
/// Returns an error if a file cannot be written. The files after it are unchanged;
/// [`undo_last`] restores those before it.
pub fn apply_changes(changes: &[FileChange], state: &Path) -> Result<PathBuf, Error> {
    let folder = state.join(BACKUP_DIR);
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let backup = Backup {
        schema: SCHEMA,
        files: changes
            .iter()
            .map(|change| SavedFile {
                path: change.path.clone(),
                before: change.before.clone(),
                after_sha256: sha256_hex(change.after.as_bytes()),
            })
            .collect(),
    };
    let number = pending_backups(&folder)
        .last()
        .map_or(0, |(number, _)| *number)
        + 1;
    let path = folder.join(format!("{number:06}.json"));
    let text = serde_json::to_string_pretty(&backup).map_err(|e| failed(&path)(e.into()))?;
    write_atomically(&path, &text).map_err(failed(&path))?;
    for change in changes {
        write_atomically(&change.path, &change.after).map_err(failed(&change.path))?;
    }
    Ok(path)
}

/// The result of an undo.
#[derive(Debug, Default)]
pub struct UndoResult {
    /// The files that were restored.
    pub restored: Vec<PathBuf>,
    /// The files that were not restored, since they were changed after the `save`.
    pub skipped: Vec<PathBuf>,
}

/// Returns the result that [`undo_last`] would have, without writing.
///
/// # Errors
/// Returns an error if there is no valid backup.
pub fn preview_undo(state: &Path, force: bool) -> Result<UndoResult, Error> {
    let (_, backup) = latest_backup(state)?;
    let mut undone = UndoResult::default();
    for file in backup.files {
        match file.undo_action(force) {
            UndoAction::Keep => {}
            UndoAction::Skip => undone.skipped.push(file.path),
            UndoAction::Restore => undone.restored.push(file.path),
        }
    }
    Ok(undone)
}

/// Undoes the last [`apply_changes`] that has not been undone. Files that were changed
/// since are restored only with `force`.
///
/// # Errors
/// Returns an error if there is no valid backup or a file cannot be written.
pub fn undo_last(state: &Path, force: bool) -> Result<UndoResult, Error> {
    let (path, backup) = latest_backup(state)?;
    let mut undone = UndoResult::default();
    for file in backup.files {
        match file.undo_action(force) {
            UndoAction::Keep => continue,
            UndoAction::Skip => {
                undone.skipped.push(file.path);
                continue;
            }
            UndoAction::Restore => {}
        }
        match &file.before {
            Some(before) => write_atomically(&file.path, before).map_err(failed(&file.path))?,
            None => fs::remove_file(&file.path).map_err(failed(&file.path))?,
        }
        undone.restored.push(file.path);
    }
    if undone.skipped.is_empty() {
        let undone_path = path.with_extension("json.undone");
        fs::rename(&path, &undone_path).map_err(failed(&undone_path))?;
    }
    Ok(undone)
}

/// What an undo does with a file.
enum UndoAction {
    /// The file already has its old text.
    Keep,
    /// The file was changed after the `save`.
    Skip,
    Restore,
}

impl SavedFile {
    fn undo_action(&self, force: bool) -> UndoAction {
        let current = fs::read_to_string(&self.path).ok();
        if current == self.before {
            return UndoAction::Keep;
        }
        let is_unchanged = current
            .as_deref()
            .is_some_and(|text| sha256_hex(text.as_bytes()) == self.after_sha256);
        if is_unchanged || force {
            UndoAction::Restore
        } else {
            UndoAction::Skip
        }
    }
}

/// Returns the last backup that has not been undone, and its path.
fn latest_backup(state: &Path) -> Result<(PathBuf, Backup), Error> {
    let folder = state.join(BACKUP_DIR);
    let Some((_, path)) = pending_backups(&folder).pop() else {
        return Err(Error::NothingToUndo);
    };
    let invalid = |reason: String| Error::InvalidBackup {
        path: path.clone(),
        reason,
    };
    let text = fs::read_to_string(&path).map_err(|e| invalid(e.to_string()))?;
    let backup: Backup = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
    if backup.schema != SCHEMA {
        return Err(invalid(format!("unknown schema {}", backup.schema)));
    }
    Ok((path, backup))
}

/// Returns the backups that have not been undone, with their numbers, oldest first.
fn pending_backups(folder: &Path) -> Vec<(u32, PathBuf)> {
    let mut backups: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    backups.sort();
    backups
}

/// Replaces a file atomically. Keeps its permissions.
fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Follow a symbolic link, so that its target is replaced and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    let permissions = fs::metadata(&path).map(|metadata| metadata.permissions());
    let permissions = permissions.or_else(|_| default_permissions(folder));
    let mut new = AtomicFile::with_permissions(&path, permissions.ok())?;
    new.write_all(text.as_bytes())?;
    new.commit()
}

/// Returns the permissions of a new file: those of its folder without execution.
/// Temporary files are private, but settings need not be.
#[cfg(unix)]
fn default_permissions(folder: &Path) -> std::io::Result<std::fs::Permissions> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder)?.permissions().mode();
    Ok(std::fs::Permissions::from_mode(mode & 0o666))
}

#[cfg(not(unix))]
fn default_permissions(_folder: &Path) -> std::io::Result<std::fs::Permissions> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &Path, before: Option<&str>, after: &str) -> FileChange {
        FileChange {
            path: path.to_owned(),
            before: before.map(str::to_owned),
            after: after.to_owned(),
            context: 8192,
        }
    }

    #[test]
    fn undo_restores_files_and_keeps_later_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("s/a.json"),
            folder.path().join("s/b/b.json"),
        );
        let state = folder.path().join("state");
        fs::create_dir_all(a.parent().unwrap()).unwrap();
        fs::write(&a, "old").unwrap();
        assert!(matches!(
            undo_last(&state, false),
            Err(Error::NothingToUndo)
        ));
        let changes = [change(&a, Some("old"), "new"), change(&b, None, "fresh")];
        apply_changes(&changes, &state).unwrap();
        assert_eq!(fs::read_to_string(&b).unwrap(), "fresh");
        // Two saves are undone one after the other.
        apply_changes(&[change(&a, Some("new"), "newest")], &state).unwrap();
        assert_eq!(preview_undo(&state, false).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "newest");
        assert_eq!(undo_last(&state, false).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "new");
        fs::write(&a, "mine").unwrap();
        let undone = undo_last(&state, false).unwrap();
        assert_eq!(
            (undone.restored, undone.skipped),
            (vec![b.clone()], vec![a.clone()])
        );
        assert!(!b.exists());
        assert_eq!(fs::read_to_string(&a).unwrap(), "mine");
        assert_eq!(undo_last(&state, true).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "old");
        assert!(matches!(
            undo_last(&state, false),
            Err(Error::NothingToUndo)
        ));
    }

    #[test]
    fn nothing_is_written_without_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let a = folder.path().join("a.json");
        fs::write(&a, "old").unwrap();
        let state = folder.path().join("a.json/state");
        assert!(apply_changes(&[change(&a, Some("old"), "new")], &state).is_err());
        assert_eq!(fs::read_to_string(&a).unwrap(), "old");
    }
}
