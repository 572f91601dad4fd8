//! GGUF files by name: in the models folder of this program, and in the folders of LM Studio
//! and Ollama.

mod ollama;

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{DEMO, Error};
use crate::suggest::similar_names;

/// The folders that hold model files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFolders {
    /// The models folder of this program, with files `NAME.gguf`.
    pub own: PathBuf,
    /// LM Studio's models folder, with files `PUBLISHER/REPOSITORY/NAME.gguf`.
    pub lm_studio: Option<PathBuf>,
    /// Ollama's models folder, with manifests and blobs.
    pub ollama: Option<PathBuf>,
}

/// A model file with the names that select it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// The file's stem in the models folder, its path in LM Studio's folder, or Ollama's
    /// `NAME:TAG`.
    pub(super) name: String,
    /// Other names of exactly this file.
    pub(super) aliases: Vec<String>,
    pub(super) path: PathBuf,
}

/// Maximum depth of LM Studio's models folder, which is publisher, repository, file.
const LM_STUDIO_DEPTH: usize = 4;

impl ModelFolders {
    /// Returns the path of the file that `model` names.
    ///
    /// # Errors
    /// See [`Self::find_named`].
    pub(super) fn find(&self, model: &str) -> Result<PathBuf, Error> {
        Ok(self.find_named(model)?.path)
    }

    /// Returns the file that `model` names: the path of a GGUF file, or a name of one of
    /// [`Self::named_files`]. A file outside of these folders has its absolute path as name.
    ///
    /// # Errors
    /// Returns an error if no file has the name. A path is returned even if it does not exist.
    pub(super) fn find_named(&self, model: &str) -> Result<NamedFile, Error> {
        let of_path = |path: PathBuf| {
            let path = std::path::absolute(&path).unwrap_or(path);
            NamedFile {
                name: path.display().to_string(),
                aliases: Vec::new(),
                path,
            }
        };
        let files = self.named_files();
        if let Some(path) = self.find_own(model) {
            let file = of_path(path);
            let known = files.into_iter().find(|known| known.path == file.path);
            return Ok(known.unwrap_or(file));
        }
        if let Some(file) = files.iter().find(|file| file.is_named(model)) {
            return Ok(file.clone());
        }
        if is_path(model) {
            return Ok(of_path(PathBuf::from(model)));
        }
        let mut names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        names.push(DEMO);
        names.retain(|name| *name != model);
        names.sort_unstable();
        Err(Error::UnknownModel {
            name: model.to_owned(),
            similar: similar_names(model, names.iter().copied()),
            models_dir: self.own.clone(),
        })
    }

    /// Returns the path of an existing GGUF file, or of a file in the models folder of this
    /// program.
    pub(super) fn find_own(&self, model: &str) -> Option<PathBuf> {
        if is_path(model) && Path::new(model).exists() {
            return Some(PathBuf::from(model));
        }
        // Only exact names match: a part of a name must not load another model.
        let files = self.own_files();
        let in_folder = |file: &&NamedFile| {
            file.name == model || file.path.file_name().is_some_and(|name| name == model)
        };
        files.iter().find(in_folder).map(|file| file.path.clone())
    }

    /// Returns the names of the files of all folders.
    pub(super) fn names(&self) -> Vec<String> {
        let files = self.named_files().into_iter();
        files.map(|file| file.name).collect()
    }

    /// Returns the files of all folders.
    pub(super) fn named_files(&self) -> Vec<NamedFile> {
        let mut files = self.own_files();
        files.extend(self.lm_studio_files());
        files.extend(self.ollama.iter().flat_map(|folder| ollama::files(folder)));
        files
    }

    /// Returns the files in the models folder of this program.
    pub(super) fn own_files(&self) -> Vec<NamedFile> {
        let (paths, _) = gguf_files(&self.own, 1);
        let named = paths.into_iter().filter_map(|path| {
            Some(NamedFile {
                name: path.file_stem()?.to_str()?.to_owned(),
                aliases: Vec::new(),
                path,
            })
        });
        named.collect()
    }

    fn lm_studio_files(&self) -> Vec<NamedFile> {
        let Some(folder) = &self.lm_studio else {
            return Vec::new();
        };
        let (paths, _) = gguf_files(folder, LM_STUDIO_DEPTH);
        let models = paths.into_iter().filter(|path| is_first_model_file(path));
        let named = models.filter_map(|path| {
            let relative = path.strip_prefix(folder).ok()?.to_str()?;
            let stem = path.file_stem()?.to_str()?;
            Some(NamedFile {
                name: path.to_str()?.to_owned(),
                aliases: vec![relative.replace('\\', "/"), stem.to_owned()],
                path,
            })
        });
        named.collect()
    }
}

