//! The model files of a repository, and the choice of one. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::HubError;
use super::reference::HubReference;

/// The quantization to use if none is specified.
const DEFAULT_QUANTIZATION: &str = "Q4_K_M";

/// A model file on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteFile {
    pub(super) path: String,
    pub(super) size: u64,
    /// In hex; absent for small files, which are not stored with Git LFS.
    pub(super) sha256: Option<String>,
}

impl RemoteFile {
    /// Returns the file name without folders.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Returns whether `quant` is the file name or one of its parts between `-` and
    /// `.`, ignoring case.
    fn has_quantization(&self, quant: &str) -> bool {
        let name = self.name();
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        name.eq_ignore_ascii_case(quant)
            || stem
                .split(['-', '.'])
                .any(|part| part.eq_ignore_ascii_case(quant))
    }
}

/// Reads an entry of the list of files. Returns `None` unless it is a model in a
/// single GGUF file whose name is safe on every file system.
pub(super) fn remote_model_file(entry: &Value) -> Option<RemoteFile> {
    let path = entry.get("path")?.as_str()?;
    let lfs = entry.get("lfs");
    let size = lfs
        .and_then(|lfs| lfs.get("size")?.as_u64())
        .or_else(|| entry.get("size")?.as_u64())?;
    let sha256 = lfs
        .and_then(|lfs| lfs.get("oid")?.as_str())
        .map(|oid| oid.trim_start_matches("sha256:").to_lowercase())
        .filter(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let remote = RemoteFile {
        path: path.to_owned(),
        size,
        sha256,
    };
    let name = remote.name();
    let is_safe = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..")
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || "-_.+".contains(char))
        && !name.starts_with('.');
    let is_model = name.to_lowercase().ends_with(".gguf")
        && !name.to_lowercase().contains("mmproj")
        && !name.contains("-of-");
    (is_safe && is_model && size > 0).then_some(remote)
}

/// Returns the file that the reference selects.
///
/// # Errors
/// Returns an error if no file or more than one matches.
pub(super) fn select_file<'a>(
    reference: &HubReference,
    files: &'a [RemoteFile],
) -> Result<&'a RemoteFile, HubError> {
    let failed = |reason: String| HubError::SelectFile {
        repo: reference.repo.clone(),
        reason,
        candidates: files
            .iter()
            .map(|file| (file.name().to_owned(), file.size))
            .collect(),
    };
    let matching = |quant: &str| -> Vec<&RemoteFile> {
        files
            .iter()
            .filter(|file| file.has_quantization(quant))
            .collect()
    };
    match (&reference.quant, files) {
        (_, []) => Err(failed("no model in a single GGUF file found".to_owned())),
        (Some(quant), _) => match matching(quant).as_slice() {
            [file] => Ok(file),
            [] => Err(failed(format!("no file matches `{quant}`"))),
            _ => Err(failed(format!("more than one file matches `{quant}`"))),
        },
        (None, [file]) => Ok(file),
        (None, _) => match matching(DEFAULT_QUANTIZATION).as_slice() {
            [file] => Ok(file),
            _ => Err(failed("no quantization or file specified".to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantization_matches_a_whole_part_of_a_file_name() {
        let file = |path: &str| {
            remote_model_file(&serde_json::json!({"type": "file", "path": path, "size": 9}))
        };
        for path in [
            "m.bin",
            "../m.gguf",
            "a/../m.gguf",
            ".m.gguf",
            "m-00001-of-00002.gguf",
            "mmproj-m.gguf",
            "m\n.gguf",
            "m\\x.gguf",
        ] {
            assert_eq!(file(path), None, "{path}");
        }
        let files: Vec<RemoteFile> = [
            "m-Q4_K_M.gguf",
            "sub/m-Q4_K.gguf",
            "m.Q8_0.gguf",
            "m-f16.gguf",
        ]
        .iter()
        .map(|path| file(path).unwrap())
        .collect();
        for (quant, expected) in [
            (Some("q4_k"), Some("m-Q4_K.gguf")),
            (Some("Q8_0"), Some("m.Q8_0.gguf")),
            (Some("m-F16.gguf"), Some("m-f16.gguf")),
            (Some("m"), None),
            (Some("Q4"), None),
            (None, Some("m-Q4_K_M.gguf")),
        ] {
            let reference = HubReference {
                repo: "a/b".to_owned(),
                quant: quant.map(str::to_owned),
            };
            let selected = select_file(&reference, &files).ok().map(RemoteFile::name);
            assert_eq!(selected, expected, "{quant:?}");
        }
    }
}
