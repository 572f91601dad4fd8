//! Reads plans from TOML. Unknown keys are errors with their line and column. Paths are
//! relative to the folder of the file.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_inference::settings_table;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::plan::{
    InputEntry, JOBS_MAX, ModelOverride, ParamValues, Plan, PlanContext, ProcessorEntry,
    PromptEntry, PromptOptions, ResultOptions, join_pattern,
};
use crate::toml_file::{self, ErrorAt, OneOrMore, TomlFileError, table_with_settings};

/// The plan schema that this version reads and writes.
pub(super) const SCHEMA: i64 = 1;

/// Loads a plan file.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a valid plan.
pub fn load_plan(path: &Path) -> Result<Plan, TomlFileError> {
    let text = fs::read_to_string(path).map_err(|source| TomlFileError::Read {
        kind: "plan",
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
pub fn parse_plan(text: &str, path: &Path, folder: &Path) -> Result<Plan, TomlFileError> {
    toml_file::parse(text, path, SCHEMA, |plan: PlanToml| plan.into_plan(folder))
}

/// A table with options of prompts and settings, besides its own keys.
macro_rules! prompt_table {
    ($table:ident { $($own:tt)* }) => {
        settings_table!(table_with_settings {
            $table {
                $($own)*
                prompts: OneOrMore,
                packs: OneOrMore,
                pack_dirs: OneOrMore,
                post: Option<Vec<ProcessorToml>>,
                system: Option<String>,
                raw: Option<bool>,
                params: Entries,
            }
        });

        impl $table {
            /// Takes the options of prompts out of the table.
            fn prompt_options(&mut self, folder: &Path) -> Result<PromptOptions, ErrorAt> {
                use std::mem::take;
                let packs = take(&mut self.packs).into_vec();
                let processors = self.post.take();
                let processors = processors
                    .map(|all| all.into_iter().map(ProcessorToml::into_entry).collect())
                    .transpose();
                Ok(PromptOptions {
                    prompt_files: paths(folder, take(&mut self.prompts)),
                    packs: packs.into_iter().map(|pack| pack_path(folder, pack)).collect(),
                    pack_dirs: paths(folder, take(&mut self.pack_dirs)),
                    processors: processors?,
                    system: self.system.take(),
                    raw: self.raw,
                    params: params(take(&mut self.params))?,
                })
            }
        }
    };
}

prompt_table!(PlanToml {
    #[serde(rename = "schema")]
    _schema: Option<IgnoredAny>,
    out: Option<String>,
    engine: Option<String>,
    models: OneOrMore,
    context: Option<PlanContext>,
    jobs: Option<JobCount>,
    name: Option<String>,
    errors: ErrorPlace,
    keep_raw: bool,
    keep_reasoning: bool,
    strict: bool,
    reasoning_tags: ReasoningTags,
    prompt: Tables<PromptToml>,
    input: Tables<InputToml>,
    model: Tables<ModelToml>,
});

prompt_table!(PromptToml {
    name: Option<String>,
    label: Option<String>,
    models: OneOrMore,
});

settings_table!(table_with_settings {
    ModelToml {
        #[serde(rename = "match")]
        pattern: Option<String>,
        context: Option<PlanContext>,
        jobs: Option<JobCount>,
    }
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputToml {
    file: Option<String>,
    rows: Option<String>,
    text: Option<String>,
    name: Option<String>,
}

/// The value of `errors`.
#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ErrorPlace {
    #[default]
    File,
    Inline,
}

/// The value of `reasoning_tags`.
#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReasoningTags {
    #[default]
    Auto,
    None,
}

/// A processor: `"fence:lang=rust"`, or a table with `name` and `options`.
enum ProcessorToml {
    Text(String),
    Table(ProcessorTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessorTable {
    name: String,
    #[serde(default)]
    options: Entries,
}

/// The keys and values of a table, whose order matters.
type Entries = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

/// The number of jobs at once, from 1 to [`JOBS_MAX`].
struct JobCount(usize);

/// An array of tables, `[[name]]`, each with its offset.
struct Tables<T>(Vec<Spanned<T>>);

impl PlanToml {
    fn into_plan(mut self, folder: &Path) -> Result<Plan, ErrorAt> {
        Ok(Plan {
            defaults: self.prompt_options(folder)?,
            settings: self.settings()?,
            out: self.out.map(|path| folder.join(path)),
            engine: self.engine,
            models: self.models.into_vec(),
            context: self.context,
            jobs: self.jobs.map(|jobs| jobs.0),
            name: self.name,
            results: ResultOptions {
                errors_inline: self.errors == ErrorPlace::Inline,
                keep_raw: self.keep_raw,
                keep_reasoning: self.keep_reasoning,
                strict: self.strict,
                keep_reasoning_tags: self.reasoning_tags == ReasoningTags::None,
            },
            prompts: self
                .prompt
                .convert(|table, at| table.into_entry(at, folder))?,
            inputs: self
                .input
                .convert(|table, at| table.into_entry(at, folder))?,
            overrides: self.model.convert(ModelToml::into_override)?,
        })
    }
}

impl PromptToml {
    fn into_entry(mut self, offset: usize, folder: &Path) -> Result<PromptEntry, ErrorAt> {
        Ok(PromptEntry {
            options: self.prompt_options(folder)?,
            settings: self.settings()?,
            name: required("name", self.name, offset)?,
            label: self.label,
            models: self.models.into_vec(),
        })
    }
}

impl InputToml {
    fn into_entry(self, offset: usize, folder: &Path) -> Result<InputEntry, ErrorAt> {
        match (self.file, self.rows, self.text) {
            (Some(file), None, None) => Ok(InputEntry::Files(join_pattern(folder, &file))),
            (None, Some(rows), None) => Ok(InputEntry::RowsOrFiles(join_pattern(folder, &rows))),
            (None, None, Some(text)) => Ok(InputEntry::Text {
                name: self.name.unwrap_or_else(|| "text".to_owned()),
                text,
            }),
            _ => Err((
                offset,
                "an input needs exactly one of `file`, `rows` and `text`".to_owned(),
            )),
        }
    }
}

impl ModelToml {
    fn into_override(mut self, offset: usize) -> Result<ModelOverride, ErrorAt> {
        Ok(ModelOverride {
            settings: self.settings()?,
            pattern: required("match", self.pattern, offset)?,
            context: self.context,
            jobs: self.jobs.map(|jobs| jobs.0),
        })
    }
}

impl ProcessorToml {
    fn into_entry(self) -> Result<ProcessorEntry, ErrorAt> {
        Ok(match self {
            Self::Text(text) => ProcessorEntry::Text(text),
            Self::Table(ProcessorTable { name, options }) => {
                let options = in_file_order(options).map(|(name, value)| {
                    let text = scalar_text(value.get_ref(), value.span().start)?;
                    Ok((name, text))
                });
                ProcessorEntry::Named(name, options.collect::<Result<_, ErrorAt>>()?)
            }
        })
    }
}

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Tables<T> {
    /// Converts each table; the function gets the table and its offset.
    fn convert<U>(
        self,
        convert: impl Fn(T, usize) -> Result<U, ErrorAt>,
    ) -> Result<Vec<U>, ErrorAt> {
        let tables = self.0.into_iter();
        tables
            .map(|table| {
                let offset = table.span().start;
                convert(table.into_inner(), offset)
            })
            .collect()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TablesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TablesVisitor<T> {
            type Value = Tables<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of tables, each written as `[[NAME]]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tables<T>, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = items.next_element()? {
                    tables.push(table);
                }
                Ok(Tables(tables))
            }
        }
        deserializer.deserialize_any(TablesVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ProcessorToml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProcessorVisitor;
        impl<'de> Visitor<'de> for ProcessorVisitor {
            type Value = ProcessorToml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string such as \"fence:lang=rust\", or a table with `name` and `options`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ProcessorToml, E> {
                Ok(ProcessorToml::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ProcessorToml, A::Error> {
                let table = MapAccessDeserializer::new(map);
                ProcessorTable::deserialize(table).map(ProcessorToml::Table)
            }
        }
        deserializer.deserialize_any(ProcessorVisitor)
    }
}

impl<'de> Deserialize<'de> for JobCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            count @ 1..=JOBS_MAX => Ok(Self(count)),
            count => Err(de::Error::custom(format!(
                "`jobs` is {count}, expected a number from 1 to {JOBS_MAX}"
            ))),
        }
    }
}

fn required(key: &str, text: Option<String>, offset: usize) -> Result<String, ErrorAt> {
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| (offset, format!("`{key}` is missing")))
}

fn paths(folder: &Path, paths: OneOrMore) -> Vec<PathBuf> {
    let paths = paths.into_vec();
    paths.iter().map(|path| folder.join(path)).collect()
}

/// Returns a pack's path relative to the folder of the plan; a name stays as it is.
fn pack_path(folder: &Path, pack: String) -> String {
    let is_file = pack.ends_with(".wasm") || pack.contains(std::path::is_separator);
    if is_file {
        folder.join(&pack).to_string_lossy().into_owned()
    } else {
        pack
    }
}

fn params(entries: Entries) -> Result<Vec<(String, ParamValues)>, ErrorAt> {
    in_file_order(entries)
        .map(|(name, value)| {
            let offset = value.span().start;
            match value.get_ref() {
                toml::Value::Array(items) if items.is_empty() => Err((
                    offset,
                    format!("parameter `{name}` has no values, so the plan would have no jobs"),
                )),
                toml::Value::Array(items) => {
                    let values = items.iter().map(|item| scalar_text(item, offset));
                    Ok((name, ParamValues::Axis(values.collect::<Result<_, _>>()?)))
                }
                one => Ok((name, ParamValues::One(scalar_text(one, offset)?))),
            }
        })
        .collect()
}

/// Returns a table's entries in file order. The map has them by name.
fn in_file_order(entries: Entries) -> impl Iterator<Item = (String, Spanned<toml::Value>)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| (key.into_inner(), value))
}

/// Returns a string, number, boolean or date as text, in TOML notation.
fn scalar_text(value: &toml::Value, offset: usize) -> Result<String, ErrorAt> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Array(_) | toml::Value::Table(_) => Err((
            offset,
            format!(
                "values must be strings, numbers or booleans, found {}",
                value.type_str()
            ),
        )),
        other => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmstrix_inference::MaxTokens;

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
            ("out = 3\n", "plan.toml:1:7:", "expected a string"),
            ("x = \n", "plan.toml:1:5:", ""),
            (
                "[[prompt]]\nlabel = 'x'\n",
                "plan.toml:1:1:",
                "`name` is missing",
            ),
            (
                "[[prompt]]\nname = 'x'\ntop_p = 3\n",
                "plan.toml:3:9:",
                "invalid value `3` for `top_p`",
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
            ("[prompt]\nname = 'x'\n", "plan.toml:1:1:", "[[NAME]]"),
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
                "json_schema = '{'\n",
                "plan.toml:1:15:",
                "the JSON schema is not JSON",
            ),
            (
                "[[model]]\nmatch = 'a'\nseed = -1\n",
                "plan.toml:3:8:",
                "invalid value `-1` for `seed`",
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
