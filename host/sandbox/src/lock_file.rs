//! `packs.lock`: the digests and sources of the packs in a folder, and the rules that refuse
//! other packs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::STANDARD_PACK;
use super::discovery::{self, FoundPack, LOCK_FILE};
use super::error::Error;
use super::limits::SandboxLimits;
use super::loaded::Pack;
use super::pack_files::{Digest, PackDigests, PackFiles, standard_digests};

/// Maximum size in bytes of a lock file.
const BYTES_MAX: u64 = 4 << 20;
/// The version of the format that this program reads and writes.
const VERSION: u32 = 1;
/// The first lines of the file.
const HEADER: &str = "\
# Written by `lmstrix-host pack`. Commit it with the packs; `--locked` refuses others.
";

/// The packs of a folder, as they were when they were added or locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// The version of the format.
    version: u32,
    /// The packs, sorted by name.
    #[serde(default, rename = "pack", skip_serializing_if = "Vec::is_empty")]
    packs: Vec<LockedPack>,
}

/// A pack in a lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPack {
    /// Name of the pack.
    pub name: String,
    /// The file, folder, URL or `oci://` reference that it was added from. `None` for a pack
    /// that was put into the folder by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The digest of the manifest in the OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The digest of the pack; see [`PackDigests::of_pack`].
    pub digest: Digest,
    /// The digests of its files.
    pub files: PackDigests,
}

impl LockFile {
    /// Returns the path of the lock file of a folder.
    #[must_use]
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(LOCK_FILE)
    }

    /// Reads the lock file of a folder; `None` if the folder has no lock file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is invalid.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(folder);
        let invalid = |reason: String| Error::InvalidLockFile {
            path: path.clone(),
            reason,
        };
        let text = match fs::metadata(&path) {
            // A pipe would block, and a device may have no end.
            Ok(metadata) if !metadata.is_file() || metadata.len() > BYTES_MAX => {
                return Err(invalid("it is not a file of at most 4 MiB".to_owned()));
            }
            Ok(_) => fs::read_to_string(&path),
            Err(error) => Err(error),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let file: Self = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| before.matches('\n').count() + 1);
            let message = error.message();
            invalid(match line {
                Some(line) => format!("line {line}: {message}"),
                None => message.to_owned(),
            })
        })?;
        if file.version != VERSION {
            return Err(invalid(format!(
                "it has version {}, and this program reads version {VERSION}; update lmstrix-host",
                file.version
            )));
        }
        for (index, pack) in file.packs.iter().enumerate() {
            let name = &pack.name;
            if file
                .packs
                .iter()
                .take(index)
                .any(|other| other.name == *name)
            {
                return Err(invalid(format!("it has two entries for the pack `{name}`")));
            }
            discovery::check_new_name(name).map_err(|error| invalid(error.to_string()))?;
            for path in pack.files.0.keys() {
                discovery::check_path(name, path)
                    .map_err(|reason| invalid(format!("pack `{name}`: `{path}`: {reason}")))?;
            }
            if pack.files.of_pack() != pack.digest {
                return Err(invalid(format!(
                    "the digest of pack `{}` does not match those of its files",
                    pack.name
                )));
            }
        }
        Ok(Some(file))
    }

    /// Returns the packs, sorted by name.
    #[must_use]
    pub fn packs(&self) -> &[LockedPack] {
        &self.packs
    }

    /// Returns the pack of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LockedPack> {
        self.packs.iter().find(|pack| pack.name == name)
    }

    /// Adds a pack, or replaces the one of its name.
    pub fn put(&mut self, pack: LockedPack) {
        self.remove(&pack.name);
        self.packs.push(pack);
        self.packs.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Removes a pack.
    pub fn remove(&mut self, name: &str) {
        self.packs.retain(|pack| pack.name != name);
    }

    /// Returns the content of the file.
    ///
    /// # Errors
    /// Returns an error if a value cannot be represented in TOML.
    pub fn to_toml(&self) -> Result<String, Error> {
        let file = Self {
            version: VERSION,
            packs: self.packs.clone(),
        };
        let text = toml::to_string(&file).map_err(|error| Error::InvalidLockFile {
            path: LOCK_FILE.into(),
            reason: error.to_string(),
        })?;
        Ok(format!("{HEADER}{text}"))
    }
}

/// The differences between the files of a pack and its lock entry, each as a sentence fragment.
#[must_use]
pub fn differences(locked: &PackDigests, actual: &PackDigests) -> Vec<String> {
    let mut found = Vec::new();
    for (path, digest) in &locked.0 {
        match actual.0.get(path) {
            None => found.push(format!("`{path}` is missing")),
            Some(other) if other != digest => {
                found.push(format!("`{path}` has {other}, not {digest}"))
            }
            Some(_) => {}
        }
    }
    let additional = actual.0.keys().filter(|path| !locked.0.contains_key(*path));
    found.extend(additional.map(|path| format!("`{path}` was added")));
    found
}

