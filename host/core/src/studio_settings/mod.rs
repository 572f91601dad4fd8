//! LM Studio's settings for each model: writes tested contexts to them and changes
//! nothing else.
//!
//! The settings of the model `models/PATH` in LM Studio's folder are in
//! `.internal/user-concrete-model-default-config/PATH.json`. `plan` computes the
//! changes; `disk` writes them and can undo them. This module depends on no other one.

mod disk;
mod plan;

use std::path::{Component, Path, PathBuf};

use fs_err as fs;

pub use disk::{Error, apply_changes, preview_undo, undo_last};
pub use plan::{SkipReason, WriteOptions, plan_change};

/// The folder of the settings, relative to LM Studio's folder.
const SETTINGS_DIR: &str = ".internal/user-concrete-model-default-config";

/// Returns LM Studio's folder for a user's home folder: the one that LM Studio's pointer
/// file names, else the first existing one of the locations that its versions have used.
pub fn find_lm_studio_dir(home: &Path) -> Option<PathBuf> {
    let pointed = fs::read_to_string(home.join(".lmstudio-home-pointer"))
        .ok()
        .and_then(|text| text.lines().next().map(|line| PathBuf::from(line.trim())))
        .filter(|path| path.is_absolute());
    let usual = [
        home.join(".lmstudio"),
        home.join(".cache/lm-studio"),
        PathBuf::from("/Users/Shared/lmstudio"),
        home.join("Library/Application Support/LM Studio"),
    ];
    pointed
        .into_iter()
        .chain(usual)
        .find(|path| path.join("models").is_dir() || path.join(".internal").is_dir())
}

/// Returns `path` relative to `folder`, with slashes, as LM Studio names models. Returns
/// `None` if it is not below the folder or not UTF-8.
pub fn relative_model_path(folder: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(folder).ok()?;
    let parts: Option<Vec<&str>> = relative
        .components()
        .map(|component| match component {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    parts
        .filter(|parts| !parts.is_empty())
        .map(|parts| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_by_the_pointer_or_in_a_usual_location() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert_eq!(find_lm_studio_dir(home), None);
        fs::create_dir_all(home.join(".cache/lm-studio/models")).unwrap();
        assert_eq!(
            find_lm_studio_dir(home),
            Some(home.join(".cache/lm-studio"))
        );
        fs::create_dir_all(home.join(".lmstudio/.internal")).unwrap();
        assert_eq!(find_lm_studio_dir(home), Some(home.join(".lmstudio")));
        let elsewhere = home.join("big disk");
        let pointer = home.join(".lmstudio-home-pointer");
        fs::write(&pointer, format!("{}\n", elsewhere.display())).unwrap();
        // A pointer to a missing folder is ignored.
        assert_eq!(find_lm_studio_dir(home), Some(home.join(".lmstudio")));
        fs::create_dir_all(elsewhere.join("models")).unwrap();
        assert_eq!(find_lm_studio_dir(home), Some(elsewhere));
    }

    #[test]
    fn names_are_paths_relative_to_the_folder() {
        let folder = Path::new("/lms/models");
        for (path, expected) in [
            ("/lms/models/pub/repo/x.gguf", Some("pub/repo/x.gguf")),
            ("/lms/models/../x.gguf", None),
            ("/lms/models", None),
            ("/other/x.gguf", None),
        ] {
            assert_eq!(
                relative_model_path(folder, Path::new(path)).as_deref(),
                expected,
                "{path}"
            );
        }
    }
}
