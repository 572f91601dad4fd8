//! Finds pack files and their sidecar files in folders. Symbolic links to targets outside these
//! folders are rejected, except in folders that the user named.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::contract::TextFile;
use super::error::{Error, LoadError};
use super::limits::SandboxLimits;

/// Names that pack files must not have: the built-in pack, and its prompts.
pub const RESERVED_NAMES: [&str; 2] = ["standard", "stock"];
/// File name of the lock file in a packs folder.
pub const LOCK_FILE: &str = "packs.lock";
/// Maximum length of a pack name in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Maximum size in bytes of all sidecar files of a pack together.
pub const SIDECAR_BYTES_MAX: u64 = 16 << 20;

/// The folders that are searched for packs, in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct PackFolders(pub Vec<PackFolder>);

/// A folder that is searched for packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFolder {
    /// Path of the folder.
    pub path: PathBuf,
    /// Accept symbolic links to targets outside the folder.
    pub allows_links: bool,
}

/// A pack file that was found in a folder: a component, or a prompt file that the standard
/// pack reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPack {
    /// Name of the pack: the file stem.
    pub name: String,
    /// Path of the pack file, `.wasm` or `.toml`.
    pub path: PathBuf,
    /// True if the folder may have symbolic links to other folders.
    pub allows_links: bool,
    /// Files of the same name in folders of lower precedence, which are not used.
    pub shadowed: Vec<PathBuf>,
}

/// A `.wasm` file in a packs folder that cannot be a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The rule that its name violates.
    pub reason: &'static str,
}

/// Checks that a name is a valid pack name.
///
/// # Errors
/// Returns an error if the name is empty, longer than 64 bytes, starts with a dot, or
/// contains characters other than `a-z0-9._-`.
pub fn check_name(name: &str) -> Result<(), Error> {
    let invalid = |reason| {
        Err(Error::InvalidName {
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return invalid("a name has 1 to 64 characters");
    }
    if name.starts_with('.') {
        return invalid("a name must not start with a dot");
    }
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.chars().all(is_allowed) {
        return invalid("only a-z, 0-9, `.`, `_` and `-` are allowed");
    }
    Ok(())
}

/// Checks that a name is valid and not one of [`RESERVED_NAMES`].
pub(super) fn check_new_name(name: &str) -> Result<(), Error> {
    check_name(name)?;
    if RESERVED_NAMES.contains(&name) {
        return Err(Error::InvalidName {
            name: name.to_owned(),
            reason: "the name is reserved for the built-in pack; choose another one",
        });
    }
    Ok(())
}

impl FoundPack {
    /// Creates the pack of a file at any location. Its name is the file stem. The file itself
    /// may be a link, but links beside it may not point outside the folder.
    ///
    /// # Errors
    /// Returns an error if the file stem is not a valid pack name.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        check_new_name(&name)?;
        Ok(Self {
            name: name.into_owned(),
            path: path.to_owned(),
            allows_links: false,
            shadowed: Vec::new(),
        })
    }
}

impl PackFolders {
    /// Returns all packs in all folders, sorted by name. Folders that do not exist
    /// are skipped.
    #[must_use]
    pub fn list(&self) -> Vec<FoundPack> {
        self.scan().0
    }

    /// Returns the packs as [`Self::list`] does, and the files whose names are invalid.
    #[must_use]
    pub fn scan(&self) -> (Vec<FoundPack>, Vec<UnusedFile>) {
        let mut packs: Vec<FoundPack> = Vec::new();
        let mut unused = Vec::new();
        for folder in &self.0 {
            for path in pack_files(&folder.path) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let name = name.as_ref();
                let reason = match check_name(name) {
                    Err(Error::InvalidName { reason, .. }) => Some(reason),
                    _ if RESERVED_NAMES.contains(&name) => Some("the name is reserved"),
                    _ => None,
                };
                if let Some(reason) = reason {
                    // Other TOML files may be there, too.
                    if !is_prompt_file(&path) {
                        unused.push(UnusedFile { path, reason });
                    }
                    continue;
                }
                let name = name.to_owned();
                match packs.iter_mut().find(|pack| pack.name == name) {
                    Some(pack) => pack.shadowed.push(path),
                    None => packs.push(FoundPack {
                        name,
                        path,
                        allows_links: folder.allows_links,
                        shadowed: Vec::new(),
                    }),
                }
            }
        }
        packs.sort_by(|a, b| a.name.cmp(&b.name));
        (packs, unused)
    }

    /// Returns the pack of this name from the folder of the highest precedence.
    ///
    /// # Errors
    /// Returns an error if the name is invalid or no folder contains the pack.
    pub fn find(&self, name: &str) -> Result<FoundPack, Error> {
        check_name(name)?;
        let exists = |path: &PathBuf| path.symlink_metadata().is_ok();
        let mut candidates = self.0.iter().filter_map(|folder| {
            let component = folder.path.join(format!("{name}.wasm"));
            let prompt_file = folder.path.join(format!("{name}.toml"));
            // Beside a component, a TOML file is one of its sidecar files.
            let path = [component, prompt_file].into_iter().find(exists)?;
            Some((path, folder.allows_links))
        });
        let first = candidates.next();
        let Some((path, allows_links)) = first else {
            return Err(Error::NotFound {
                name: name.to_owned(),
                searched: self.0.iter().map(|folder| folder.path.clone()).collect(),
                available: self.list().into_iter().map(|pack| pack.name).collect(),
            });
        };
        Ok(FoundPack {
            name: name.to_owned(),
            path,
            allows_links,
            shadowed: candidates.map(|(path, _)| path).collect(),
        })
    }
}

