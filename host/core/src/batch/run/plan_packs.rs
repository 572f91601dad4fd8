//! The packs of a plan. Prompts with the same packs and folders share one set.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_sandbox::{PackRules, STANDARD_PACK, STANDARD_WASM};

use crate::batch::IdentityHasher;
use crate::client::{Links, Notices, PackSource};
use crate::error::Error;
use crate::job::PackSet;
use crate::store::sha256_hex;

/// The packs of a plan.
pub(super) struct PlanPacks {
    source: PackSource,
    rules: PackRules,
    notices: Notices,
    standard_digest: String,
    /// The index of each set, by packs and folders.
    indices: HashMap<(Vec<String>, Vec<PathBuf>), usize>,
    sets: Vec<PackSet>,
    identities: Vec<PackIdentity>,
}

/// The parts of a prompt's identity that come from the packs that it may use: their sizes
/// and modification times.
pub(super) struct PackIdentity {
    stock: String,
    parts: Vec<(String, String)>,
}

impl PackIdentity {
    /// Returns the built-in prompts.
    pub(super) fn stock(&self) -> &str {
        &self.stock
    }

    /// Adds the parts to an identity.
    pub(super) fn add_to(&self, identity: &mut IdentityHasher) {
        for (label, part) in &self.parts {
            identity.add(label, part);
        }
    }
}

impl PlanPacks {
    pub(super) fn new(source: PackSource, rules: PackRules, notices: Notices) -> Self {
        Self {
            source,
            rules,
            notices,
            standard_digest: sha256_hex(STANDARD_WASM),
            indices: HashMap::new(),
            sets: Vec::new(),
            identities: Vec::new(),
        }
    }

    /// Returns the index of the set for a prompt.
    pub(super) fn index(&mut self, packs: &[String], pack_dirs: &[PathBuf]) -> usize {
        let key = (packs.to_vec(), pack_dirs.to_vec());
        if let Some(index) = self.indices.get(&key) {
            return *index;
        }
        let set = self
            .source
            .pack_set(pack_dirs, Links::Rejected, &self.notices)
            .with_rules(self.rules.clone());
        self.identities.push(PackIdentity {
            stock: set.stock().text.to_string(),
            parts: self.identity_parts(packs, pack_dirs),
        });
        self.sets.push(set);
        let index = self.sets.len() - 1;
        self.indices.insert(key, index);
        index
    }

    /// Returns the identity of the set with this index.
    pub(super) fn identity(&self, index: usize) -> Option<&PackIdentity> {
        self.identities.get(index)
    }

    /// Checks that each pinned name is that of a pack that some prompt can use, since a
    /// misspelled name would pin nothing.
    ///
    /// # Errors
    /// Returns an error for a name without a pack.
    pub(super) fn check_pins(&self) -> Result<(), Error> {
        let of_files = self.indices.keys().flat_map(|(packs, _)| packs);
        let file_names: Vec<_> = of_files
            .filter_map(|pack| Path::new(pack).file_stem())
            .collect();
        for name in self.rules.pins.keys() {
            let is_known = name == STANDARD_PACK
                || file_names.contains(&OsStr::new(name))
                || self.sets.iter().any(|set| set.has(name));
            if !is_known {
                return Err(Error::usage(format!(
                    "the plan pins the pack `{name}`, which is in none of its pack folders"
                ))
                .hint("to list the packs: lmstrix-host pack list"));
            }
        }
        Ok(())
    }

    /// Returns the sets, by their index.
    pub(super) fn into_sets(self) -> Vec<PackSet> {
        self.sets
    }

    fn identity_parts(&self, packs: &[String], pack_dirs: &[PathBuf]) -> Vec<(String, String)> {
        let mut parts = vec![("standard".to_owned(), self.standard_digest.clone())];
        let known = self.source.folders.0.iter().map(|folder| &folder.path);
        for folder in known.chain(pack_dirs) {
            add_folder(folder, 2, &mut parts);
        }
        for pack in packs {
            let path = Path::new(pack);
            add_file(path, &mut parts);
            add_file(&path.with_extension("toml"), &mut parts);
            add_folder(&path.with_extension(""), 1, &mut parts);
        }
        parts
    }
}

/// Adds the files of a folder, and of its subfolders down to a depth.
fn add_folder(folder: &Path, depth: usize, parts: &mut Vec<(String, String)>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        add_file(&path, parts);
        if depth > 1 && path.is_dir() {
            add_folder(&path, depth - 1, parts);
        }
    }
}

/// Adds the size and the modification time of a file.
fn add_file(path: &Path, parts: &mut Vec<(String, String)>) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    parts.push((name.into_owned(), format!("{} {modified}", metadata.len())));
}
