//! The address of a pack.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use reqwest::Url;

use crate::error::Error;
use crate::registry::OciReference;

/// The scheme of an OCI reference.
const OCI_SCHEME: &str = "oci://";

/// The address that a pack is added from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// A file on a web server.
    Url(Url),
    /// An artifact in an OCI registry.
    Oci(OciReference),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::InvalidSource {
            address: without_password(text),
            reason: reason.to_owned(),
        };
        if let Some(reference) = text.strip_prefix(OCI_SCHEME) {
            return reference.parse().map(Self::Oci);
        }
        match text.split_once("://") {
            None => Ok(Self::Path(text.into())),
            Some(("http" | "https", _)) => {
                let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
                if url.password().is_some() || !url.username().is_empty() {
                    return Err(invalid("packs.lock would hold the password in the URL"));
                }
                Ok(Self::Url(url))
            }
            Some(_) => Err(invalid("the schemes are https://, http:// and oci://")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{url}"),
            Self::Oci(reference) => write!(f, "{OCI_SCHEME}{reference}"),
        }
    }
}

impl Source {
    /// Returns the text for the lock file of a packs folder. A path inside the folder that holds
    /// the packs folder, such as that of a project, becomes relative to the packs folder, so that
    /// it is the same on other machines. Other paths become absolute. `None` for a file in the
    /// packs folder itself, and for a path that is not UTF-8.
    #[must_use]
    pub fn in_lock_file(&self, packs_folder: &Path) -> Option<String> {
        let Self::Path(path) = self else {
            return Some(self.to_string());
        };
        if self.is_in(packs_folder) {
            return None;
        }
        let path = fs_err::canonicalize(path).ok()?;
        let packs_folder = fs_err::canonicalize(packs_folder).ok()?;
        let relative = packs_folder
            .parent()
            .filter(|project| project.parent().is_some())
            .and_then(|project| path.strip_prefix(project).ok());
        let Some(relative) = relative else {
            return path.to_str().map(str::to_owned);
        };
        let names: Option<Vec<&str>> = std::iter::once(Some(".."))
            .chain(relative.components().map(|part| part.as_os_str().to_str()))
            .collect();
        Some(names?.join("/"))
    }

    /// Returns true for the main file of the pack of this name in a folder.
    pub(crate) fn is_pack_in(&self, folder: &Path, name: &str) -> bool {
        let Self::Path(path) = self else {
            return false;
        };
        let has_name = path.file_stem().is_some_and(|stem| stem == name);
        has_name && self.is_in(folder)
    }

    /// Returns true for a file in this folder.
    fn is_in(&self, folder: &Path) -> bool {
        let Self::Path(path) = self else {
            return false;
        };
        match (fs_err::canonicalize(path), fs_err::canonicalize(folder)) {
            (Ok(path), Ok(folder)) => path.parent() == Some(&folder),
            _ => false,
        }
    }

    /// Returns the source that a lock file of a packs folder names.
    ///
    /// # Errors
    /// Returns an error if the text is not a valid source.
    pub fn of_lock_file(text: &str, packs_folder: &Path) -> Result<Self, Error> {
        Ok(match text.parse()? {
            Self::Path(path) if packs_folder.is_symlink() => {
                let packs_folder = fs_err::canonicalize(packs_folder);
                Self::Path(packs_folder.unwrap_or_default().join(path))
            }
            Self::Path(path) => Self::Path(packs_folder.join(path).components().fold(
                PathBuf::new(),
                |mut joined, part| {
                    // `packs/../dist` is shown as `dist`.
                    let is_up = part == Component::ParentDir
                        && matches!(joined.components().next_back(), Some(Component::Normal(_)));
                    if is_up {
                        joined.pop();
                    } else {
                        joined.push(part);
                    }
                    joined
                },
            )),
            other => other,
        })
    }
}

/// Returns an address for a message.
fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://****@{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_paths_urls_and_references() {
        for (text, expected) in [
            ("adam.wasm", Ok("adam.wasm")),
            ("packs", Ok("packs")),
            ("C:\\packs\\adam.wasm", Ok("C:\\packs\\adam.wasm")),
            (
                "https://example.org/a%20b/adam.wasm",
                Ok("https://example.org/a%20b/adam.wasm"),
            ),
            (
                "oci://localhost:5000/adam:1",
                Ok("oci://localhost:5000/adam:1"),
            ),
            (
                "oci://ghcr.io/acme/adam",
                Ok("oci://ghcr.io/acme/adam:latest"),
            ),
            (
                "oci://adam",
                Err("invalid reference `adam`: it has no registry, as in `ghcr.io/OWNER/NAME:TAG`"),
            ),
            (
                "ftp://example.org/adam.wasm",
                Err(
                    "invalid source `ftp://example.org/adam.wasm`: the schemes are https://, http:// and oci://",
                ),
            ),
            (
                "https://me:secret@example.org/adam.wasm",
                Err(
                    "invalid source `https://****@example.org/adam.wasm`: packs.lock would hold the password in the URL",
                ),
            ),
        ] {
            let source = text.parse::<Source>();
            let shown = source
                .map(|source| source.to_string())
                .map_err(|error| error.to_string());
            assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn a_path_in_the_project_is_relative_in_the_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("project/packs");
        let dist = folder.path().join("project/dist");
        let elsewhere = folder.path().join("elsewhere");
        for folder in [&packs, &dist, &elsewhere] {
            fs_err::create_dir_all(folder).unwrap();
        }
        let in_lock_file = |folder: &Path| {
            let path = folder.join("adam.wasm");
            fs_err::write(&path, "").unwrap();
            let Some(text) = Source::Path(path.clone()).in_lock_file(&packs) else {
                return String::new();
            };
            let back = Source::of_lock_file(&text, &packs).unwrap();
            let Source::Path(back) = back else {
                panic!("{back}");
            };
            assert_eq!(
                fs_err::canonicalize(back).unwrap(),
                fs_err::canonicalize(path).unwrap()
            );
            text
        };
        assert_eq!(in_lock_file(&dist), "../dist/adam.wasm");
        assert_eq!(in_lock_file(&packs), "");
        assert!(Path::new(&in_lock_file(&elsewhere)).is_absolute());
        let shown = Source::of_lock_file("../dist/adam.wasm", Path::new("packs")).unwrap();
        assert_eq!(shown.to_string(), "dist/adam.wasm");
    }
}
