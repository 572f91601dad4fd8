//! Computes the changes to LM Studio's settings. Does not write.

use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use lmstrix_inference::ContextSize;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::SETTINGS_DIR;

const CONTEXT_KEY: &str = "llm.load.contextLength";
const FLASH_ATTENTION_KEY: &str = "llm.load.llama.flashAttention";
/// The smallest context, in tokens, that is written without `--force`. It protects from
/// mistakes: an example in the documentation of lmstrix set every model to 75 tokens.
const MIN_TOKENS: u32 = 512;

/// Returns the context to write for a model with this tested context. A percentage
/// applies only to a tested context above `threshold`.
fn context_to_write(limit: ContextSize, tested: u32, threshold: u32) -> u32 {
    match limit {
        ContextSize::Tokens(max) => tested.min(max),
        ContextSize::Percent(percent) if tested > threshold => {
            let share = u64::from(tested) * u64::from(percent) / 100;
            u32::try_from(share).unwrap_or(tested)
        }
        ContextSize::Percent(_) => tested,
    }
}

/// Options of `save`.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    pub limit: ContextSize,
    /// The tested context, in tokens, above which a percentage applies.
    pub threshold: u32,
    /// Also enable flash attention for GGUF models.
    pub flash_attention: bool,
    /// Also write contexts below `MIN_TOKENS`.
    pub force: bool,
}

/// A change of a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    pub path: PathBuf,
    /// The old text; absent if the file does not exist.
    pub before: Option<String>,
    /// The new text.
    pub after: String,
    /// The context, in tokens, that the new text sets.
    pub context: u32,
}

/// The reason for not changing a model's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The settings already have these values.
    AlreadySet,
    /// A problem, with its message.
    Problem(String),
}

impl FileChange {
    /// Returns the change as a unified diff.
    pub fn diff(&self) -> String {
        let name = self.path.display().to_string();
        TextDiff::from_lines(self.before.as_deref().unwrap_or(""), &self.after)
            .unified_diff()
            .header(
                if self.before.is_some() {
                    &name
                } else {
                    "/dev/null"
                },
                &name,
            )
            .to_string()
    }
}

/// Computes the change for a model, given by its path below `models/` in LM Studio's
/// folder `lm_studio_dir`. `tested` is its tested context, in tokens.
///
/// # Errors
/// Returns the reason if the settings need not or must not be changed.
pub fn plan_change(
    lm_studio_dir: &Path,
    model: &str,
    tested: u32,
    options: WriteOptions,
) -> Result<FileChange, SkipReason> {
    let problem = |message: String| SkipReason::Problem(message);
    let is_relative = Path::new(model)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !is_relative || model.is_empty() {
        return Err(problem(format!("invalid model path `{model}`")));
    }
    let context = context_to_write(options.limit, tested, options.threshold);
    if context < MIN_TOKENS && !options.force {
        return Err(problem(format!(
            "context of {context} tokens is less than {MIN_TOKENS}; use --force to write it"
        )));
    }
    let mut path = lm_studio_dir
        .join(SETTINGS_DIR)
        .join(model)
        .into_os_string();
    path.push(".json");
    let path = PathBuf::from(path);
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(problem(format!("settings not changed: {e}"))),
    };
    let mut settings = match &before {
        None => json!({"preset": "", "operation": {"fields": []}, "load": {"fields": []}}),
        Some(text) => serde_json::from_str(text).map_err(|e| {
            problem(format!(
                "settings not changed: {} is not valid JSON: {e}",
                path.display()
            ))
        })?,
    };
    let unexpected_structure = || {
        problem(format!(
            "settings not changed: {} does not have the structure of LM Studio's settings",
            path.display()
        ))
    };
    let old = settings.clone();
    let fields = load_fields(&mut settings).ok_or_else(unexpected_structure)?;
    set_field(fields, CONTEXT_KEY, context.into()).ok_or_else(unexpected_structure)?;
    if options.flash_attention && model.to_lowercase().ends_with(".gguf") {
        set_field(fields, FLASH_ATTENTION_KEY, true.into()).ok_or_else(unexpected_structure)?;
    }
    if before.is_some() && settings == old {
        return Err(SkipReason::AlreadySet);
    }
    let mut after = serde_json::to_string_pretty(&settings).map_err(|e| problem(e.to_string()))?;
    if before.as_ref().is_some_and(|text| text.ends_with('\n')) {
        after.push('\n');
    }
    Ok(FileChange {
        path,
        before,
        after,
        context,
    })
}

/// Returns the array `load.fields`, which is created if missing. Returns `None` if the
/// settings have another structure.
fn load_fields(settings: &mut Value) -> Option<&mut Vec<Value>> {
    let load = settings
        .as_object_mut()?
        .entry("load")
        .or_insert_with(|| Value::Object(Map::new()));
    load.as_object_mut()?
        .entry("fields")
        .or_insert_with(|| Value::Array(Vec::new()))
        .as_array_mut()
}

