//! LM Studio's own settings of each model: where they lie, and how a tested
//! context gets into them without anything else being touched.
//!
//! The file of a model is `.internal/user-concrete-model-default-config/` and
//! the model's path below `models/`, with `.json` after it. `plan` says what
//! would change, `disk` changes it and can take it back. This room knows no
//! other.

mod disk;
mod plan;

use std::path::{Component, Path, PathBuf};

use fs_err as fs;

pub(crate) use disk::{Error, apply, undo, would_undo};
pub(crate) use plan::{Limit, Options, Skip, plan};

/// Where the settings lie below LM Studio's folder.
const SETTINGS: &str = ".internal/user-concrete-model-default-config";

/// LM Studio's folder, by the home folder of its user: what its own pointer
/// says, else where it was put over the years.
pub(crate) fn home(user: &Path) -> Option<PathBuf> {
    let pointed = fs::read_to_string(user.join(".lmstudio-home-pointer"))
        .ok()
        .and_then(|it| it.lines().next().map(|it| PathBuf::from(it.trim())))
        .filter(|it| it.is_absolute());
    let usual = [
        user.join(".lmstudio"),
        user.join(".cache/lm-studio"),
        PathBuf::from("/Users/Shared/lmstudio"),
        user.join("Library/Application Support/LM Studio"),
    ];
    pointed
        .into_iter()
        .chain(usual)
        .find(|it| it.join("models").is_dir() || it.join(".internal").is_dir())
}

/// A path below a folder, with slashes, as LM Studio names models.
pub(crate) fn below(folder: &Path, path: &Path) -> Option<String> {
    let rest = path.strip_prefix(folder).ok()?;
    let parts: Option<Vec<&str>> = rest
        .components()
        .map(|it| match it {
            Component::Normal(it) => it.to_str(),
            _ => None,
        })
        .collect();
    parts.filter(|it| !it.is_empty()).map(|it| it.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_where_the_pointer_says_or_where_it_was_put() {
        let user = tempfile::tempdir().unwrap();
        let user = user.path();
        assert_eq!(home(user), None);
        fs::create_dir_all(user.join(".cache/lm-studio/models")).unwrap();
        assert_eq!(home(user), Some(user.join(".cache/lm-studio")));
        fs::create_dir_all(user.join(".lmstudio/.internal")).unwrap();
        assert_eq!(home(user), Some(user.join(".lmstudio")));
        let elsewhere = user.join("big disk");
        let pointer = user.join(".lmstudio-home-pointer");
        fs::write(&pointer, format!("{}\n", elsewhere.display())).unwrap();
        // A pointer to nothing points nowhere.
        assert_eq!(home(user), Some(user.join(".lmstudio")));
        fs::create_dir_all(elsewhere.join("models")).unwrap();
        assert_eq!(home(user), Some(elsewhere));
    }

    #[test]
    fn names_are_paths_below_the_folder() {
        let folder = Path::new("/lms/models");
        for (path, expected) in [
            ("/lms/models/pub/repo/x.gguf", Some("pub/repo/x.gguf")),
            ("/lms/models/../x.gguf", None),
            ("/lms/models", None),
            ("/other/x.gguf", None),
        ] {
            assert_eq!(
                below(folder, Path::new(path)).as_deref(),
                expected,
                "{path}"
            );
        }
    }
}
