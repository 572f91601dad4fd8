//! The packs of a folder compared with its lock file.

use std::collections::BTreeMap;
use std::path::Path;

use lmstrix_sandbox::{LockFile, PackFiles, PackFolder, PackFolders, SandboxLimits, differences};

use crate::error::Error;

/// The state of a pack compared with the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackState {
    /// As locked.
    Same,
    /// Not in the lock file.
    NotLocked,
    /// In the lock file, and not in the folder.
    Missing,
    /// Its files differ; each difference is a sentence fragment.
    Changed(Vec<String>),
}

/// Returns the states of packs in a folder compared with its lock file; without names, of all.
/// Changes nothing.
///
/// # Errors
/// Returns an error if the lock file is invalid, or a pack is unknown or cannot be read.
pub fn verify(
    folder: &Path,
    names: &[String],
    allows_links: bool,
    limits: &SandboxLimits,
) -> Result<BTreeMap<String, PackState>, Error> {
    let lock_file = LockFile::read(folder)?.unwrap_or_default();
    states(folder, &lock_file, names, allows_links, limits)
}

pub(crate) fn states(
    folder: &Path,
    lock_file: &LockFile,
    names: &[String],
    allows_links: bool,
    limits: &SandboxLimits,
) -> Result<BTreeMap<String, PackState>, Error> {
    let known = self::names(folder, lock_file);
    let wanted = if names.is_empty() { &known } else { names };
    let states = wanted.iter().map(|name| {
        let state = match (
            lock_file.get(name),
            read(folder, name, allows_links, limits)?,
        ) {
            (None, None) => {
                return Err(Error::NotFound {
                    name: name.clone(),
                    folder: folder.to_owned(),
                });
            }
            (None, Some(_)) => PackState::NotLocked,
            (Some(_), None) => PackState::Missing,
            (Some(locked), Some(present)) => {
                let found = differences(&locked.files, &present.digests());
                match found.is_empty() {
                    true => PackState::Same,
                    false => PackState::Changed(found),
                }
            }
        };
        Ok((name.clone(), state))
    });
    states.collect()
}

/// Returns the names of the packs in a folder and in its lock file, sorted.
fn names(folder: &Path, lock_file: &LockFile) -> Vec<String> {
    let present = folders(folder, true).list().into_iter();
    let present = present.map(|pack| pack.name);
    let locked = lock_file.packs().iter().map(|pack| pack.name.clone());
    let mut names: Vec<String> = present.chain(locked).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads the files of a pack; `None` if the folder does not have it.
pub(crate) fn read(
    folder: &Path,
    name: &str,
    allows_links: bool,
    limits: &SandboxLimits,
) -> Result<Option<PackFiles>, Error> {
    match folders(folder, allows_links).find(name) {
        Ok(found) => Ok(Some(PackFiles::read(&found, limits)?.0)),
        Err(lmstrix_sandbox::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn folders(folder: &Path, allows_links: bool) -> PackFolders {
    PackFolders(vec![PackFolder {
        path: folder.to_owned(),
        allows_links,
    }])
}
