//! The packs that a run can use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lmstrix_sandbox::{
    ByteSize, CompiledPackCache, Compiler, PackFolder, PackFolders, PackLoader, PackNotice,
    STOCK_PROMPTS, TextFile,
};

use super::notices::Notices;
use crate::config::Config;
use crate::environment::Environment;
use crate::error::Error;
use crate::job::PackSet;
use crate::store::Sweep;

/// The limits of the compiled packs in the cache.
const COMPILED_CODE: Sweep = Sweep {
    prefix: "",
    suffix: ".cwasm",
    age_max: Duration::from_secs(180 * 24 * 60 * 60),
    bytes_max: 256 << 20,
};

/// The file name of the built-in prompts in messages.
const STOCK_NAME: &str = "stock.toml";

/// The loader of packs, and the folders that every run searches. One for each process.
#[derive(Clone)]
pub struct PackSource {
    /// The loader, which loads each component once.
    pub loader: Arc<PackLoader>,
    /// The folders.
    pub folders: PackFolders,
}

impl fmt::Debug for PackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackSource").finish_non_exhaustive()
    }
}

/// Starts the sandbox.
///
/// # Errors
/// Returns an error if the sandbox cannot be set up.
pub fn pack_source(
    env: &Environment,
    config: &Config,
    notices: &Notices,
) -> Result<PackSource, Error> {
    let (notices, of_config) = (notices.clone(), notices);
    let cache = env.paths.cache.join("packs");
    let loader = PackLoader::new(
        config.limits,
        CompiledPackCache::new(cache.clone()),
        env.helper
            .clone()
            .map_or(Compiler::InProcess, Compiler::Child),
        move |notice| match notice {
            PackNotice::Compiling { name, bytes } => {
                for sweep in [COMPILED_CODE, Sweep::of_temporary_files(".compiling-")] {
                    sweep.run(&cache);
                }
                let size = ByteSize(bytes);
                notices.status(&format!("compiling pack {name} ({size}), once"));
            }
            PackNotice::Bundle { path } => {
                let folder = path.parent().unwrap_or(Path::new("")).display();
                let path = path.display();
                notices.warning(&format!(
                    "`{path}` holds files of the pack that are not used; \
                     to unpack them: lmstrix-host pack add {path} --pack-dir {folder}"
                ));
            }
            PackNotice::NotCached { folder, reason } => notices.warning(&format!(
                "compiled packs cannot be kept in {}, so each run compiles them again: {reason}",
                folder.display()
            )),
        },
    )?;
    for folder in config.pack_dirs.iter().filter(|folder| !folder.is_dir()) {
        let folder = folder.display();
        of_config.warning(&format!(
            "pack_dirs in the config: {folder} is not a folder"
        ));
    }
    let folder = |path: PathBuf, allows_links| PackFolder { path, allows_links };
    let mut folders = vec![
        folder(PathBuf::from("packs"), false),
        folder(env.paths.data.join("packs"), false),
    ];
    for path in config.pack_dirs.iter().filter(|path| path.is_dir()) {
        add_folder(&mut folders, path, true);
    }
    Ok(PackSource {
        loader: Arc::new(loader),
        folders: PackFolders(folders),
    })
}

/// Adds a folder, or allows links in it if it is known.
fn add_folder(folders: &mut Vec<PackFolder>, path: &Path, allows_links: bool) {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    let mut known = folders.iter_mut();
    match known.find(|known| canonical(&known.path) == canonical(path)) {
        Some(known) => known.allows_links |= allows_links,
        None => folders.push(PackFolder {
            path: path.to_owned(),
            allows_links,
        }),
    }
}

/// Decides if symbolic links in a folder may point outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// The user named the folder on the command line.
    Allowed,
    /// The folder is from a plan. The plan may come from another user, and the plan that a run
    /// keeps lists `./packs`.
    Rejected,
}

impl PackSource {
    /// Returns the packs of a run, which also searches `pack_dirs`; see [`Self::folders_with`].
    #[must_use]
    pub fn pack_set(&self, pack_dirs: &[PathBuf], links: Links, notices: &Notices) -> PackSet {
        let folders = self.folders_with(pack_dirs, links, notices);
        PackSet::new(Arc::clone(&self.loader), folders, stock_file())
    }

    /// Returns the folders that a run with `pack_dirs` searches, each once. `links` says whether
    /// symbolic links in `pack_dirs` may point outside of them.
    #[must_use]
    pub fn folders_with(
        &self,
        pack_dirs: &[PathBuf],
        links: Links,
        notices: &Notices,
    ) -> PackFolders {
        let PackFolders(mut folders) = self.folders.clone();
        for folder in pack_dirs {
            if !folder.is_dir() {
                notices.warning(&format!("--pack-dir {} is not a folder", folder.display()));
            } else {
                add_folder(&mut folders, folder, links == Links::Allowed);
            }
        }
        PackFolders(folders)
    }
}

/// Returns the file of the built-in prompts.
#[must_use]
pub fn stock_file() -> TextFile {
    TextFile {
        name: STOCK_NAME.to_owned(),
        display_path: STOCK_NAME.to_owned(),
        text: STOCK_PROMPTS.into(),
    }
}

/// Returns the names of the built-in prompts.
pub fn stock_prompt_names() -> Vec<String> {
    let stock: toml::Table = toml::from_str(STOCK_PROMPTS).unwrap_or_default();
    stock.keys().cloned().collect()
}
