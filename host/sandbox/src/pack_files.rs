//! The files of a pack as they are copied and compared: the component, and the files beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::cache::sha256;
use super::discovery::{self, FileCheckError, FoundPack};
use super::error::Error;
use super::limits::SandboxLimits;
use super::loaded::Pack;
use super::{STANDARD_PACK, STANDARD_WASM, STOCK_PROMPTS};

/// A file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFile {
    /// The path relative to the packs folder, with `/` between folder and file: `NAME.wasm`,
    /// `NAME.EXTENSION`, `NAME` or `NAME/FILE`.
    pub path: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// All files of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFiles {
    /// Name of the pack.
    pub name: String,
    /// The files, sorted by path. One of them is `NAME.wasm` or `NAME.toml`.
    pub files: Vec<PackFile>,
}

impl PackFiles {
    /// Creates the files of a pack.
    ///
    /// # Errors
    /// Returns an error unless the name is valid, one of the files is `NAME.wasm` or
    /// `NAME.toml`, and all other paths are of the forms that a pack can have, each once.
    pub fn new(name: &str, mut files: Vec<PackFile>) -> Result<Self, Error> {
        discovery::check_new_name(name)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let invalid = |path: &str, reason: &'static str| {
            Err(Error::InvalidPackFile {
                pack: name.to_owned(),
                path: path.to_owned(),
                reason,
            })
        };
        for file in &files {
            if let Err(reason) = discovery::check_path(name, &file.path) {
                return invalid(&file.path, reason);
            }
        }
        // Some file systems ignore case.
        let mut folded: Vec<String> = files.iter().map(|file| file.path.to_lowercase()).collect();
        folded.sort();
        if let Some(twice) = folded.windows(2).find(|pair| pair.first() == pair.last()) {
            let path = twice.first().map(String::as_str).unwrap_or_default();
            return invalid(path, "two files have this path");
        }
        let pack = Self {
            name: name.to_owned(),
            files,
        };
        match pack.main_file() {
            Some(_) => Ok(pack),
            None => invalid(
                &format!("{name}.wasm` or `{name}.toml"),
                "the file is missing",
            ),
        }
    }

    /// Reads the files of a pack: those that are passed to it, and the component. Also returns
    /// a warning for each file beside it that is not passed.
    ///
    /// # Errors
    /// Returns an error if the pack file cannot be read, is not a regular file, is too large or
    /// links to a file outside the folder.
    pub fn read(pack: &FoundPack, limits: &SandboxLimits) -> Result<(Self, Vec<String>), Error> {
        Self::read_with(pack, pack.allows_links, limits)
    }

    /// Reads the files of a pack at any location; see [`FoundPack::of_file`].
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does, and if the file stem is not a valid pack name.
    pub fn read_file(path: &Path, limits: &SandboxLimits) -> Result<(Self, Vec<String>), Error> {
        Self::read_with(&FoundPack::of_file(path)?, true, limits)
    }

    /// Reads the files of a pack at any location, whose name may be no pack name, as a pack of
    /// another name.
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does, and if the name is not a valid pack name.
    pub fn read_file_as(
        name: &str,
        path: &Path,
        limits: &SandboxLimits,
    ) -> Result<(Self, Vec<String>), Error> {
        discovery::check_new_name(name)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let pack = FoundPack {
            name: stem.into_owned(),
            path: path.to_owned(),
            allows_links: false,
            shadowed: Vec::new(),
        };
        let (files, skipped) = Self::read_unchecked(&pack, true, limits)?;
        let unchecked = Self {
            name: pack.name,
            files,
        };
        Ok((unchecked.renamed(name)?, skipped))
    }

    /// Reads the files of a pack. `may_be_link` is for the pack file alone.
    pub(super) fn read_with(
        pack: &FoundPack,
        may_be_link: bool,
        limits: &SandboxLimits,
    ) -> Result<(Self, Vec<String>), Error> {
        let (files, skipped) = Self::read_unchecked(pack, may_be_link, limits)?;
        Ok((Self::new(&pack.name, files)?, skipped))
    }

    fn read_unchecked(
        pack: &FoundPack,
        may_be_link: bool,
        limits: &SandboxLimits,
    ) -> Result<(Vec<PackFile>, Vec<String>), Error> {
        let read_error = |source| Error::Read {
            path: pack.path.clone(),
            source,
        };
        discovery::check_file(&pack.path, may_be_link, limits).map_err(|error| match error {
            FileCheckError::Io(source) => read_error(source),
            FileCheckError::Load(cause) => Error::Load {
                pack: pack.name.clone(),
                path: Some(pack.path.clone()),
                cause,
            },
        })?;
        let mut files = Vec::new();
        if !discovery::is_prompt_file(&pack.path) {
            files.push(PackFile {
                path: format!("{}.wasm", pack.name),
                bytes: fs::read(&pack.path).map_err(read_error)?,
            });
        }
        let sidecar = discovery::read_sidecar_files(&pack.path, pack.allows_links);
        let texts = sidecar.files.iter().map(|file| &file.text);
        let sidecar_files = sidecar.paths.iter().zip(texts);
        files.extend(sidecar_files.map(|(path, text)| PackFile {
            path: path.clone(),
            bytes: text.as_bytes().to_vec(),
        }));
        let main_path = format!("{}.toml", pack.name);
        let has_main = |file: &PackFile| file.path == main_path || file.path.ends_with(".wasm");
        if !files.iter().any(has_main) {
            return Err(Error::InvalidPackFile {
                pack: pack.name.clone(),
                path: pack.path.display().to_string(),
                reason: "a prompt file is UTF-8 text of at most 16 MiB, and no link to another folder",
            });
        }
        Ok((files, sidecar.skipped))
    }

    /// Returns the file that makes these files a pack: the component or, without one, the prompt
    /// file.
    #[must_use]
    pub fn main_file(&self) -> Option<&PackFile> {
        let find = |extension: &str| {
            let path = format!("{}.{extension}", self.name);
            self.files.iter().find(|file| file.path == path)
        };
        find("wasm").or_else(|| find("toml"))
    }

    /// Returns the digests of the files.
    #[must_use]
    pub fn digests(&self) -> PackDigests {
        let files = self.files.iter();
        PackDigests(
            files
                .map(|file| (file.path.clone(), Digest(sha256(&file.bytes))))
                .collect(),
        )
    }

    /// Returns the same files as a pack of another name.
    ///
    /// # Errors
    /// Returns an error if the name is invalid.
    pub fn renamed(self, name: &str) -> Result<Self, Error> {
        let rename = |file: PackFile| PackFile {
            path: match file.path.strip_prefix(&self.name) {
                Some(rest) => format!("{name}{rest}"),
                None => file.path,
            },
            bytes: file.bytes,
        };
        Self::new(name, self.files.into_iter().map(rename).collect())
    }
}

