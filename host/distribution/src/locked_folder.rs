//! A packs folder whose packs are changed: their files, and `packs.lock`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix::store::{AtomicFile, FileLock};
use lmstrix_sandbox::{
    LockFile, LockedPack, PackDigests, PackFiles, PackFolder, PackFolders, SandboxLimits,
    differences,
};

use crate::error::Error;
use crate::fetch::Fetched;

/// The file that is locked while a process changes the folder.
const BUSY_FILE: &str = ".lmstrix-packs.lock";

/// A packs folder that no other process changes meanwhile.
#[derive(Debug)]
pub struct LockedFolder {
    path: PathBuf,
    limits: SandboxLimits,
    lock_file: LockFile,
    /// The permissions of new files.
    permissions: std::fs::Permissions,
    _busy: BusyFile,
}

/// Decides what becomes of a pack that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// An error.
    Never,
    /// It is replaced if it is as it was added.
    Unchanged,
    /// It is replaced.
    Always,
}

/// The change to a packs folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pack was added.
    Added,
    /// The pack was replaced.
    Replaced,
    /// The same files were there already.
    Unchanged,
}

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

/// The locked file, which is removed at the end.
#[derive(Debug)]
struct BusyFile {
    path: PathBuf,
    _lock: FileLock,
}

impl Drop for BusyFile {
    fn drop(&mut self) {
        // Other processes do not wait for this lock, so the file can be removed.
        let _ignored = fs::remove_file(&self.path);
    }
}

impl LockedFolder {
    /// Opens a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written, another process changes it, or its
    /// lock file is invalid.
    pub fn open(path: &Path, limits: SandboxLimits) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::write(path))?;
        let busy_path = path.join(BUSY_FILE);
        let lock = FileLock::try_acquire(&busy_path).map_err(Error::write(&busy_path))?;
        let Some(lock) = lock else {
            return Err(Error::Busy(path.to_owned()));
        };
        let permissions = fs::metadata(&busy_path)
            .map_err(Error::write(&busy_path))?
            .permissions();
        Ok(Self {
            path: path.to_owned(),
            limits,
            lock_file: LockFile::read(path)?.unwrap_or_default(),
            permissions,
            _busy: BusyFile {
                path: busy_path,
                _lock: lock,
            },
        })
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the lock file.
    #[must_use]
    pub fn lock_file(&self) -> &LockFile {
        &self.lock_file
    }

    /// Returns the names of the packs in the folder and in the lock file, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        names(&self.path, &self.lock_file)
    }

    /// Reads the files of a pack; `None` if the folder does not have it.
    fn read(&self, name: &str) -> Result<Option<PackFiles>, Error> {
        read(&self.path, name, &self.limits)
    }

    /// Writes a pack into the folder, and records it in the lock file. The pack is complete
    /// or, after an error, as it was before.
    ///
    /// # Errors
    /// Returns an error if a pack of the name may not be replaced, or a file cannot be written.
    pub fn put(&mut self, pack: &Fetched, replace: Replace) -> Result<Change, Error> {
        let name = &pack.files.name;
        let old = self.read(name)?;
        let digests = pack.files.digests();
        let change = match &old {
            None => Change::Added,
            Some(old) if old.digests() == digests => Change::Unchanged,
            // A component in this folder may have its other files in it.
            Some(_) if pack.source.is_in(&self.path) => Change::Replaced,
            Some(old) => {
                self.check_replace(name, &old.digests(), replace)?;
                Change::Replaced
            }
        };
        if change != Change::Unchanged {
            self.write(&pack.files, old.as_ref())?;
        }
        self.lock_file.put(LockedPack {
            name: name.clone(),
            source: pack.source.in_lock_file(&self.path),
            manifest: pack.manifest.clone(),
            digest: digests.of_pack(),
            files: digests,
        });
        self.write_lock_file()?;
        Ok(change)
    }

    /// Checks that the pack that is present may be replaced.
    fn check_replace(
        &self,
        name: &str,
        present: &PackDigests,
        replace: Replace,
    ) -> Result<(), Error> {
        match (replace, self.lock_file.get(name)) {
            (Replace::Always, _) => Ok(()),
            (Replace::Unchanged, Some(locked)) => {
                match differences(&locked.files, present).into_iter().next() {
                    None => Ok(()),
                    Some(difference) => Err(Error::ChangedByHand {
                        name: name.to_owned(),
                        difference,
                    }),
                }
            }
            _ => Err(Error::Exists {
                name: name.to_owned(),
                folder: self.path.clone(),
            }),
        }
    }

    /// Writes the files of a pack, and removes those of the old one. The file that makes them a
    /// pack is the last one. On an error, the old files are written back.
    fn write(&self, new: &PackFiles, old: Option<&PackFiles>) -> Result<(), Error> {
        let main = new.main_file().map(|file| &file.path);
        let mut files: Vec<_> = new.files.iter().collect();
        files.sort_by_key(|file| Some(&file.path) == main);
        let mut written = Vec::new();
        let result = files.iter().try_for_each(|file| {
            written.push(&file.path);
            self.write_file(&file.path, &file.bytes)
        });
        let is_in = |pack: &PackFiles, path: &str| pack.files.iter().any(|file| file.path == path);
        let old_files = old.iter().flat_map(|old| &old.files);
        if result.is_err() {
            for path in written {
                if !old.is_some_and(|old| is_in(old, path)) {
                    let _ignored = fs::remove_file(self.path.join(path));
                }
            }
            for file in old_files {
                let _ignored = self.write_file(&file.path, &file.bytes);
            }
            return result;
        }
        for file in old_files.filter(|file| !is_in(new, &file.path)) {
            let path = self.path.join(&file.path);
            fs::remove_file(&path).map_err(Error::write(&path))?;
        }
        Ok(())
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(path);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let permissions = fs::metadata(&path).map(|metadata| metadata.permissions());
            let permissions = permissions.unwrap_or_else(|_| self.permissions.clone());
            let mut file = AtomicFile::with_permissions(&path, Some(permissions))?;
            file.write_all(bytes)?;
            file.commit()
        };
        write().map_err(Error::write(&path))
    }

    fn write_lock_file(&self) -> Result<(), Error> {
        let text = self.lock_file.to_toml()?;
        let path = LockFile::path(&self.path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if self.lock_file.packs().is_empty() && !path.exists() {
            return Ok(());
        }
        self.write_file(&name, text.as_bytes())
    }

    /// Removes a pack.
    ///
    /// # Errors
    /// Returns an error if the folder does not have the pack, and, unless `force` is set, if it
    /// is not in the lock file or was changed.
    pub fn remove(&mut self, name: &str, force: bool) -> Result<(), Error> {
        let present = self.read(name)?;
        let locked = self.lock_file.get(name);
        if !force && let Some(present) = &present {
            let Some(locked) = locked else {
                return Err(Error::NotLocked {
                    name: name.to_owned(),
                    lock_file: LockFile::path(&self.path),
                });
            };
            let found = differences(&locked.files, &present.digests());
            // A file that is gone is no loss.
            let is_gone = |path: &String| !present.files.iter().any(|file| file.path == *path);
            let gone = locked.files.0.keys().filter(|path| is_gone(path)).count();
            if let Some(difference) = found.into_iter().nth(gone) {
                return Err(Error::ChangedByHand {
                    name: name.to_owned(),
                    difference,
                });
            }
        }
        if present.is_none() && locked.is_none() {
            return Err(Error::NotFound {
                name: name.to_owned(),
                folder: self.path.clone(),
            });
        }
        // The file that makes the others a pack is the first one.
        let mut files = present.map(|pack| pack.files).unwrap_or_default();
        files.sort_by_key(|file| file.path.contains('/') || !file.path.ends_with(".wasm"));
        for file in files {
            let path = self.path.join(&file.path);
            fs::remove_file(&path).map_err(Error::write(&path))?;
        }
        // It may hold files that are no part of the pack.
        let _not_empty = fs::remove_dir(self.path.join(name));
        self.lock_file.remove(name);
        self.write_lock_file()
    }

    /// Records the packs of these names in the lock file as they are; a pack that is not in
    /// the folder is removed from it. Returns the states before.
    ///
    /// # Errors
    /// Returns an error if a pack is unknown or cannot be read, or the file cannot be written.
    pub fn lock(&mut self, names: &[String]) -> Result<BTreeMap<String, PackState>, Error> {
        let states = states(&self.path, &self.lock_file, names, &self.limits)?;
        for name in states.keys() {
            let Some(present) = self.read(name)? else {
                self.lock_file.remove(name);
                continue;
            };
            let digests = present.digests();
            let known = self.lock_file.get(name);
            // A pack that was changed by hand is no longer that of the registry.
            let manifest = known
                .filter(|known| known.files == digests)
                .and_then(|known| known.manifest.clone());
            self.lock_file.put(LockedPack {
                name: name.clone(),
                source: known.and_then(|known| known.source.clone()),
                manifest,
                digest: digests.of_pack(),
                files: digests,
            });
        }
        self.write_lock_file()?;
        Ok(states)
    }

    /// Returns the states of packs.
    ///
    /// # Errors
    /// Returns an error if a pack is unknown or cannot be read.
    pub fn states(&self, names: &[String]) -> Result<BTreeMap<String, PackState>, Error> {
        states(&self.path, &self.lock_file, names, &self.limits)
    }
}

