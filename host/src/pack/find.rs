//! Finding packs: which folders, which names, which files, and nothing that
//! leads out of them.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::contract::TextFile;
use super::error::{Error, LoadError};
use super::limits::Limits;

/// Names that never come from a folder: the pack in this program, and its
/// prompts.
pub const RESERVED: [&str; 2] = ["standard", "stock"];
/// The longest name, in bytes.
const NAME_BYTES: usize = 64;
/// All files that lie beside a pack, together.
const BESIDE_BYTES: u64 = 16 << 20;

/// Where packs are looked for, the nearest first.
#[derive(Clone, Debug, Default)]
pub struct Folders(pub Vec<PathBuf>);

/// A pack's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Files of the same name, farther away, which are not used.
    pub hidden: Vec<PathBuf>,
}

/// Checks a pack's name.
///
/// # Errors
/// The name is empty, too long, or has other characters than `a-z0-9._-`.
pub fn check_name(name: &str) -> Result<(), Error> {
    let bad = |why| {
        Err(Error::BadName {
            name: name.to_owned(),
            why,
        })
    };
    if name.is_empty() || name.len() > NAME_BYTES {
        return bad("it must have 1 to 64 characters");
    }
    if name.starts_with('.') {
        return bad("it must not start with a dot");
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.chars().all(fits) {
        return bad("only a-z, 0-9, `.`, `_` and `-` are allowed");
    }
    Ok(())
}

impl Folders {
    /// All packs in all folders, by name. Folders that do not exist are empty.
    #[must_use]
    pub fn list(&self) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for folder in &self.0 {
            let mut here: Vec<PathBuf> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|it| it == "wasm"))
                .collect();
            here.sort();
            for path in here {
                let Some(name) = path.file_stem().and_then(|it| it.to_str()) else {
                    continue;
                };
                if check_name(name).is_err() || RESERVED.contains(&name) {
                    tracing::debug!(?path, "not a name that a pack can have");
                    continue;
                }
                match all.iter_mut().find(|found| found.name == name) {
                    Some(nearer) => nearer.hidden.push(path),
                    None => all.push(Found {
                        name: name.to_owned(),
                        path,
                        hidden: Vec::new(),
                    }),
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The nearest pack of that name.
    ///
    /// # Errors
    /// The name is not one, or no folder has it.
    pub fn find(&self, name: &str) -> Result<Found, Error> {
        check_name(name)?;
        let mut hits = self
            .0
            .iter()
            .map(|folder| folder.join(format!("{name}.wasm")));
        let nearest = hits.find(|path| path.symlink_metadata().is_ok());
        let Some(path) = nearest else {
            let names: Vec<String> = self.list().into_iter().map(|found| found.name).collect();
            return Err(Error::NotFound {
                name: name.to_owned(),
                searched: self.0.clone(),
                close: crate::suggest::closest(name, names.iter().map(String::as_str)),
            });
        };
        let hidden = hits
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        Ok(Found {
            name: name.to_owned(),
            path,
            hidden,
        })
    }
}

/// Checks that `path` is a regular file, not too large, and, when it was found
/// in a folder, that no link leads out of that folder.
pub(super) fn check_file(
    path: &Path,
    in_folder: bool,
    limits: &Limits,
) -> Result<std::fs::Metadata, CheckError> {
    let metadata = fs::metadata(path).map_err(CheckError::Io)?;
    if !metadata.is_file() {
        return Err(LoadError::NotRegular.into());
    }
    if in_folder && leaves_folder(path) {
        return Err(LoadError::Escapes.into());
    }
    if metadata.len() > limits.file_bytes {
        return Err(LoadError::TooLarge {
            found: metadata.len(),
            most: limits.file_bytes,
        }
        .into());
    }
    Ok(metadata)
}

pub(super) enum CheckError {
    Io(std::io::Error),
    Load(LoadError),
}

impl From<LoadError> for CheckError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

fn leaves_folder(path: &Path) -> bool {
    match (fs::canonicalize(folder_of(path)), fs::canonicalize(path)) {
        (Ok(folder), Ok(real)) => !real.starts_with(folder),
        _ => true,
    }
}

/// The folder that a file lies in; of a bare name it is the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Files that lie beside a pack.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    pub(super) files: Vec<TextFile>,
    /// What the pack is not given, and why, for the user.
    pub(super) left_out: Vec<String>,
}

/// Files with the pack's stem: `adam.toml`, and all files in `adam/`. Only
/// regular UTF-8 files, and nothing that a link brings in from outside.
pub(super) fn beside(wasm: &Path) -> Beside {
    let mut beside = Beside::default();
    let Some(stem) = wasm.file_stem() else {
        return beside;
    };
    let folder = folder_of(wasm);
    let Ok(root) = fs::canonicalize(folder) else {
        return beside;
    };
    let code = |path: &Path| {
        path.extension()
            .is_some_and(|it| it == "wasm" || it == "cwasm")
    };
    let in_folder = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .collect();
        paths.sort();
        paths
    };
    let mut paths = in_folder(folder);
    paths.retain(|path| path.file_stem() == Some(stem) && !code(path));
    paths.extend(in_folder(&folder.join(stem)));
    let mut total = 0;
    for path in paths {
        let mut leave_out = |why: &str| {
            beside.left_out.push(format!(
                "{} is not given to the pack: {why}",
                path.display()
            ));
        };
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        if !fs::canonicalize(&path).is_ok_and(|real| real.starts_with(&root)) {
            leave_out("a link leads out of the packs folder");
            continue;
        }
        if total + metadata.len() > BESIDE_BYTES {
            leave_out("the files beside a pack may have 16 MiB together");
            continue;
        }
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else {
            continue;
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                total += metadata.len();
                let shown = path.display().to_string();
                beside.files.push(TextFile {
                    name: name.to_owned(),
                    shown,
                    text,
                });
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => leave_out("it is not UTF-8"),
            Err(e) => leave_out(&e.to_string()),
        }
    }
    beside
}