/// Returns whether a pack is a prompt file for the standard pack.
pub(super) fn is_prompt_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// Returns the components of a folder, and the prompt files that are not beside a component of
/// the same name, sorted.
fn pack_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let is_component = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "wasm")
    };
    paths.retain(|path| {
        let is_alone = || path.with_extension("wasm").symlink_metadata().is_err();
        !path.is_dir() && (is_component(path) || (is_prompt_file(path) && is_alone()))
    });
    paths.sort();
    paths
}

/// Checks that `path` is a regular file within the size limit and, unless `allows_links`, that it
/// is not a link to a target outside its folder.
pub(super) fn check_file(
    path: &Path,
    allows_links: bool,
    limits: &SandboxLimits,
) -> Result<std::fs::Metadata, FileCheckError> {
    // The error of `fs_err` would name the path again.
    let metadata = std::fs::metadata(path).map_err(FileCheckError::Io)?;
    if !metadata.is_file() {
        return Err(LoadError::NotRegular.into());
    }
    if !allows_links && links_outside_folder(path) {
        return Err(LoadError::LinkOutsideFolder.into());
    }
    if metadata.len() > limits.file_bytes {
        return Err(LoadError::TooLarge {
            bytes: metadata.len(),
            limit: limits.file_bytes,
        }
        .into());
    }
    Ok(metadata)
}

/// An error of [`check_file`].
pub(super) enum FileCheckError {
    Io(std::io::Error),
    Load(LoadError),
}

impl From<LoadError> for FileCheckError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// Returns true if the canonical path is not below the canonical parent folder, or if
/// either cannot be determined.
fn links_outside_folder(path: &Path) -> bool {
    match (
        fs::canonicalize(parent_folder(path)),
        fs::canonicalize(path),
    ) {
        (Ok(folder), Ok(target)) => !target.starts_with(folder),
        _ => true,
    }
}