impl NamedFile {
    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// Returns the GGUF files in LM Studio's models folder, and `true` if all of its folders could
/// be read.
#[must_use]
pub fn lm_studio_model_files(folder: &Path) -> (Vec<PathBuf>, bool) {
    gguf_files(folder, LM_STUDIO_DEPTH)
}

/// Returns all GGUF files in `folder`, down to `depth` levels, and `true` if all folders could
/// be read.
fn gguf_files(folder: &Path, depth: usize) -> (Vec<PathBuf>, bool) {
    let Some(depth) = depth.checked_sub(1) else {
        return (Vec::new(), true);
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return (Vec::new(), false);
    };
    let mut is_complete = true;
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(_) => is_complete = false,
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let (below, is_below_complete) = gguf_files(&path, depth);
            files.extend(below);
            is_complete &= is_below_complete;
        } else if is_gguf(&path) {
            files.push(path);
        }
    }
    (files, is_complete)
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Returns `false` for a file that belongs to another one: an image encoder (`mmproj-…`), or
/// a further part of a model in several files (`…-00002-of-00003.gguf`).
fn is_first_model_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.to_lowercase();
    let part = stem
        .rsplit_once("-of-")
        .and_then(|(before, _)| before.rsplit_once('-')?.1.parse::<u32>().ok());
    !stem.starts_with("mmproj") && part.is_none_or(|part| part <= 1)
}

/// Returns whether a model name is the path of a GGUF file.
pub(super) fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    is_gguf(path) || path.is_absolute() || model.starts_with("./") || model.starts_with("../")
}

/// Returns the name of a model to show: of a path of a GGUF file, which llama-server uses as
/// the name of its model, the file name.
#[must_use]
pub fn display_model(id: &str) -> &str {
    let file_name = id.rsplit(['/', '\\']).next().unwrap_or(id);
    match is_gguf(Path::new(file_name)) {
        true => file_name,
        false => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_named_by_a_path_is_shown_by_its_file_name() {
        for (id, shown) in [
            ("/home/u/models/smol-q4.gguf", "smol-q4.gguf"),
            (r"C:\models\Smol.GGUF", "Smol.GGUF"),
            ("smol.gguf", "smol.gguf"),
            ("qwen/qwen3-4b", "qwen/qwen3-4b"),
            ("llama3.2:3b", "llama3.2:3b"),
        ] {
            assert_eq!(display_model(id), shown);
        }
    }

    fn write(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn files_are_found_in_the_folders_of_three_programs() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        let digest = "0123456789abcdef".repeat(4);
        let manifest = format!(
            r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:0"}},
                {{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{digest}"}}]}}"#
        );
        for (path, content) in [
            ("own/a.gguf", ""),
            ("own/notes.txt", ""),
            ("studio/pub/repo/b.Q4_0.gguf", ""),
            ("studio/pub/repo/mmproj-b.gguf", ""),
            ("studio/pub/big/c-00001-of-00002.gguf", ""),
            ("studio/pub/big/c-00002-of-00002.gguf", ""),
            (
                "ollama/manifests/registry.ollama.ai/library/llama3.2/3b",
                &manifest,
            ),
            (
                "ollama/manifests/registry.ollama.ai/library/llama3.2/latest",
                &manifest,
            ),
            (
                "ollama/manifests/registry.ollama.ai/user/x/latest",
                &manifest,
            ),
            ("ollama/manifests/hf.co/o/r-GGUF/Q4_K_M", &manifest),
            (
                "ollama/manifests/registry.ollama.ai/library/bad/1",
                "{\"layers\": [{\"mediaType\": \"application/vnd.ollama.image.model\", \
                 \"digest\": \"sha256:../../secret\"}]}",
            ),
            ("ollama/manifests/registry.ollama.ai/library/bad/2", "{"),
            (
                "ollama/manifests/registry.ollama.ai/library/tuned/1",
                &manifest.replace("image.license", "image.adapter"),
            ),
            (&format!("ollama/blobs/sha256-{digest}"), ""),
        ] {
            write(&at(path), content);
        }
        let folders = ModelFolders {
            own: at("own"),
            lm_studio: Some(at("studio")),
            ollama: Some(at("ollama")),
        };
        let blob = at(&format!("ollama/blobs/sha256-{digest}"));
        for (name, expected) in [
            ("a", Some(at("own/a.gguf"))),
            ("a.gguf", Some(at("own/a.gguf"))),
            ("b.Q4_0", Some(at("studio/pub/repo/b.Q4_0.gguf"))),
            (
                "pub/repo/b.Q4_0.gguf",
                Some(at("studio/pub/repo/b.Q4_0.gguf")),
            ),
            (
                "c-00001-of-00002",
                Some(at("studio/pub/big/c-00001-of-00002.gguf")),
            ),
            ("c-00002-of-00002", None),
            ("mmproj-b", None),
            ("llama3.2:3b", Some(blob.clone())),
            ("llama3.2", Some(blob.clone())),
            ("user/x", Some(blob.clone())),
            ("hf.co/o/r-GGUF:Q4_K_M", Some(blob.clone())),
            ("bad:1", None),
            ("bad:2", None),
            ("tuned:1", None),
            // A path that does not exist is an error of the engine, which names it.
            ("none.gguf", Some(std::path::absolute("none.gguf").unwrap())),
        ] {
            assert_eq!(folders.find(name).ok(), expected, "{name}");
        }
        assert_eq!(folders.find_own("llama3.2:3b"), None);
        // However a file is named, it is the same model.
        for model in [at("own/a.gguf").to_str().unwrap(), "a.gguf", "a"] {
            assert_eq!(folders.find_named(model).unwrap().name, "a");
        }
        let Err(Error::UnknownModel { similar, .. }) = folders.find("lama3.2:3b") else {
            panic!("found")
        };
        assert_eq!(similar.first().map(String::as_str), Some("llama3.2:3b"));
        assert_eq!(folders.named_files().len(), 7);
        assert!(ModelFolders::default().named_files().is_empty());
    }
}
