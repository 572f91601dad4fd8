//! The packs that a run can use.

use std::path::PathBuf;

use lmstrix_sandbox::{
    ByteSize, CompiledPackCache, Compiler, PackFolders, PackLoader, PackNotice, STOCK_PROMPTS,
    TextFile,
};

use super::notices::Notices;
use crate::config::Config;
use crate::environment::Environment;
use crate::error::Error;
use crate::job::PackSet;

/// The file name of the built-in prompts in messages.
const STOCK_NAME: &str = "stock.toml";

/// Returns the loader of packs, and the folders that every run searches.
///
/// # Errors
/// Returns an error if the sandbox cannot be set up.
pub fn pack_loader(
    env: &Environment,
    config: &Config,
    notices: &Notices,
) -> Result<(PackLoader, PackFolders), Error> {
    let notices = notices.clone();
    let loader = PackLoader::new(
        config.limits,
        CompiledPackCache::new(env.paths.cache.join("packs")),
        env.compiler
            .clone()
            .map_or(Compiler::InProcess, Compiler::Child),
        move |notice| match notice {
            PackNotice::Compiling { name, bytes } => {
                let size = ByteSize(bytes);
                notices.status(&format!("compiling pack {name} ({size}), once"));
            }
            PackNotice::NotCached { folder, reason } => notices.warning(&format!(
                "compiled packs cannot be kept in {}, so each run compiles them again: {reason}",
                folder.display()
            )),
        },
    )?;
    let folders = vec![PathBuf::from("packs"), env.paths.data.join("packs")];
    Ok((loader, PackFolders(folders)))
}

/// Returns the packs of a run, which also searches `pack_dirs`.
///
/// # Errors
/// Returns an error if the sandbox cannot be set up.
pub fn pack_set(
    pack_dirs: &[PathBuf],
    env: &Environment,
    config: &Config,
    notices: &Notices,
) -> Result<PackSet, Error> {
    let (loader, PackFolders(mut folders)) = pack_loader(env, config, notices)?;
    for folder in pack_dirs.iter().filter(|folder| !folder.is_dir()) {
        notices.warning(&format!("--pack-dir {} is not a folder", folder.display()));
    }
    folders.extend(pack_dirs.iter().cloned());
    Ok(PackSet::new(loader, PackFolders(folders), stock_file()))
}

/// Returns the file of the built-in prompts.
fn stock_file() -> TextFile {
    TextFile {
        name: STOCK_NAME.to_owned(),
        display_path: STOCK_NAME.to_owned(),
        text: STOCK_PROMPTS.to_owned(),
    }
}

/// Returns the names of the built-in prompts.
pub fn stock_prompt_names() -> Vec<String> {
    let stock: toml::Table = toml::from_str(STOCK_PROMPTS).unwrap_or_default();
    stock.keys().cloned().collect()
}