/// Decides which packs may run. Cheap to clone; clones read each lock file once.
#[derive(Clone, Debug, Default)]
pub struct PackRules {
    /// Refuse packs that are neither pinned nor in the lock file of their folder. The standard
    /// pack is a part of the program, and needs neither.
    pub locked: bool,
    /// The digests of packs by name; see [`PackDigests::of_pack`].
    pub pins: BTreeMap<String, Digest>,
    lock_files: Arc<Mutex<BTreeMap<PathBuf, Option<LockFile>>>>,
}

impl PackRules {
    /// Creates rules.
    #[must_use]
    pub fn new(locked: bool, pins: BTreeMap<String, Digest>) -> Self {
        Self {
            locked,
            pins,
            lock_files: Arc::default(),
        }
    }

    /// Checks that a pack may run.
    ///
    /// # Errors
    /// Returns an error if the pack is refused or a lock file is invalid.
    pub fn check(&self, pack: &Pack) -> Result<(), Error> {
        let refused = |reason: String| {
            Err(Error::Refused {
                pack: pack.name().to_owned(),
                path: pack.path().cloned(),
                rule: "pins",
                reason,
            })
        };
        // The standard pack resolves the prompts of a prompt file.
        if pack.is_prompt_file()
            && let Some(pin) = self.pins.get(STANDARD_PACK)
            && let digest = standard_digests().of_pack()
            && digest != *pin
        {
            return refused(format!(
                "it needs the pack `{STANDARD_PACK}`, which has {digest}, not {pin}"
            ));
        }
        if let Some(pin) = self.pins.get(pack.name()) {
            let digest = pack.digests().of_pack();
            return match digest == *pin {
                true => Ok(()),
                false => refused(format!("it has {digest}, not {pin}")),
            };
        }
        let Some(path) = pack.path().filter(|_| self.locked) else {
            return Ok(());
        };
        self.check_locked(pack.name(), path, &pack.digests())
    }

    /// Checks that a pack may be loaded, so that an unknown component is not compiled.
    ///
    /// # Errors
    /// Returns an error if the pack is refused or cannot be read, or if a lock file is invalid.
    pub fn check_before_load(&self, pack: &FoundPack, limits: &SandboxLimits) -> Result<(), Error> {
        if !self.locked || self.pins.contains_key(&pack.name) {
            return Ok(());
        }
        let (files, _shown_when_loaded) = PackFiles::read_with(pack, true, limits)?;
        self.check_locked(&pack.name, &pack.path, &files.digests())
    }

    fn check_locked(&self, name: &str, path: &Path, digests: &PackDigests) -> Result<(), Error> {
        refuse_difference(name, path, &self.locked_digests(name, path)?, digests)
    }

    /// Returns the digests of a pack in the lock file of its folder.
    fn locked_digests(&self, name: &str, path: &Path) -> Result<PackDigests, Error> {
        let folder = discovery::parent_folder(path);
        let lock_path = LockFile::path(folder);
        let lock_path = lock_path.display();
        let Some(lock_file) = self.lock_file(folder)? else {
            return Err(not_locked(
                name,
                path,
                format!("`{lock_path}` does not exist"),
            ));
        };
        match lock_file.get(name) {
            Some(locked) => Ok(locked.files.clone()),
            None => Err(not_locked(
                name,
                path,
                format!("it is not in `{lock_path}`"),
            )),
        }
    }

    /// Returns the lock file of a folder, which is read once.
    fn lock_file(&self, folder: &Path) -> Result<Option<LockFile>, Error> {
        if let Ok(known) = self.lock_files.lock()
            && let Some(lock_file) = known.get(folder)
        {
            return Ok(lock_file.clone());
        }
        let lock_file = LockFile::read(folder)?;
        if let Ok(mut known) = self.lock_files.lock() {
            known.insert(folder.to_owned(), lock_file.clone());
        }
        Ok(lock_file)
    }
}

/// Returns an error if a pack differs from its lock file.
fn refuse_difference(
    name: &str,
    path: &Path,
    locked: &PackDigests,
    actual: &PackDigests,
) -> Result<(), Error> {
    let lock_path = LockFile::path(discovery::parent_folder(path));
    match differences(locked, actual).first() {
        None => Ok(()),
        Some(difference) => Err(not_locked(
            name,
            path,
            format!("it differs from `{}`: {difference}", lock_path.display()),
        )),
    }
}

fn not_locked(name: &str, path: &Path, reason: String) -> Error {
    Error::Refused {
        pack: name.to_owned(),
        path: Some(path.to_owned()),
        rule: "--locked",
        reason,
    }
}
