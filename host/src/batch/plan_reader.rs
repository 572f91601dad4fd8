//! Reads plans from TOML. Unknown keys are errors with their line and column. Paths are
//! relative to the folder of the file.

use std::path::{Path, PathBuf};

use fs_err as fs;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::plan::{
    InputEntry, JOBS_MAX, ModelOverride, ParamValues, Plan, PlanContext, ProcessorEntry,
    PromptEntry, PromptOptions, ResultOptions, join_pattern,
};
use crate::inference::{MaxTokens, SettingsLayer};
use crate::source_snippet::{Position, source_snippet};
use crate::suggest::similar_names;

/// The plan schema that this version reads and writes.
pub(super) const SCHEMA: i64 = 1;

/// An error of a plan file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read plan `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not valid TOML, or has an unknown key or an invalid value.
    #[error("{}:{line}:{column}: {message}\n{snippet}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, starting at 1.
        line: usize,
        /// Column in characters, starting at 1.
        column: usize,
        /// What is invalid.
        message: String,
        /// The line, and a caret below the column.
        snippet: String,
    },
}

/// A byte offset and an error message.
type ErrorAt = (usize, String);

/// Loads a plan file.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a valid plan.
pub fn load_plan(path: &Path) -> Result<Plan, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse_plan(&text, path, folder)
}

/// Parses the text of a plan. `path` is the file name in messages, `folder` the base of
/// relative paths.
///
/// # Errors
/// Returns an error if the text is not a valid plan.
pub fn parse_plan(text: &str, path: &Path, folder: &Path) -> Result<Plan, Error> {
    let invalid = |(offset, message): ErrorAt| {
        let position = Position::from_offset(text, offset);
        Error::Invalid {
            path: path.to_owned(),
            line: position.line,
            column: position.column,
            message,
            snippet: source_snippet(text, position),
        }
    };
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        invalid((offset, error.message().to_owned()))
    })?;
    read_plan(&table, folder).map_err(invalid)
}

fn read_plan(table: &Spanned<DeTable<'_>>, folder: &Path) -> Result<Plan, ErrorAt> {
    let mut keys = TableReader::new(table.get_ref(), table.span().start, folder);
    if let Some((schema, offset)) = keys.integer("schema")?
        && schema != i128::from(SCHEMA)
    {
        return Err((
            offset,
            format!("unsupported schema {schema}: this version reads schema {SCHEMA}"),
        ));
    }
    let plan = Plan {
        out: keys.path("out")?,
        engine: keys.text("engine")?,
        models: keys.texts("models")?,
        defaults: keys.prompt_options()?,
        context: keys.context()?,
        jobs: keys.count("jobs")?,
        name: keys.text("name")?,
        results: keys.results()?,
        settings: keys.settings()?,
        prompts: keys.tables("prompt", read_prompt)?,
        inputs: keys.tables("input", read_input)?,
        overrides: keys.tables("model", read_model)?,
    };
    keys.reject_unknown_keys()?;
    Ok(plan)
}

fn read_prompt(keys: &mut TableReader<'_>) -> Result<PromptEntry, ErrorAt> {
    Ok(PromptEntry {
        name: keys.required_text("name")?,
        label: keys.text("label")?,
        models: keys.texts("models")?,
        options: keys.prompt_options()?,
        settings: keys.settings()?,
    })
}

fn read_input(keys: &mut TableReader<'_>) -> Result<InputEntry, ErrorAt> {
    let file = keys.pattern("file")?;
    let rows = keys.pattern("rows")?;
    let text = keys.text("text")?;
    let name = keys.text("name")?;
    match (file, rows, text) {
        (Some(file), None, None) => Ok(InputEntry::Files(file)),
        (None, Some(rows), None) => Ok(InputEntry::RowsOrFiles(rows)),
        (None, None, Some(text)) => Ok(InputEntry::Text {
            name: name.unwrap_or_else(|| "text".to_owned()),
            text,
        }),
        _ => Err((
            keys.offset,
            "an input needs exactly one of `file`, `rows` and `text`".to_owned(),
        )),
    }
}