/// Returns the folder of a file: the current folder for a bare file name.
pub(super) fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Checks that a path relative to the packs folder is one of a pack of this name: `NAME.wasm`,
/// `NAME.EXTENSION`, `NAME` or `NAME/FILE`.
pub(super) fn check_path(pack: &str, path: &str) -> Result<(), &'static str> {
    const FORMS: &str = "its path is not of the form NAME, NAME.EXTENSION or NAME/FILE";
    let rest = path.strip_prefix(pack).ok_or(FORMS)?;
    if rest.is_empty() {
        return Ok(());
    }
    let (name, is_beside) = match (rest.strip_prefix('.'), rest.strip_prefix('/')) {
        (Some(extension), _) => (extension, true),
        (_, Some(name)) => (name, false),
        (None, None) => return Err(FORMS),
    };
    // These names mean something else on some system.
    let is_special = |c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c);
    if name.is_empty() || name.starts_with('.') || name.contains(is_special) {
        return Err("its name has characters that are not allowed");
    }
    // A file `NAME.b.toml` belongs to the pack `NAME.b`.
    if is_beside && name.contains('.') {
        return Err(FORMS);
    }
    let is_code = ["wasm", "cwasm"]
        .iter()
        .any(|code| name.rsplit('.').next() == Some(code));
    match is_code && (!is_beside || name == "cwasm") {
        true => Err("a pack has one component only"),
        false => Ok(()),
    }
}

/// The sidecar files of a pack, which are passed to every call.
#[derive(Clone, Debug, Default)]
pub(super) struct SidecarFiles {
    pub(super) files: Vec<TextFile>,
    /// The path of each file relative to the packs folder, with `/` after a folder.
    pub(super) paths: Vec<String>,
    /// Warnings about files that are not passed to the pack.
    pub(super) skipped: Vec<String>,
}

/// Reads the files that have the pack's file stem, such as `adam.toml`, and all files in
/// the folder of that name, such as `adam/`. Skips files that are not regular, not UTF-8
/// or, unless `allows_links`, linked from outside the packs folder.
pub(super) fn read_sidecar_files(wasm: &Path, allows_links: bool) -> SidecarFiles {
    let mut sidecar_files = SidecarFiles::default();
    let Some(stem) = wasm.file_stem() else {
        return sidecar_files;
    };
    let folder = parent_folder(wasm);
    let Ok(canonical_folder) = fs::canonicalize(folder) else {
        return sidecar_files;
    };
    let is_code = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "wasm" || extension == "cwasm")
    };
    let sorted_paths = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths
    };
    let mut paths = sorted_paths(folder);
    paths.retain(|path| path.file_stem() == Some(stem) && !is_code(path));
    paths.extend(sorted_paths(&folder.join(stem)));
    // Hidden files are those of other programs, such as `.DS_Store`.
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b".") || name == LOCK_FILE)
    };
    paths.retain(|path| !is_hidden(path));
    let mut total_bytes = 0;
    for path in paths {
        let mut skip = |reason: &str| {
            sidecar_files.skipped.push(format!(
                "`{}` is not passed to the pack: {reason}",
                path.display()
            ));
        };
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        let is_inside =
            || fs::canonicalize(&path).is_ok_and(|target| target.starts_with(&canonical_folder));
        if !allows_links && !is_inside() {
            skip("a symbolic link points outside the packs folder");
            continue;
        }
        if total_bytes + metadata.len() > SIDECAR_BYTES_MAX {
            skip("the files of a pack exceed 16 MiB together");
            continue;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            skip("its name is not UTF-8");
            continue;
        };
        let stem = stem.to_string_lossy();
        let relative_path = match path.parent() == Some(folder) {
            true => name.to_owned(),
            false => format!("{stem}/{name}"),
        };
        if let Err(reason) = check_path(&stem, &relative_path) {
            skip(reason);
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => {
                total_bytes += metadata.len();
                let display_path = path.display().to_string();
                sidecar_files.paths.push(relative_path);
                sidecar_files.files.push(TextFile {
                    name: name.to_owned(),
                    display_path,
                    text: text.into(),
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => skip("not UTF-8"),
            Err(error) => skip(&error.to_string()),
        }
    }
    sidecar_files
}