/// Sets a field. A value with a checkbox, `{checked, value}`, keeps its structure and is
/// checked. Returns `None` if the field has another structure.
fn set_field(fields: &mut Vec<Value>, key: &str, value: Value) -> Option<()> {
    let existing = fields
        .iter_mut()
        .find(|field| field.get("key").and_then(Value::as_str) == Some(key));
    let Some(field) = existing else {
        fields.push(json!({ "key": key, "value": value }));
        return Some(());
    };
    let field = field.as_object_mut()?;
    match field.get_mut("value").and_then(Value::as_object_mut) {
        Some(with_checkbox) if with_checkbox.contains_key("checked") => {
            with_checkbox.insert("checked".to_owned(), true.into());
            with_checkbox.insert("value".to_owned(), value);
        }
        Some(_) => return None,
        None => {
            field.insert("value".to_owned(), value);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(limit: &str) -> WriteOptions {
        WriteOptions {
            limit: limit.parse().unwrap(),
            threshold: 0,
            flash_attention: false,
            force: false,
        }
    }

    #[test]
    fn limits_are_tokens_or_percentages() {
        for (limit, tested, threshold, expected) in [
            ("100%", 31_744, 0, 31_744),
            ("50%", 31_744, 20_000, 15_872),
            ("50%", 8192, 20_000, 8192),
            ("4095", 31_744, 0, 4095),
            ("4095", 2048, 0, 2048),
        ] {
            let limit = limit.parse().unwrap();
            assert_eq!(
                context_to_write(limit, tested, threshold),
                expected,
                "{limit:?} {tested}"
            );
        }
        for wrong in ["", "0", "-1", "0%", "101%", "x"] {
            assert!(wrong.parse::<ContextSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_other_settings_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let lm_studio_dir = folder.path();
        let path = lm_studio_dir.join(SETTINGS_DIR).join("p/r/x.gguf.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (before, after) in [
            (
                r#"{"z":1,"load":{"fields":[{"key":"other","value":[1.0]},{"key":"llm.load.contextLength","value":4096}]},"preset":"mine"}"#,
                r#"{"z":1,"load":{"fields":[{"key":"other","value":[1.0]},{"key":"llm.load.contextLength","value":8192}]},"preset":"mine"}"#,
            ),
            (
                r#"{"load":{"fields":[{"key":"llm.load.contextLength","value":{"checked":false,"value":1}}]}}"#,
                r#"{"load":{"fields":[{"key":"llm.load.contextLength","value":{"checked":true,"value":8192}}]}}"#,
            ),
            (
                "{}",
                r#"{"load":{"fields":[{"key":"llm.load.contextLength","value":8192}]}}"#,
            ),
        ] {
            fs::write(&path, before).unwrap();
            let change = plan_change(lm_studio_dir, "p/r/x.gguf", 8192, options("100%")).unwrap();
            let compact: Value = serde_json::from_str(&change.after).unwrap();
            assert_eq!(compact.to_string(), after);
            assert!(change.diff().contains("8192"), "{}", change.diff());
            fs::write(&path, &change.after).unwrap();
            assert_eq!(
                plan_change(lm_studio_dir, "p/r/x.gguf", 8192, options("100%")),
                Err(SkipReason::AlreadySet)
            );
        }
    }

    #[test]
    fn a_new_file_has_the_structure_of_lm_studio() {
        let folder = tempfile::tempdir().unwrap();
        let with_flash = WriteOptions {
            flash_attention: true,
            ..options("100%")
        };
        let change = plan_change(folder.path(), "p/r/x.gguf", 8192, with_flash).unwrap();
        let value: Value = serde_json::from_str(&change.after).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"preset":"","operation":{"fields":[]},"load":{"fields":[{"key":"llm.load.contextLength","value":8192},{"key":"llm.load.llama.flashAttention","value":true}]}}"#
        );
        let mlx = plan_change(folder.path(), "p/r-mlx", 8192, with_flash).unwrap();
        assert!(!mlx.after.contains("flash"));
    }

    #[test]
    fn invalid_settings_paths_and_contexts_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let lm_studio_dir = folder.path();
        let path = lm_studio_dir.join(SETTINGS_DIR).join("p/x.gguf.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in [
            "",
            "{",
            "[]",
            r#"{"load":7}"#,
            r#"{"load":{"fields":{}}}"#,
            r#"{"load":{"fields":[{"key":"llm.load.contextLength","value":{"a":1}}]}}"#,
        ] {
            fs::write(&path, text).unwrap();
            let change = plan_change(lm_studio_dir, "p/x.gguf", 8192, options("100%"));
            assert!(
                matches!(change, Err(SkipReason::Problem(_))),
                "{text}: {change:?}"
            );
        }
        for model in ["../x.gguf", "/x.gguf", "", "a/../../x"] {
            let change = plan_change(lm_studio_dir, model, 8192, options("100%"));
            assert!(matches!(change, Err(SkipReason::Problem(_))), "{model}");
        }
        let Err(SkipReason::Problem(message)) =
            plan_change(lm_studio_dir, "p/y.gguf", 8192, options("75"))
        else {
            panic!("75 tokens are written")
        };
        assert!(message.contains("75 tokens"), "{message}");
        let forced = WriteOptions {
            force: true,
            ..options("75")
        };
        let change = plan_change(lm_studio_dir, "p/y.gguf", 8192, forced).unwrap();
        assert_eq!(change.context, 75);
    }
}