fn read_model(keys: &mut TableReader<'_>) -> Result<ModelOverride, ErrorAt> {
    Ok(ModelOverride {
        pattern: keys.required_text("match")?,
        context: keys.context()?,
        jobs: keys.count("jobs")?,
        settings: keys.settings()?,
    })
}

/// Reads the keys of a table and records them, so that unknown keys can be reported.
struct TableReader<'a> {
    table: &'a DeTable<'a>,
    /// Byte offset of the table in the file.
    offset: usize,
    folder: &'a Path,
    /// The keys that were looked up, present or not.
    known_keys: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    fn new(table: &'a DeTable<'a>, offset: usize, folder: &'a Path) -> Self {
        Self {
            table,
            offset,
            folder,
            known_keys: Vec::new(),
        }
    }

    /// Returns a value and its byte offset.
    fn get(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        self.known_keys.push(key);
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((value.get_ref(), value.span().start))
    }

    /// Returns the byte offset of a value, or that of the table without the value.
    fn offset_of(&mut self, key: &'static str) -> usize {
        self.get(key).map_or(self.offset, |(_, offset)| offset)
    }

    fn reject_unknown_keys(self) -> Result<(), ErrorAt> {
        let unknown = self
            .table
            .keys()
            .find(|key| !self.known_keys.contains(&key.get_ref().as_ref()));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let name = unknown.get_ref();
        let similar = similar_names(name, self.known_keys.iter().copied());
        let suggestion = similar
            .first()
            .map_or_else(String::new, |key| format!("; did you mean `{key}`?"));
        Err((
            unknown.span().start,
            format!("unknown key `{name}`{suggestion}"),
        ))
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, ErrorAt> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::String(text), _)) => Ok(Some(text.to_string())),
            Some((other, offset)) => Err(wrong_type(key, "a string", other, offset)),
        }
    }

    fn required_text(&mut self, key: &'static str) -> Result<String, ErrorAt> {
        let offset = self.offset;
        self.text(key)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| (offset, format!("`{key}` is missing")))
    }

    fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ErrorAt> {
        Ok(self.text(key)?.map(|path| self.folder.join(path)))
    }

    /// Reads a path or pattern. Pattern characters in the folder's name are escaped.
    fn pattern(&mut self, key: &'static str) -> Result<Option<PathBuf>, ErrorAt> {
        let path = self.text(key)?;
        Ok(path.map(|path| join_pattern(self.folder, &path)))
    }

    /// Reads a string or an array of strings.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ErrorAt> {
        const EXPECTED: &str = "a string or an array of strings";
        let Some((value, offset)) = self.get(key) else {
            return Ok(Vec::new());
        };
        match value {
            DeValue::String(text) => Ok(vec![text.to_string()]),
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    other => Err(wrong_type(key, EXPECTED, other, item.span().start)),
                })
                .collect(),
            other => Err(wrong_type(key, EXPECTED, other, offset)),
        }
    }

    fn paths(&mut self, key: &'static str) -> Result<Vec<PathBuf>, ErrorAt> {
        let texts = self.texts(key)?;
        Ok(texts.iter().map(|path| self.folder.join(path)).collect())
    }

    fn integer(&mut self, key: &'static str) -> Result<Option<(i128, usize)>, ErrorAt> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Integer(number), offset)) => {
                i128::from_str_radix(number.as_str(), number.radix())
                    .map(|integer| Some((integer, offset)))
                    .map_err(|error| (offset, format!("`{key}`: {error}")))
            }
            Some((other, offset)) => Err(wrong_type(key, "an integer", other, offset)),
        }
    }

    fn integer_as<T: TryFrom<i128>>(&mut self, key: &'static str) -> Result<Option<T>, ErrorAt> {
        let Some((integer, offset)) = self.integer(key)? else {
            return Ok(None);
        };
        let out_of_range = |_| {
            (
                offset,
                format!("`{key}` is {integer}, which is out of range"),
            )
        };
        T::try_from(integer).map(Some).map_err(out_of_range)
    }

    fn count(&mut self, key: &'static str) -> Result<Option<usize>, ErrorAt> {
        let offset = self.offset_of(key);
        match self.integer_as(key)? {
            None => Ok(None),
            Some(count @ 1..=JOBS_MAX) => Ok(Some(count)),
            Some(count) => {
                let message = format!("`{key}` is {count}, expected a number from 1 to {JOBS_MAX}");
                Err((offset, message))
            }
        }
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f64>, ErrorAt> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Float(number), offset)) => parse_number(key, number.as_str(), offset),
            Some((DeValue::Integer(number), offset)) => parse_number(key, number.as_str(), offset),
            Some((other, offset)) => Err(wrong_type(key, "a number", other, offset)),
        }
    }

    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ErrorAt> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Boolean(flag), _)) => Ok(Some(*flag)),
            Some((other, offset)) => Err(wrong_type(key, "a boolean", other, offset)),
        }
    }

    fn results(&mut self) -> Result<ResultOptions, ErrorAt> {
        let offset = self.offset_of("errors");
        let errors_inline = match self.text("errors")?.as_deref() {
            None | Some("file") => false,
            Some("inline") => true,
            Some(other) => {
                let message = format!("`errors` is `{other}`, expected `file` or `inline`");
                return Err((offset, message));
            }
        };
        let offset = self.offset_of("reasoning_tags");
        let keep_reasoning_tags = match self.text("reasoning_tags")?.as_deref() {
            None | Some("auto") => false,
            Some("none") => true,
            Some(other) => {
                let message = format!("`reasoning_tags` is `{other}`, expected `auto` or `none`");
                return Err((offset, message));
            }
        };
        Ok(ResultOptions {
            errors_inline,
            keep_raw: self.flag("keep_raw")?.unwrap_or(false),
            keep_reasoning: self.flag("keep_reasoning")?.unwrap_or(false),
            strict: self.flag("strict")?.unwrap_or(false),
            keep_reasoning_tags,
        })
    }

    fn context(&mut self) -> Result<Option<PlanContext>, ErrorAt> {
        let Some((value, offset)) = self.get("context") else {
            return Ok(None);
        };
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            other => return Err(wrong_type("context", "a number or a string", other, offset)),
        };
        PlanContext::parse(&text)
            .map(Some)
            .map_err(|message| (offset, message))
    }

    fn prompt_options(&mut self) -> Result<PromptOptions, ErrorAt> {
        let packs = self.texts("packs")?;
        Ok(PromptOptions {
            prompt_files: self.paths("prompts")?,
            // A path is relative to the folder of the plan; a name is kept as it is.
            packs: packs
                .into_iter()
                .map(|pack| {
                    let is_file = pack.ends_with(".wasm") || pack.contains(std::path::is_separator);
                    if is_file {
                        self.folder.join(&pack).to_string_lossy().into_owned()
                    } else {
                        pack
                    }
                })
                .collect(),
            pack_dirs: self.paths("pack_dirs")?,
            processors: self.processors()?,
            system: self.text("system")?,
            raw: self.flag("raw")?,
            params: self.params()?,
        })
    }

    fn processors(&mut self) -> Result<Option<Vec<ProcessorEntry>>, ErrorAt> {
        let Some((value, offset)) = self.get("post") else {
            return Ok(None);
        };
        let expected = "an array of strings such as \"fence:lang=rust\", or of tables with `name` and \
                        `options`";
        let DeValue::Array(items) = value else {
            return Err(wrong_type("post", expected, value, offset));
        };
        let mut processors = Vec::new();
        for item in items.iter() {
            let offset = item.span().start;
            processors.push(match item.get_ref() {
                DeValue::String(text) => ProcessorEntry::Text(text.to_string()),
                DeValue::Table(table) => {
                    let mut keys = TableReader::new(table, offset, self.folder);
                    let name = keys.required_text("name")?;
                    let options = match keys.get("options") {
                        None => Vec::new(),
                        Some((DeValue::Table(options), _)) => entries_in_order(options)
                            .map(|(key, value)| Ok((key, scalar("options", value)?)))
                            .collect::<Result<_, ErrorAt>>()?,
                        Some((other, offset)) => {
                            return Err(wrong_type("options", "a table", other, offset));
                        }
                    };
                    keys.reject_unknown_keys()?;
                    ProcessorEntry::Named(name, options)
                }
                other => return Err(wrong_type("post", expected, other, offset)),
            });
        }
        Ok(Some(processors))
    }

    fn params(&mut self) -> Result<Vec<(String, ParamValues)>, ErrorAt> {
        let Some((value, offset)) = self.get("params") else {
            return Ok(Vec::new());
        };
        let DeValue::Table(table) = value else {
            return Err(wrong_type("params", "a table", value, offset));
        };
        entries_in_order(table)
            .map(|(name, value)| match value.get_ref() {
                DeValue::Array(items) if items.is_empty() => Err((
                    value.span().start,
                    format!("parameter `{name}` has no values, so the plan would have no jobs"),
                )),
                DeValue::Array(items) => {
                    let values = items.iter().map(|item| scalar("params", item));
                    Ok((name, ParamValues::Axis(values.collect::<Result<_, _>>()?)))
                }
                _ => Ok((name, ParamValues::One(scalar("params", value)?))),
            })
            .collect()
    }

    fn settings(&mut self) -> Result<SettingsLayer, ErrorAt> {
        let max_tokens = match self.get("max_tokens") {
            None => None,
            Some((value, offset)) => {
                let text = match value {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Integer(number) => number.as_str().to_owned(),
                    other => {
                        return Err(wrong_type(
                            "max_tokens",
                            "a number or a string",
                            other,
                            offset,
                        ));
                    }
                };
                Some(MaxTokens::parse(&text).map_err(|message| (offset, message))?)
            }
        };
        let stop = self.texts("stop")?;
        let has_stop = self.get("stop").is_some();
        let layer = SettingsLayer {
            temperature: self.number("temperature")?,
            top_k: self.integer_as("top_k")?,
            top_p: self.number("top_p")?,
            min_p: self.number("min_p")?,
            repeat_penalty: self.number("repeat_penalty")?,
            presence_penalty: self.number("presence_penalty")?,
            frequency_penalty: self.number("frequency_penalty")?,
            seed: self.integer_as("seed")?,
            max_tokens,
            stop: has_stop.then_some(stop),
            json_schema: self.text("json_schema")?,
            reasoning: self.text("reasoning")?,
            ..SettingsLayer::default()
        };
        layer
            .check()
            .map_err(|(name, problem)| (self.offset_of(name), format!("{name} {problem}")))?;
        Ok(layer)
    }

    /// Reads an array of tables, `[[key]]`.
    fn tables<T>(
        &mut self,
        key: &'static str,
        read_table: impl Fn(&mut TableReader<'a>) -> Result<T, ErrorAt>,
    ) -> Result<Vec<T>, ErrorAt> {
        let Some((value, offset)) = self.get(key) else {
            return Ok(Vec::new());
        };
        let not_tables = |offset| (offset, format!("`{key}` must be written as `[[{key}]]`"));
        let DeValue::Array(items) = value else {
            return Err(not_tables(offset));
        };
        let mut entries = Vec::new();
        for item in items.iter() {
            let offset = item.span().start;
            let DeValue::Table(table) = item.get_ref() else {
                return Err(not_tables(offset));
            };
            let mut keys = TableReader::new(table, offset, self.folder);
            entries.push(read_table(&mut keys)?);
            keys.reject_unknown_keys()?;
        }
        Ok(entries)
    }
}

