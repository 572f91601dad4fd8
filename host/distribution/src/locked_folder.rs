//! A packs folder whose packs are changed: their files, and `packs.lock`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix::store::{AtomicFile, Sweep, TEMPORARY_PREFIX};
use lmstrix_sandbox::{
    Digest, LOCK_FILE, LockFile, LockedPack, PackDigests, PackFiles, SandboxLimits, differences,
};

use crate::busy_file::BusyFile;
use crate::error::Error;
use crate::fetch::Fetched;
use crate::state::{PackState, read, states};

/// A packs folder that other processes cannot change until this is dropped.
#[derive(Debug)]
pub struct LockedFolder {
    path: PathBuf,
    limits: SandboxLimits,
    /// True if symbolic links in the folder may point outside of it.
    allows_links: bool,
    lock_file: LockFile,
    /// The permissions of new files.
    permissions: std::fs::Permissions,
    _busy: BusyFile,
}

/// Decides if a pack of the same name is replaced.
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
    /// The same files were there already, and another source is recorded.
    NewSource,
}

impl LockedFolder {
    /// Creates a folder if it does not exist, and opens it.
    ///
    /// # Errors
    /// Returns an error as [`Self::open`] does.
    pub fn create(path: &Path, allows_links: bool, limits: SandboxLimits) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::write(path))?;
        Self::open(path, allows_links, limits)
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// Returns an error if the folder does not exist or cannot be written, if another process
    /// changes it, or if its lock file is invalid.
    pub fn open(path: &Path, allows_links: bool, limits: SandboxLimits) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(Error::NoFolder(path.to_owned()));
        }
        let busy = BusyFile::acquire(path)?;
        let permissions = fs::metadata(&busy.path)
            .map_err(Error::write(&busy.path))?
            .permissions();
        Sweep::of_temporary_files(TEMPORARY_PREFIX).run(path);
        Ok(Self {
            path: path.to_owned(),
            limits,
            allows_links,
            lock_file: LockFile::read(path)?.unwrap_or_default(),
            permissions,
            _busy: busy,
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

    /// Reads the files of a pack; `None` if the folder does not have it.
    fn read(&self, name: &str) -> Result<Option<PackFiles>, Error> {
        read(&self.path, name, self.allows_links, &self.limits)
    }

    /// Writes a pack into the folder, and records it in the lock file. After an error, the pack
    /// is as it was before.
    ///
    /// # Errors
    /// Returns an error if a pack of the name may not be replaced, if a file that is no part of
    /// it has the path of one, or if a file cannot be written.
    pub fn put(&mut self, pack: &Fetched, replace: Replace) -> Result<Change, Error> {
        let change = self.put_files(pack, replace);
        self.remove_empty_folder(&pack.files.name);
        change
    }

    /// Removes the folder of a pack's files if no file is left in it.
    fn remove_empty_folder(&self, name: &str) {
        let _not_empty = fs::remove_dir(self.path.join(name));
    }

    fn put_files(&mut self, pack: &Fetched, replace: Replace) -> Result<Change, Error> {
        let name = &pack.files.name;
        let old = self.read(name)?;
        let digests = pack.files.digests();
        let is_same = old.as_ref().is_some_and(|old| old.digests() == digests);
        // A component in this folder may have its other files in it.
        let is_in_place = pack.source.is_pack_in(&self.path, name);
        if !is_same && !is_in_place && replace != Replace::Always {
            if let Some(old) = &old {
                self.check_replace(name, &old.digests(), replace)?;
            }
            self.check_free(pack, old.as_ref())?;
        }
        let known = self.lock_file.get(name).filter(|_| is_same);
        let source = match pack.source.in_lock_file(&self.path) {
            None => known.and_then(|known| known.source.clone()),
            source => source,
        };
        let change = match (&old, known) {
            (None, _) => Change::Added,
            (Some(_), _) if !is_same => Change::Replaced,
            (_, Some(known)) if known.source == source => Change::Unchanged,
            _ => Change::NewSource,
        };
        let manifest = pack.manifest.clone();
        let manifest = manifest.or_else(|| known.and_then(|known| known.manifest.clone()));
        let entry = LockedPack {
            name: name.clone(),
            source,
            manifest,
            digest: digests.of_pack(),
            files: digests,
        };
        let mut lock_file = self.lock_file.clone();
        lock_file.put(entry);
        let mut staged = Vec::new();
        if !is_same {
            self.check_no_link(name)?;
            let main = pack.files.main_file().map(|file| &file.path);
            let mut files: Vec<_> = pack.files.files.iter().collect();
            // The file that makes the others a pack is the last one.
            files.sort_by_key(|file| Some(&file.path) == main);
            for file in files {
                staged.push(self.stage(&file.path, &file.bytes)?);
            }
        }
        staged.push(self.stage(LOCK_FILE, lock_file.to_toml()?.as_bytes())?);
        self.commit(staged)?;
        self.lock_file = lock_file;
        for file in old.iter().flat_map(|old| &old.files) {
            if !pack.files.files.iter().any(|new| new.path == file.path) {
                let path = self.path.join(&file.path);
                fs::remove_file(&path).map_err(Error::write(&path))?;
            }
        }
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
            (Replace::Unchanged, Some(locked)) => match lost_change(&locked.files, present) {
                None => Ok(()),
                Some(difference) => Err(Error::Changed {
                    name: name.to_owned(),
                    difference,
                }),
            },
            _ => Err(Error::Exists {
                name: name.to_owned(),
                folder: self.path.clone(),
            }),
        }
    }

    /// Checks that no file is overwritten that is not a part of the old pack, also of one whose
    /// main file is missing.
    fn check_free(&self, new: &Fetched, old: Option<&PackFiles>) -> Result<(), Error> {
        let locked = self.lock_file.get(&new.files.name);
        for file in &new.files.files {
            let path = self.path.join(&file.path);
            let is_old = old.is_some_and(|old| old.files.iter().any(|old| old.path == file.path));
            if is_old || path.symlink_metadata().is_err() {
                continue;
            }
            let present = fs::read(&path).ok();
            let digest = present.as_deref().map(Digest::of);
            let is_known = present.as_ref() == Some(&file.bytes)
                || digest.is_some_and(|digest| {
                    locked.and_then(|locked| locked.files.0.get(&file.path)) == Some(&digest)
                });
            if !is_known {
                return Err(Error::FileExists(path));
            }
        }
        Ok(())
    }

    /// Checks that the folder of the pack's files is not elsewhere.
    fn check_no_link(&self, name: &str) -> Result<(), Error> {
        let folder = self.path.join(name);
        match folder.is_symlink() {
            true => Err(Error::LinkedFolder(folder)),
            false => Ok(()),
        }
    }

    /// Writes a file under a temporary name, so that a full disk is found before a file of the
    /// pack is replaced.
    fn stage(&self, path: &str, bytes: &[u8]) -> Result<(PathBuf, AtomicFile), Error> {
        let path = self.path.join(path);
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let permissions = fs::metadata(&path).map(|metadata| metadata.permissions());
            let permissions = permissions.unwrap_or_else(|_| self.permissions.clone());
            let mut file = AtomicFile::with_permissions(&path, Some(permissions))?;
            file.write_all(bytes)?;
            file.sync()?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(Error::write(&path)(error)),
        }
    }

    /// Gives staged files their names. If that fails, the files before are written back.
    fn commit(&self, staged: Vec<(PathBuf, AtomicFile)>) -> Result<(), Error> {
        let mut written: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        for (path, file) in staged {
            let before = fs::read(&path).ok();
            if let Err(error) = file.commit() {
                for (path, before) in &written {
                    match before {
                        Some(bytes) => AtomicFile::replace(path, bytes),
                        None => fs::remove_file(path),
                    }
                    .map_err(Error::write(path))?;
                }
                return Err(Error::write(&path)(error));
            }
            written.push((path, before));
        }
        Ok(())
    }

    fn write_lock_file(&self) -> Result<(), Error> {
        let exists = LockFile::path(&self.path).exists();
        if self.lock_file.packs().is_empty() && !exists {
            return Ok(());
        }
        let text = self.lock_file.to_toml()?;
        let staged = self.stage(LOCK_FILE, text.as_bytes())?;
        self.commit(vec![staged])
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
            if let Some(difference) = lost_change(&locked.files, &present.digests()) {
                return Err(Error::Changed {
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
        self.check_no_link(name)?;
        // The file that makes the others a pack is the first one.
        let main = present.as_ref().and_then(PackFiles::main_file);
        let main = main.map(|file| file.path.clone());
        let mut files = present.map(|pack| pack.files).unwrap_or_default();
        files.sort_by_key(|file| Some(&file.path) != main.as_ref());
        for file in files {
            let path = self.path.join(&file.path);
            fs::remove_file(&path).map_err(Error::write(&path))?;
        }
        self.remove_empty_folder(name);
        self.lock_file.remove(name);
        self.write_lock_file()
    }

    /// Records the packs of these names in the lock file as they are. The entry of a pack that
    /// is not in the folder stays. Returns the states before.
    ///
    /// # Errors
    /// Returns an error if a pack is unknown or cannot be read, or the file cannot be written.
    pub fn lock(&mut self, names: &[String]) -> Result<BTreeMap<String, PackState>, Error> {
        let states = self.states(names)?;
        for (name, state) in &states {
            let is_new = matches!(state, PackState::NotLocked | PackState::Changed(_));
            let Some(present) = self.read(name)?.filter(|_| is_new) else {
                continue;
            };
            let digests = present.digests();
            self.lock_file.put(LockedPack {
                name: name.clone(),
                // A pack that was changed is no longer that of the source.
                source: None,
                manifest: None,
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
        let locked = &self.lock_file;
        states(&self.path, locked, names, self.allows_links, &self.limits)
    }
}

/// Returns the first change that would be lost if the locked files replaced the present ones. A
/// missing file is no such change.
fn lost_change(locked: &PackDigests, present: &PackDigests) -> Option<String> {
    let mut still_there = locked.clone();
    still_there.0.retain(|path, _| present.0.contains_key(path));
    differences(&still_there, present).into_iter().next()
}
