//! Checks a pack before it is added.

use std::path::Path;

use lmstrix_sandbox::{PackFiles, PackLoader, differences};

use crate::error::Error;

/// Loads a pack from its files, and asks it for its contents, so that a pack that cannot be used
/// is not added. Must be called on a thread for packs; see [`lmstrix_sandbox::Pack`].
///
/// # Errors
/// Returns an error if the pack cannot be loaded, fails or rejects one of its files.
pub fn check_loads(loader: &PackLoader, pack: &PackFiles) -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(Error::write(&std::env::temp_dir()))?;
    for file in &pack.files {
        let path = folder.path().join(&file.path);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        fs_err::write(&path, &file.bytes).map_err(Error::write(&path))?;
    }
    let main = pack.main_file().map(|file| folder.path().join(&file.path));
    let loaded = loader.load_file(&main.unwrap_or_default());
    let loaded = loaded.map_err(|error| without_path(error, pack))?;
    loaded
        .describe(loaded.sidecar_files())
        .map_err(|error| without_path(error, pack))?;
    // A run would skip a file that is not text, and refuse the pack under `--locked`.
    match differences(&pack.digests(), &loaded.digests()).first() {
        None => Ok(()),
        Some(_) => Err(Error::NotAPack {
            address: format!("pack `{}`", pack.name),
            reason: match loaded.skipped_files() {
                [] => "a file of it cannot be read".to_owned(),
                [first, ..] => without_folder(first, folder.path()),
            },
        }),
    }
}

/// Removes the temporary folder from a message.
fn without_folder(message: &str, folder: &Path) -> String {
    message.replace(&format!("{}/", folder.display()), "")
}

/// Removes the path of the temporary file from an error.
fn without_path(error: lmstrix_sandbox::Error, pack: &PackFiles) -> lmstrix_sandbox::Error {
    match error {
        lmstrix_sandbox::Error::Load { cause, .. } => lmstrix_sandbox::Error::Load {
            pack: pack.name.clone(),
            path: None,
            cause,
        },
        other => other,
    }
}
