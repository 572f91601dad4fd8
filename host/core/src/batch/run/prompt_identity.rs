//! The identity of a prompt: the digest of its files and of the packs that it may use.

use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_sandbox::STANDARD_WASM;

use crate::batch::IdentityHasher;
use crate::environment::Environment;
use crate::job::{PackSet, PromptRequest};
use crate::store::sha256_hex;

/// Returns the digest of a prompt's files and of every pack that it may use, by size
/// and modification time.
pub(super) fn prompt_identity(
    request: &PromptRequest,
    packs: &PackSet,
    pack_dirs: &[PathBuf],
    env: &Environment,
) -> IdentityHasher {
    // Files count by name and text: another spelling of a path makes no other job.
    let without_files = PromptRequest {
        files: Vec::new(),
        // Part of each job, with those of its input.
        attachments: Vec::new(),
        ..request.clone()
    };
    let mut identity = IdentityHasher::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("prompt", &json(&without_files))
        .with("stock", &packs.stock().text);
    for file in &request.files {
        identity.add(&file.name, &file.text);
    }
    identity.add("standard", &sha256_hex(STANDARD_WASM));
    let mut folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    folders.extend(pack_dirs.iter().cloned());
    for folder in folders {
        add_folder(&folder, 2, &mut identity);
    }
    for pack in &request.packs {
        let path = Path::new(pack);
        add_file(path, &mut identity);
        add_file(&path.with_extension("toml"), &mut identity);
        add_folder(&path.with_extension(""), 1, &mut identity);
    }
    identity
}

/// Adds the files of a folder, and of its subfolders down to a depth.
fn add_folder(folder: &Path, depth: usize, identity: &mut IdentityHasher) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        add_file(&path, identity);
        if depth > 1 && path.is_dir() {
            add_folder(&path, depth - 1, identity);
        }
    }
}

/// Adds the size and the modification time of a file.
fn add_file(path: &Path, identity: &mut IdentityHasher) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    identity.add(&name, &format!("{} {modified}", metadata.len()));
}

/// Returns a value as JSON, which is its text inside identities.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