/// Returns a table's entries in file order. The map iterates them by name.
fn entries_in_order<'a>(
    table: &'a DeTable<'a>,
) -> impl Iterator<Item = (String, &'a Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| (key.get_ref().to_string(), value))
}

fn parse_number<T: std::str::FromStr>(
    key: &str,
    text: &str,
    offset: usize,
) -> Result<Option<T>, ErrorAt> {
    let invalid = |_| {
        (
            offset,
            format!("`{key}` is `{text}`, which is not a valid number"),
        )
    };
    text.parse().map(Some).map_err(invalid)
}

/// Returns a string, number, boolean or date as text, in TOML notation.
fn scalar(key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ErrorAt> {
    Ok(match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        other => {
            let offset = value.span().start;
            return Err(wrong_type(
                key,
                "strings, numbers or booleans",
                other,
                offset,
            ));
        }
    })
}

fn wrong_type(key: &str, expected: &str, found: &DeValue<'_>, offset: usize) -> ErrorAt {
    (
        offset,
        format!("`{key}` must be {expected}, found {}", found.type_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::plan_writer::plan_to_toml;

    fn read(text: &str) -> Result<Plan, String> {
        parse_plan(text, Path::new("plan.toml"), Path::new("/f")).map_err(|error| error.to_string())
    }

    const FULL: &str = r#"
schema = 1
out = "out"
engine = "lmstudio"
models = ["qwen3-4b", "gemma*"]
context = "fit"
jobs = 4
name = "{prompt}--{model}"
errors = "inline"
keep_raw = true
temperature = 0.5
prompts = "adam.toml"
packs = ["shout", "own/p.wasm"]
params = { lang = "pl", n = 3 }

[[prompt]]
name = "think,aps"
max_tokens = "50%"
stop = []

[[prompt]]
name = "shout/greet"
label = "greet"
post = ["shout/count", { name = "replace", options = { from = "a", to = "b" } }]
params = { z = ["Ada", "Bo"], "a b" = true }
models = "gemma*"

[[input]]
file = "texts/*.md"

[[input]]
rows = "rows.jsonl"

[[input]]
text = "Hello."

[[model]]
match = "qwen*"
context = 8192
top_k = 20
"#;

    #[test]
    fn a_full_plan_round_trips() {
        let plan = read(FULL).unwrap();
        assert_eq!(plan.out.as_deref(), Some(Path::new("/f/out")));
        assert_eq!(plan.defaults.prompt_files, [Path::new("/f/adam.toml")]);
        assert_eq!(plan.defaults.packs, ["shout", "/f/own/p.wasm"]);
        assert_eq!(plan.prompts[0].settings.stop, Some(vec![]));
        assert_eq!(
            plan.prompts[0].settings.max_tokens,
            Some(MaxTokens::Percent(50))
        );
        let params: Vec<&str> = plan.prompts[1]
            .options
            .params
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(params, ["z", "a b"], "in file order");
        assert_eq!(plan.overrides[0].context, Some(PlanContext::Tokens(8192)));
        assert_eq!(plan.inputs.len(), 3);
        let toml = plan_to_toml(&plan).unwrap();
        assert_eq!(read(&toml).unwrap(), plan, "{toml}");
    }

    #[test]
    fn errors_have_line_column_and_cause() {
        for (text, start, message) in [
            ("modles = []\n", "plan.toml:1:1:", "did you mean `models`?"),
            ("schema = 2\n", "plan.toml:1:10:", "schema 2"),
            ("out = 3\n", "plan.toml:1:7:", "`out` must be a string"),
            ("x = \n", "plan.toml:1:5:", ""),
            (
                "[[prompt]]\nlabel = 'x'\n",
                "plan.toml:1:1:",
                "`name` is missing",
            ),
            (
                "[[prompt]]\nname = 'x'\ntop_p = 3\n",
                "plan.toml:3:9:",
                "top_p is 3",
            ),
            (
                "[[prompt]]\nname = 'x'\nparams = { a = [] }\n",
                "plan.toml:3:16:",
                "no values",
            ),
            (
                "[[prompt]]\nname = 'x'\nparams = { a = {} }\n",
                "plan.toml:3:16:",
                "strings",
            ),
            ("[prompt]\nname = 'x'\n", "plan.toml:1:1:", "[[prompt]]"),
            (
                "[[input]]\n",
                "plan.toml:1:1:",
                "one of `file`, `rows` and `text`",
            ),
            (
                "[[input]]\nfile = 'a'\nrows = 'b'\n",
                "plan.toml:1:1:",
                "one of",
            ),
            ("context = 'half'\n", "plan.toml:1:11:", "`fit`"),
            ("jobs = 0\n", "plan.toml:1:8:", "from 1 to 256"),
            (
                "[[model]]\nmatch = 'a'\nseed = -1\n",
                "plan.toml:3:8:",
                "out of range",
            ),
            (
                "[[prompt]]\nname='x'\npost = [{ name = 'a', option = 1 }]\n",
                "plan.toml:3:23:",
                "did you mean `options`?",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(start), "{text:?}: {error}");
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
