//! Compiled packs on disk, and the one place that trusts machine code.
//!
//! A compiled pack is named by the sha256 of its component and by wasmtime's
//! compatibility hash, so neither a changed pack nor a changed host ever finds
//! stale code. The folder belongs to the user alone. An index from path, size,
//! times and inode to the digest spares reading and hashing a large pack that
//! has not changed.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::Notice;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The schema of the index files.
const INDEX_SCHEMA: u32 = 1;

/// The folder of compiled packs.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// What a file looked like when it was hashed. A changed file differs in at
/// least one of these, unless somebody takes pains to hide it, which is what
/// `--locked` will be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
    changed_ns: i128,
    inode: u64,
}

#[derive(Serialize, Deserialize)]
struct IndexEntry {
    schema: u32,
    fingerprint: Fingerprint,
    digest: String,
}

impl Fingerprint {
    /// `None` where the system does not say when the file was changed.
    pub(super) fn of(path: &Path, metadata: &std::fs::Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let (changed_ns, inode) = change(metadata);
        Some(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified_ns: modified.as_nanos(),
            changed_ns,
            inode,
        })
    }
}

#[cfg(unix)]
fn change(metadata: &std::fs::Metadata) -> (i128, u64) {
    use std::os::unix::fs::MetadataExt;
    let ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    (ns, metadata.ino())
}

#[cfg(not(unix))]
fn change(_metadata: &std::fs::Metadata) -> (i128, u64) {
    (0, 0)
}

/// The sha256 of `bytes`, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// wasmtime says what makes compiled code compatible as something to hash;
/// this hashes it into a name that is the same in every run.
struct NameHasher(Sha256);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // Never asked for: `name` takes the whole digest.
    }
}

impl Cache {
    /// A cache in `folder`, which is made when it is first written to.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn code_path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = NameHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatible = hex(&hasher.0.finalize());
        self.folder
            .join(format!("{digest}-{}.cwasm", &compatible[..16]))
    }

    /// The compiled component, if it is here and only its owner can write it.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.code_path(engine, digest);
        if !owned(&self.folder) || !owned(&path) {
            return None;
        }
        map_compiled(engine, &path).ok()
    }

    /// Whether there is compiled code under this digest.
    pub(super) fn has(&self, engine: &Engine, digest: &str) -> bool {
        self.code_path(engine, digest).exists()
    }

    /// Waits until no other process compiles the same pack. Without a lock (a
    /// read-only cache) both compile, which costs time and nothing else.
    pub(super) fn lock(&self, digest: &str) -> Option<std::fs::File> {
        private_folder(&self.folder).ok()?;
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join(format!("{digest}.lock")))
            .ok()?
            .into_parts()
            .0;
        file.lock().ok()?;
        Some(file)
    }

    /// Keeps compiled code and maps it. Where the cache cannot be written, the
    /// code is mapped from a temporary file and forgotten.
    pub(super) fn keep(
        &self,
        engine: &Engine,
        digest: &str,
        code: &[u8],
        on_notice: &dyn Fn(Notice<'_>),
    ) -> Result<Component, String> {
        let path = self.code_path(engine, digest);
        let kept = private_folder(&self.folder).and_then(|()| {
            let temporary = write_private(&self.folder, code)?;
            temporary.persist(&path).map_err(|e| e.error)
        });
        match kept {
            Ok(_) => map_compiled(engine, &path).map_err(|e| format!("{e:#}")),
            Err(reason) => {
                let reason = reason.to_string();
                on_notice(Notice::NotCached {
                    folder: &self.folder,
                    reason,
                });
                let temporary =
                    write_private(&std::env::temp_dir(), code).map_err(|e| e.to_string())?;
                map_compiled(engine, temporary.path()).map_err(|e| format!("{e:#}"))
            }
        }
    }

    /// The digest of a file that looks as it did when it was hashed.
    pub(super) fn known_digest(&self, fingerprint: &Fingerprint) -> Option<String> {
        let path = self.index_path(fingerprint);
        if !owned(&path) {
            return None;
        }
        let entry: IndexEntry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (entry.schema == INDEX_SCHEMA && entry.fingerprint == *fingerprint).then_some(entry.digest)
    }

    /// Remembers the digest of a file. Failing to costs time and nothing else.
    pub(super) fn remember(&self, fingerprint: &Fingerprint, digest: &str) {
        let entry = IndexEntry {
            schema: INDEX_SCHEMA,
            fingerprint: fingerprint.clone(),
            digest: digest.to_owned(),
        };
        let remembered = private_folder(&self.folder).and_then(|()| {
            let text = serde_json::to_vec(&entry)?;
            write_private(&self.folder, &text)?
                .persist(self.index_path(fingerprint))
                .map_err(|e| e.error)
        });
        if let Err(reason) = remembered {
            tracing::debug!(%reason, "the index of packs cannot be written");
        }
    }

    fn index_path(&self, fingerprint: &Fingerprint) -> PathBuf {
        let name = sha256(fingerprint.path.as_os_str().as_encoded_bytes());
        self.folder.join(format!("{}.json", &name[..32]))
    }
}

fn write_private(folder: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    // tempfile makes files that only their owner can read and write.
    let mut file = tempfile::Builder::new()
        .prefix(".compiling-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    // A power cut must not leave half of some machine code under its name.
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(unix)]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if owned(folder) {
        return Ok(());
    }
    Err(std::io::Error::other(
        "the folder belongs to somebody else, or others can write to it",
    ))
}

#[cfg(not(unix))]
fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Whether only this user can have written it.
#[cfg(unix)]
fn owned(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    std::fs::symlink_metadata(path).is_ok_and(|it| {
        !it.is_symlink()
            && it.uid() == rustix::process::geteuid().as_raw()
            && it.mode() & WRITABLE_BY_OTHERS == 0
    })
}

#[cfg(not(unix))]
fn owned(path: &Path) -> bool {
    path.exists()
}

/// Maps compiled code into memory. The only unsafe code of this program.
#[expect(
    unsafe_code,
    reason = "wasmtime cannot check machine code. The file was written by `keep`, from the \
              output of our own compiler process, into a folder that only this user can \
              write; a file by anybody else never gets this far, and no code path leads \
              here from a .cwasm that a user or a pack brings"
)]
fn map_compiled(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: see the reason above. Files are replaced by rename and never
    // written in place, so a mapping does not change under us.
    unsafe { Component::deserialize_file(engine, path) }
}
