//! The cache of compiled packs on disk, and the only code that trusts machine code.
//!
//! The file name of a compiled pack consists of the component's SHA-256 and wasmtime's
//! compatibility hash, so a changed pack or a changed host never uses stale code. Only
//! the user can write to the folder. An index from path, size, times and inode to the
//! digest avoids reading and hashing a large pack that has not changed.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::notice::PackNotice;

/// Schema version of the index files.
const INDEX_SCHEMA: u32 = 1;

/// A folder with compiled packs and their index.
#[derive(Clone, Debug)]
pub struct CompiledPackCache {
    folder: PathBuf,
}

/// The metadata of a file at the time when it was hashed. A changed file differs in at
/// least one field, unless the change is concealed deliberately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileFingerprint {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
    changed_ns: i128,
    inode: u64,
}

/// The content of an index file.
#[derive(Serialize, Deserialize)]
struct IndexEntry {
    schema: u32,
    fingerprint: FileFingerprint,
    digest: String,
}

impl FileFingerprint {
    /// Returns `None` if the system does not report the modification time.
    pub(super) fn new(path: &Path, metadata: &std::fs::Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let (changed_ns, inode) = ctime_and_inode(metadata);
        Some(Self {
            path: path.to_owned(),
            size: metadata.len(),
            modified_ns: modified.as_nanos(),
            changed_ns,
            inode,
        })
    }
}

/// Returns the inode change time in nanoseconds and the inode number.
#[cfg(unix)]
fn ctime_and_inode(metadata: &std::fs::Metadata) -> (i128, u64) {
    use std::os::unix::fs::MetadataExt;
    let ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    (ns, metadata.ino())
}

#[cfg(not(unix))]
fn ctime_and_inode(_metadata: &std::fs::Metadata) -> (i128, u64) {
    (0, 0)
}

/// Returns the SHA-256 of `bytes` in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes wasmtime's compatibility data, which is available only through [`Hash`], into
/// a digest that is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // Not used: `code_path` takes the whole digest.
    }
}

impl CompiledPackCache {
    /// Returns a cache in `folder`, which is created on the first write.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the path of the compiled code for this component digest.
    fn code_path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility_hash = hex(&hasher.0.finalize());
        self.folder
            .join(format!("{digest}-{}.cwasm", &compatibility_hash[..16]))
    }

    /// Loads a compiled component. Returns `None` if it is missing or if other users can
    /// write to it.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.code_path(engine, digest);
        if !is_private(&self.folder) || !is_private(&path) {
            return None;
        }
        map_compiled(engine, &path).ok()
    }

    /// Returns true if there is compiled code for this digest.
    pub(super) fn contains(&self, engine: &Engine, digest: &str) -> bool {
        self.code_path(engine, digest).exists()
    }

    /// Waits until no other process compiles the same pack. Returns `None` if the lock
    /// cannot be taken, as in a read-only cache; both processes then compile the pack.
    pub(super) fn lock(&self, digest: &str) -> Option<std::fs::File> {
        create_private_folder(&self.folder).ok()?;
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

    /// Writes compiled code to the cache and maps it into memory. If the cache is not
    /// writable, maps the code from a temporary file instead.
    pub(super) fn store(
        &self,
        engine: &Engine,
        digest: &str,
        code: &[u8],
        on_notice: &dyn Fn(PackNotice<'_>),
    ) -> Result<Component, String> {
        let path = self.code_path(engine, digest);
        let stored = create_private_folder(&self.folder).and_then(|()| {
            let temporary = write_private_file(&self.folder, code)?;
            temporary.persist(&path).map_err(|error| error.error)
        });
        match stored {
            Ok(_) => map_compiled(engine, &path).map_err(|error| format!("{error:#}")),
            Err(reason) => {
                let reason = reason.to_string();
                on_notice(PackNotice::NotCached {
                    folder: &self.folder,
                    reason,
                });
                let temporary = write_private_file(&std::env::temp_dir(), code)
                    .map_err(|error| error.to_string())?;
                map_compiled(engine, temporary.path()).map_err(|error| format!("{error:#}"))
            }
        }
    }

    /// Returns the digest of a file whose metadata has not changed since it was hashed.
    pub(super) fn cached_digest(&self, fingerprint: &FileFingerprint) -> Option<String> {
        let path = self.index_path(fingerprint);
        if !is_private(&path) {
            return None;
        }
        let entry: IndexEntry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (entry.schema == INDEX_SCHEMA && entry.fingerprint == *fingerprint).then_some(entry.digest)
    }

    /// Writes the digest of a file to the index. An error is only logged, because the
    /// next load can compute the digest again.
    pub(super) fn store_digest(&self, fingerprint: &FileFingerprint, digest: &str) {
        let entry = IndexEntry {
            schema: INDEX_SCHEMA,
            fingerprint: fingerprint.clone(),
            digest: digest.to_owned(),
        };
        let stored = create_private_folder(&self.folder).and_then(|()| {
            let text = serde_json::to_vec(&entry)?;
            write_private_file(&self.folder, &text)?
                .persist(self.index_path(fingerprint))
                .map_err(|error| error.error)
        });
        if let Err(error) = stored {
            tracing::debug!(%error, "cannot write the pack index");
        }
    }

    fn index_path(&self, fingerprint: &FileFingerprint) -> PathBuf {
        let name = sha256(fingerprint.path.as_os_str().as_encoded_bytes());
        self.folder.join(format!("{}.json", &name[..32]))
    }
}

/// Writes a temporary file that only the user can access.
fn write_private_file(folder: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    // tempfile creates files that only their owner can read and write.
    let mut file = tempfile::Builder::new()
        .prefix(".compiling-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    // A power failure must not leave a truncated file under the final name.
    file.as_file().sync_all()?;
    Ok(file)
}

/// Creates a folder with mode 0700. Returns an error if it exists and other users own it
/// or can write to it.
#[cfg(unix)]
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if is_private(folder) {
        return Ok(());
    }
    Err(std::io::Error::other(
        "the folder is owned or writable by another user",
    ))
}

#[cfg(not(unix))]
fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Returns true if only the current user can have written the file or folder.
#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        !metadata.is_symlink()
            && metadata.uid() == rustix::process::geteuid().as_raw()
            && metadata.mode() & WRITABLE_BY_OTHERS == 0
    })
}

#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.exists()
}

/// Maps compiled code into memory. This is the only unsafe code of the program.
#[expect(
    unsafe_code,
    reason = "wasmtime cannot check machine code. The file was written by `store`, from the \
              output of this program's compiler process, into a folder that only this \
              user can write to; files of other users are rejected before, and no code \
              path passes a .cwasm file of a user or a pack to this function"
)]
fn map_compiled(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: see the reason above. Files are replaced by rename and never written in
    // place, so a mapping does not change.
    unsafe { Component::deserialize_file(engine, path) }
}
