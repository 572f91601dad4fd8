//! Writing the settings, each file whole or not at all, and taking it back.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::Change;

/// The folder of backups, below the state folder.
const FOLDER: &str = "studio-settings";
const SCHEMA: u32 = 1;

/// Settings could not be written or taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file of ours or of LM Studio's.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to take back.
    #[error("no `save` is left to be undone")]
    Nothing,
    /// The backup makes no sense.
    #[error("{} makes no sense: {why}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Backup {
    schema: u32,
    files: Vec<Saved>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    path: PathBuf,
    /// What was there; absent when the file was not.
    before: Option<String>,
    after_sha256: String,
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

/// Writes the changes, after a backup of all of them, which is returned. A
/// failure leaves the files after it as they were; `undo` takes back those
/// before it.
pub(crate) fn apply(changes: &[Change], state: &Path) -> Result<PathBuf, Error> {
    let folder = state.join(FOLDER);
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let backup = Backup {
        schema: SCHEMA,
        files: changes
            .iter()
            .map(|it| Saved {
                path: it.path.clone(),
                before: it.before.clone(),
                after_sha256: sha256(&it.after),
            })
            .collect(),
    };
    let number = sets(&folder).last().map_or(0, |(number, _)| *number) + 1;
    let path = folder.join(format!("{number:06}.json"));
    let text = serde_json::to_string_pretty(&backup).map_err(|e| failed(&path)(e.into()))?;
    write(&path, &text).map_err(failed(&path))?;
    for change in changes {
        write(&change.path, &change.after).map_err(failed(&change.path))?;
    }
    Ok(path)
}

/// What `undo` did.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// Files that are as they were before.
    pub(crate) restored: Vec<PathBuf>,
    /// Files that somebody changed since, and that were left alone.
    pub(crate) changed: Vec<PathBuf>,
}

/// What `undo` would do; nothing is written.
pub(crate) fn would_undo(state: &Path, force: bool) -> Result<Undone, Error> {
    let (_, backup) = last(state)?;
    let mut undone = Undone::default();
    for file in backup.files {
        match file.fate(force) {
            Fate::Same => {}
            Fate::Changed => undone.changed.push(file.path),
            Fate::Restored => undone.restored.push(file.path),
        }
    }
    Ok(undone)
}

/// Takes back the last `apply` that was not taken back yet.
pub(crate) fn undo(state: &Path, force: bool) -> Result<Undone, Error> {
    let (path, backup) = last(state)?;
    let mut undone = Undone::default();
    for file in backup.files {
        match file.fate(force) {
            Fate::Same => continue,
            Fate::Changed => {
                undone.changed.push(file.path);
                continue;
            }
            Fate::Restored => {}
        }
        match &file.before {
            Some(before) => write(&file.path, before).map_err(failed(&file.path))?,
            None => fs::remove_file(&file.path).map_err(failed(&file.path))?,
        }
        undone.restored.push(file.path);
    }
    if undone.changed.is_empty() {
        let done = path.with_extension("json.undone");
        fs::rename(&path, &done).map_err(failed(&done))?;
    }
    Ok(undone)
}

/// What becomes of a file.
enum Fate {
    /// It is as it was before.
    Same,
    /// Somebody changed it since.
    Changed,
    Restored,
}

impl Saved {
    fn fate(&self, force: bool) -> Fate {
        let now = fs::read_to_string(&self.path).ok();
        if now == self.before {
            return Fate::Same;
        }
        let is_ours = now
            .as_deref()
            .is_some_and(|it| sha256(it) == self.after_sha256);
        if is_ours || force {
            Fate::Restored
        } else {
            Fate::Changed
        }
    }
}

/// The last backup that was not taken back yet, and its file.
fn last(state: &Path) -> Result<(PathBuf, Backup), Error> {
    let folder = state.join(FOLDER);
    let Some((_, path)) = sets(&folder).pop() else {
        return Err(Error::Nothing);
    };
    let odd = |why: String| Error::Backup {
        path: path.clone(),
        why,
    };
    let text = fs::read_to_string(&path).map_err(|e| odd(e.to_string()))?;
    let backup: Backup = serde_json::from_str(&text).map_err(|e| odd(e.to_string()))?;
    if backup.schema != SCHEMA {
        return Err(odd(format!("its schema is {}", backup.schema)));
    }
    Ok((path, backup))
}

/// The backups that are not undone, in their order.
fn sets(folder: &Path) -> Vec<(u32, PathBuf)> {
    let mut all: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == "json"))
        .filter_map(|it| Some((it.file_stem()?.to_str()?.parse().ok()?, it)))
        .collect();
    all.sort();
    all
}

/// Whole or not at all; the old file's rights stay.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // A link is followed: what it leads to is LM Studio's file.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    let rights = fs::metadata(&path).map(|it| it.permissions());
    if let Ok(rights) = rights.or_else(|_| default_rights(folder)) {
        new.as_file().set_permissions(rights)?;
    }
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|e| e.error)?;
    Ok(())
}

/// Temporary files are private; settings are as readable as their folder.
#[cfg(unix)]
fn default_rights(folder: &Path) -> std::io::Result<std::fs::Permissions> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder)?.permissions().mode();
    Ok(std::fs::Permissions::from_mode(mode & 0o666))
}

#[cfg(not(unix))]
fn default_rights(_folder: &Path) -> std::io::Result<std::fs::Permissions> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &Path, before: Option<&str>, after: &str) -> Change {
        Change {
            path: path.to_owned(),
            before: before.map(str::to_owned),
            after: after.to_owned(),
            context: 8192,
        }
    }

    #[test]
    fn undo_restores_everything_and_spares_later_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (
            folder.path().join("s/a.json"),
            folder.path().join("s/b/b.json"),
        );
        let state = folder.path().join("state");
        fs::create_dir_all(a.parent().unwrap()).unwrap();
        fs::write(&a, "old").unwrap();
        assert!(matches!(undo(&state, false), Err(Error::Nothing)));
        let changes = [change(&a, Some("old"), "new"), change(&b, None, "fresh")];
        apply(&changes, &state).unwrap();
        assert_eq!(fs::read_to_string(&b).unwrap(), "fresh");
        // Two saves are taken back one after the other.
        apply(&[change(&a, Some("new"), "newest")], &state).unwrap();
        assert_eq!(would_undo(&state, false).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "newest");
        assert_eq!(undo(&state, false).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "new");
        fs::write(&a, "mine").unwrap();
        let undone = undo(&state, false).unwrap();
        assert_eq!(
            (undone.restored, undone.changed),
            (vec![b.clone()], vec![a.clone()])
        );
        assert!(!b.exists());
        assert_eq!(fs::read_to_string(&a).unwrap(), "mine");
        assert_eq!(undo(&state, true).unwrap().restored, [a.as_path()]);
        assert_eq!(fs::read_to_string(&a).unwrap(), "old");
        assert!(matches!(undo(&state, false), Err(Error::Nothing)));
    }

    #[test]
    fn a_folder_that_is_none_is_an_error_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let a = folder.path().join("a.json");
        fs::write(&a, "old").unwrap();
        let state = folder.path().join("a.json/state");
        assert!(apply(&[change(&a, Some("old"), "new")], &state).is_err());
        assert_eq!(fs::read_to_string(&a).unwrap(), "old");
    }
}
