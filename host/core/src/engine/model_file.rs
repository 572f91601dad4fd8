//! Model files by name.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{DEMO, Error};
use crate::suggest::similar_names;

/// Returns whether a model name is the path of a GGUF file.
pub(super) fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        || path.is_absolute()
        || model.starts_with("./")
        || model.starts_with("../")
}

/// Returns the name of a model to show: of a path of a GGUF file, which llama-server uses as
/// the name of its model, the file name.
#[must_use]
pub fn display_model(id: &str) -> &str {
    let file_name = id.rsplit(['/', '\\']).next().unwrap_or(id);
    let extension = Path::new(file_name).extension();
    match extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
        true => file_name,
        false => id,
    }
}

/// Returns the path of the model file `NAME.gguf` in the models folder.
pub(super) fn find_model_file(name: &str, models_dir: &Path) -> Result<PathBuf, Error> {
    let mut available: Vec<String> = fs::read_dir(models_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "gguf")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    // Only exact names match: a part of a name must not load another model.
    if available.iter().any(|model| model == name) {
        return Ok(models_dir.join(format!("{name}.gguf")));
    }
    available.push(DEMO.to_owned());
    available.sort();
    Err(Error::UnknownModel {
        name: name.to_owned(),
        similar: similar_names(name, available.iter().map(String::as_str)),
        models_dir: models_dir.to_owned(),
    })
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
}
