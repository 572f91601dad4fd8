//! The cases of a test file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{ModelFacts, StopReason, TextFile};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml_edit::{DocumentMut, InlineTable, Item, TomlError, Value};

use crate::error::Failure;

/// A test file: a pack and its cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFile {
    /// The pack's name, or its file relative to the test file.
    pack: String,
    #[serde(rename = "case", default)]
    pub(super) cases: Vec<Case>,
}

/// A prompt with parameters, or a processor with an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Case {
    name: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) processor: Option<String>,
    pub(super) options: BTreeMap<String, String>,
    pub(super) answer: String,
    stop: Stop,
    /// Files that are passed to the pack, relative to the test file.
    pub(super) files: Vec<PathBuf>,
    /// The context length that is passed to the pack, in tokens.
    pub(super) context: Option<u32>,
    /// Further facts about the model.
    model: BTreeMap<String, String>,
    #[serde(rename = "expect")]
    _expect: Option<IgnoredAny>,
    /// The expected values; others may be anything.
    #[serde(skip)]
    pub(super) expect: Option<InlineTable>,
}

/// The reason why an answer ends.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stop {
    #[default]
    End,
    Length,
    ContextFull,
    Cancelled,
    Failed,
}

impl TestFile {
    /// Parses a file.
    ///
    /// # Errors
    /// Returns an error if the text is not TOML or has another key, or if a case has neither
    /// or both of `prompt` and `processor`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::usage(format!("{}: {message}", path.display()));
        let mut file: Self =
            toml_edit::de::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let document: DocumentMut = text
            .parse()
            .map_err(|error: TomlError| invalid(error.to_string()))?;
        let tables = document.get("case").and_then(Item::as_array_of_tables);
        for (case, table) in file.cases.iter_mut().zip(tables.into_iter().flatten()) {
            let expected = table.get("expect").cloned().map(Item::into_value);
            case.expect = expected.and_then(|value| match value {
                Ok(Value::InlineTable(expected)) => Some(expected),
                _ => None,
            });
        }
        if file.cases.is_empty() {
            return Err(invalid("the file has no `[[case]]`".to_owned()));
        }
        for (number, case) in (1..).zip(&file.cases) {
            let problem = match (&case.prompt, &case.processor) {
                (None, None) => "needs a `prompt` or a `processor`",
                (Some(_), Some(_)) => "has a `prompt` and a `processor`; make it two cases",
                _ => continue,
            };
            let label = case.label();
            return Err(invalid(format!("case {number} (`{label}`) {problem}")));
        }
        Ok(file)
    }

    /// Returns the pack as `--pack` takes it.
    pub(super) fn pack_in(&self, folder: &Path) -> String {
        match self.file_stem() {
            Some(_) => folder.join(&self.pack).to_string_lossy().into_owned(),
            None => self.pack.clone(),
        }
    }

    /// Returns the name of the pack.
    pub(super) fn pack_name(&self) -> &str {
        let stem = self.file_stem().map(Path::new);
        let name = stem
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        name.unwrap_or(&self.pack)
    }

    /// Returns the path of the pack without its extension, if it is a file.
    fn file_stem(&self) -> Option<&str> {
        let mut extensions = [".wasm", ".toml"].iter();
        extensions.find_map(|extension| self.pack.strip_suffix(extension))
    }
}

impl Case {
    /// Returns the name of the case for messages.
    pub(super) fn label(&self) -> &str {
        let name = self.name.as_deref();
        name.or(self.prompt.as_deref())
            .or(self.processor.as_deref())
            .unwrap_or("unnamed")
    }

    /// Reads the files of the case.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(super) fn files(&self, folder: &Path) -> Result<Vec<TextFile>, Failure> {
        let read = |path: &PathBuf| {
            // Messages name the file as the case does, from whatever folder the test is run.
            let text = fs::read_to_string(folder.join(path));
            let text = text.map_err(|error| Failure::usage(error.to_string()))?;
            let name = path.file_name().unwrap_or_default();
            Ok(TextFile {
                name: name.to_string_lossy().into_owned(),
                display_path: path.display().to_string(),
                text: text.into(),
            })
        };
        self.files.iter().map(read).collect()
    }

    /// Returns the facts about the model; `None` if the case has none.
    pub(super) fn model(&self) -> Option<ModelFacts> {
        if self.context.is_none() && self.model.is_empty() {
            return None;
        }
        let mut facts = ModelFacts {
            id: "model".to_owned(),
            context_length: self.context,
            ..ModelFacts::default()
        };
        for (key, value) in &self.model {
            facts.set(key, value);
        }
        Some(facts)
    }

    /// Returns why the answer ends.
    pub(super) fn stop(&self) -> StopReason {
        StopReason::Finished(match self.stop {
            Stop::End => FinishReason::End,
            Stop::Length => FinishReason::Length,
            Stop::ContextFull => FinishReason::ContextFull,
            Stop::Cancelled => FinishReason::Cancelled,
            Stop::Failed => return StopReason::Failed("the engine failed".to_owned()),
        })
    }
}