/// A SHA-256 digest, displayed as `sha256:` with 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(String);

impl Digest {
    /// Returns the 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Returns the digest of a content.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }
}

impl FromStr for Digest {
    type Err = String;

    /// Parses `sha256:HEX` or the hex digits alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(hex.to_ascii_lowercase()))
        } else {
            Err(format!("`{text}` is not `sha256:` and 64 hex digits"))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The digests of the files of a pack, by [`PackFile::path`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackDigests(pub BTreeMap<String, Digest>);

impl PackDigests {
    /// Returns the digest of the pack: that of its file or, if it has several, that of the list
    /// of their digests, as `sha256sum` prints it for the files in the order of their paths.
    #[must_use]
    pub fn of_pack(&self) -> Digest {
        if let (1, Some(only)) = (self.0.len(), self.0.values().next()) {
            return only.clone();
        }
        let lines = self.0.iter();
        let list: String = lines
            .map(|(path, digest)| format!("{}  {path}\n", digest.hex()))
            .collect();
        Digest::of(list.as_bytes())
    }
}

impl Pack {
    /// Returns the digests of the files that this pack was loaded from. Those of the standard
    /// pack include the built-in prompts.
    #[must_use]
    pub fn digests(&self) -> PackDigests {
        let Some(path) = self.path() else {
            return standard_digests();
        };
        let mut digests = BTreeMap::new();
        if !self.is_prompt_file() {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            digests.insert(format!("{name}.wasm"), Digest(self.digest().to_owned()));
        }
        let sidecar = &self.sidecar_files;
        for (path, file) in sidecar.paths.iter().zip(&sidecar.files) {
            digests.insert(path.clone(), Digest::of(file.text.as_bytes()));
        }
        PackDigests(digests)
    }

    /// Returns true for a prompt file, which the standard pack resolves.
    pub(super) fn is_prompt_file(&self) -> bool {
        self.path()
            .is_some_and(|path| discovery::is_prompt_file(path))
    }
}

/// Returns the digests of the standard pack and the built-in prompts.
pub(super) fn standard_digests() -> PackDigests {
    let files = [
        (format!("{STANDARD_PACK}.wasm"), STANDARD_WASM),
        ("stock.toml".to_owned(), STOCK_PROMPTS.as_bytes()),
    ];
    PackDigests(files.map(|(path, bytes)| (path, Digest::of(bytes))).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> PackFile {
        PackFile {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn paths_are_those_that_a_folder_passes_to_its_pack() {
        for (path, is_valid) in [
            ("my.pack.toml", true),
            ("my.pack", true),
            ("my.pack/a.csv", true),
            ("my.pack/ä b.csv", true),
            ("my.pack/", false),
            ("my.pack/a/b.csv", false),
            ("my.pack/..", false),
            ("my.pack/.hidden", false),
            ("my.pack/../x", false),
            ("my.pack\\x", false),
            ("my.pack/a\\b", false),
            ("my.pack/a:b", false),
            ("my.pack/a\nb", false),
            ("my.pack.v2.toml", false),
            ("my.pack.cwasm", false),
            ("my.pack/x.wasm", false),
            ("my.packs.toml", false),
            ("other.toml", false),
            ("/etc/passwd", false),
            ("", false),
        ] {
            let files = vec![file("my.pack.wasm", ""), file(path, "")];
            assert_eq!(PackFiles::new("my.pack", files).is_ok(), is_valid, "{path}");
        }
    }

    #[test]
    fn files_are_a_pack_with_one_main_file_and_distinct_paths() {
        for (name, paths, expected) in [
            ("a", &["a.wasm"][..], None),
            ("a", &["a.toml", "a/b"], None),
            (
                "a",
                &["a.csv"],
                Some("invalid pack `a`: `a.wasm` or `a.toml`: the file is missing"),
            ),
            (
                "a",
                &["a.wasm", "a/B", "a/b"],
                Some("invalid pack `a`: `a/b`: two files have this path"),
            ),
            (
                "A",
                &["A.wasm"],
                Some("invalid pack name `A`: only a-z, 0-9, `.`, `_` and `-` are allowed"),
            ),
            (
                "stock",
                &["stock.toml"],
                Some(
                    "invalid pack name `stock`: the name is reserved for the built-in pack; choose another one",
                ),
            ),
        ] {
            let files = paths.iter().map(|path| file(path, "")).collect();
            let error = PackFiles::new(name, files)
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        }
    }

    #[test]
    fn a_renamed_pack_has_renamed_files() {
        let pack = PackFiles::new("a", vec![file("a.toml", ""), file("a/a.csv", "")]).unwrap();
        let renamed = pack.clone().renamed("a.b").unwrap();
        let paths: Vec<&str> = renamed
            .files
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(paths, ["a.b.toml", "a.b/a.csv"]);
        assert_ne!(pack.digests(), renamed.digests());
        pack.renamed("standard").unwrap_err();
    }

    #[test]
    fn digests_are_written_with_their_algorithm_and_read_without() {
        let digest = Digest::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), format!("sha256:{hex}"));
        for text in [hex.to_owned(), hex.to_uppercase(), format!("sha256:{hex}")] {
            assert_eq!(text.parse::<Digest>().unwrap(), digest);
        }
        for text in [
            "",
            "sha256:",
            &hex[1..],
            "sha512:00",
            &format!("{hex}0"),
            "ü",
        ] {
            text.parse::<Digest>().unwrap_err();
        }
    }
}
