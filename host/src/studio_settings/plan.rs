//! What would change. Reads the settings and writes nothing.

use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::SETTINGS;

const CONTEXT: &str = "llm.load.contextLength";
const FLASH: &str = "llm.load.llama.flashAttention";
/// Nobody means a context of fewer tokens: the Python program's own example
/// set every model to 75.
const LEAST_TOKENS: u32 = 512;

/// The most context to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Tokens.
    Tokens(u32),
    /// Percent of what was tested, 1 to 100.
    Percent(u8),
}

impl Limit {
    /// Reads `N` or `P%`.
    ///
    /// # Errors
    /// It is neither; the text says what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("`{text}` is neither a number of tokens nor `1%` to `100%`");
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(it @ 1..=100) => Ok(Self::Percent(it)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }

    /// The context for a model. A percentage holds for those that were tested
    /// with more than `threshold`.
    fn of(self, tested: u32, threshold: u32) -> u32 {
        match self {
            Self::Tokens(most) => tested.min(most),
            Self::Percent(percent) if tested > threshold => {
                let share = u64::from(tested) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(tested)
            }
            Self::Percent(_) => tested,
        }
    }
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) limit: Limit,
    pub(crate) threshold: u32,
    pub(crate) flash: bool,
    pub(crate) force: bool,
}

/// A file that would be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// What is there; absent when the file is not.
    pub(crate) before: Option<String>,
    pub(crate) after: String,
    pub(crate) context: u32,
}

/// Why a model is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// It is set so already.
    Same,
    /// Something is wrong; the text says what.
    Problem(String),
}

impl Change {
    /// The difference as people read it.
    pub(crate) fn diff(&self) -> String {
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

/// What would be written for a model, by its path below LM Studio's folder of
/// models.
pub(crate) fn plan(
    studio: &Path,
    model: &str,
    tested: u32,
    options: Options,
) -> Result<Change, Skip> {
    let problem = |why: String| Skip::Problem(why);
    let is_plain = Path::new(model)
        .components()
        .all(|it| matches!(it, Component::Normal(_)));
    if !is_plain || model.is_empty() {
        return Err(problem(format!("`{model}` is no path below a folder")));
    }
    let context = options.limit.of(tested, options.threshold);
    if context < LEAST_TOKENS && !options.force {
        return Err(problem(format!(
            "{context} tokens are less than {LEAST_TOKENS}, which nobody means; --force writes it"
        )));
    }
    let mut path = studio.join(SETTINGS).join(model).into_os_string();
    path.push(".json");
    let path = PathBuf::from(path);
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(problem(format!("it is left as it is: {e}"))),
    };
    let mut settings = match &before {
        None => json!({"preset": "", "operation": {"fields": []}, "load": {"fields": []}}),
        Some(text) => serde_json::from_str(text).map_err(|e| {
            problem(format!(
                "{} is no JSON, and left as it is: {e}",
                path.display()
            ))
        })?,
    };
    let odd = || {
        problem(format!(
            "{} is of another shape than LM Studio's settings, and left as it is",
            path.display()
        ))
    };
    let old = settings.clone();
    let fields = fields(&mut settings).ok_or_else(odd)?;
    set(fields, CONTEXT, context.into()).ok_or_else(odd)?;
    if options.flash && model.to_lowercase().ends_with(".gguf") {
        set(fields, FLASH, true.into()).ok_or_else(odd)?;
    }
    if before.is_some() && settings == old {
        return Err(Skip::Same);
    }
    let mut after = serde_json::to_string_pretty(&settings).map_err(|e| problem(e.to_string()))?;
    if before.as_ref().is_some_and(|it| it.ends_with('\n')) {
        after.push('\n');
    }
    Ok(Change {
        path,
        before,
        after,
        context,
    })
}

/// `load.fields`, made where it is missing.
fn fields(settings: &mut Value) -> Option<&mut Vec<Value>> {
    let load = settings
        .as_object_mut()?
        .entry("load")
        .or_insert_with(|| Value::Object(Map::new()));
    load.as_object_mut()?
        .entry("fields")
        .or_insert_with(|| Value::Array(Vec::new()))
        .as_array_mut()
}

/// Sets one field; a value with a checkbox, `{checked, value}`, keeps it.
fn set(fields: &mut Vec<Value>, key: &str, value: Value) -> Option<()> {
    let there = fields
        .iter_mut()
        .find(|it| it.get("key").and_then(Value::as_str) == Some(key));
    let Some(field) = there else {
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

    fn options(limit: &str) -> Options {
        Options {
            limit: Limit::parse(limit).unwrap(),
            threshold: 0,
            flash: false,
            force: false,
        }
    }

    #[test]
    fn limits_are_tokens_or_percent() {
        for (limit, tested, threshold, expected) in [
            ("100%", 31_744, 0, 31_744),
            ("50%", 31_744, 20_000, 15_872),
            ("50%", 8192, 20_000, 8192),
            ("4095", 31_744, 0, 4095),
            ("4095", 2048, 0, 2048),
        ] {
            let limit = Limit::parse(limit).unwrap();
            assert_eq!(limit.of(tested, threshold), expected, "{limit:?} {tested}");
        }
        for wrong in ["", "0", "-1", "0%", "101%", "x"] {
            assert!(Limit::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn everything_else_in_a_file_stays() {
        let studio = tempfile::tempdir().unwrap();
        let studio = studio.path();
        let path = studio.join(SETTINGS).join("p/r/x.gguf.json");
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
            let change = plan(studio, "p/r/x.gguf", 8192, options("100%")).unwrap();
            let compact: Value = serde_json::from_str(&change.after).unwrap();
            assert_eq!(compact.to_string(), after);
            assert!(change.diff().contains("8192"), "{}", change.diff());
            fs::write(&path, &change.after).unwrap();
            assert_eq!(
                plan(studio, "p/r/x.gguf", 8192, options("100%")),
                Err(Skip::Same)
            );
        }
    }

    #[test]
    fn a_new_file_has_what_lm_studio_writes() {
        let studio = tempfile::tempdir().unwrap();
        let flash = Options {
            flash: true,
            ..options("100%")
        };
        let change = plan(studio.path(), "p/r/x.gguf", 8192, flash).unwrap();
        let value: Value = serde_json::from_str(&change.after).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"preset":"","operation":{"fields":[]},"load":{"fields":[{"key":"llm.load.contextLength","value":8192},{"key":"llm.load.llama.flashAttention","value":true}]}}"#
        );
        let mlx = plan(studio.path(), "p/r-mlx", 8192, flash).unwrap();
        assert!(!mlx.after.contains("flash"));
    }

    #[test]
    fn what_makes_no_sense_is_left_alone() {
        let studio = tempfile::tempdir().unwrap();
        let studio = studio.path();
        let path = studio.join(SETTINGS).join("p/x.gguf.json");
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
            let skip = plan(studio, "p/x.gguf", 8192, options("100%"));
            assert!(matches!(skip, Err(Skip::Problem(_))), "{text}: {skip:?}");
        }
        for model in ["../x.gguf", "/x.gguf", "", "a/../../x"] {
            let skip = plan(studio, model, 8192, options("100%"));
            assert!(matches!(skip, Err(Skip::Problem(_))), "{model}");
        }
        let Err(Skip::Problem(why)) = plan(studio, "p/y.gguf", 8192, options("75")) else {
            panic!("75 tokens are written")
        };
        assert!(why.contains("75 tokens"), "{why}");
        let forced = Options {
            force: true,
            ..options("75")
        };
        assert_eq!(plan(studio, "p/y.gguf", 8192, forced).unwrap().context, 75);
    }
}