/// Returns the states of packs in a folder compared with its lock file; without names, of all.
/// Changes nothing.
///
/// # Errors
/// Returns an error if the lock file is invalid, or a pack is unknown or cannot be read.
pub fn verify(
    folder: &Path,
    names: &[String],
    limits: &SandboxLimits,
) -> Result<BTreeMap<String, PackState>, Error> {
    let lock_file = LockFile::read(folder)?.unwrap_or_default();
    states(folder, &lock_file, names, limits)
}

fn states(
    folder: &Path,
    lock_file: &LockFile,
    names: &[String],
    limits: &SandboxLimits,
) -> Result<BTreeMap<String, PackState>, Error> {
    let known = self::names(folder, lock_file);
    let wanted = if names.is_empty() { &known } else { names };
    let states = wanted.iter().map(|name| {
        let state = match (lock_file.get(name), read(folder, name, limits)?) {
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
    let present = folders(folder).list().into_iter().map(|pack| pack.name);
    let locked = lock_file.packs().iter().map(|pack| pack.name.clone());
    let mut names: Vec<String> = present.chain(locked).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads the files of a pack; `None` if the folder does not have it.
fn read(folder: &Path, name: &str, limits: &SandboxLimits) -> Result<Option<PackFiles>, Error> {
    match folders(folder).find(name) {
        Ok(found) => Ok(Some(PackFiles::read(&found, limits)?.0)),
        Err(lmstrix_sandbox::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A packs folder may have links to files elsewhere, as for a run.
fn folders(folder: &Path) -> PackFolders {
    PackFolders(vec![PackFolder {
        path: folder.to_owned(),
        allows_links: true,
    }])
}
