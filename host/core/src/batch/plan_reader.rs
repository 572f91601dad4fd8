//! Reads plans from TOML. Unknown keys are errors with their line and column. Paths are
//! relative to the folder of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fs_err as fs;
use lmstrix_inference::settings_table;
use lmstrix_sandbox::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::plan::{
    InputEntry, InputEntrySource, ModelOverride, ParamValues, Plan, PlanContext, ProcessorEntry,
    PromptEntry, PromptOptions, ResultOptions, join_pattern,
};
use super::plan_toml::{
    Entries, JobCount, ParamToml, ProcessorTable, ProcessorToml, Tables, in_file_order,
};
use crate::toml_file::{self, ErrorAt, OneOrMore, TomlFileError, from_scalar, table_with_settings};

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
    let source = Source { text, folder };
    toml_file::parse(text, path, SCHEMA, |plan: PlanToml| plan.into_plan(source))
}

/// The text of a plan, and the folder that its paths are relative to.
#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    folder: &'a Path,
}

/// A table with options of prompts and settings, besides its own keys.
macro_rules! prompt_table {
    ($table:ident { $($own:tt)* }) => {
        settings_table!(table_with_settings {
            $table {
                $($own)*
                prompts: OneOrMore,
                files: OneOrMore,
                packs: OneOrMore,
                pack_dirs: OneOrMore,
                post: Option<Vec<Spanned<ProcessorToml>>>,
                system: Option<String>,
                raw: Option<bool>,
                attach: OneOrMore,
                params: Entries<ParamToml>,
            }
        });

        impl $table {
            /// Takes the options of prompts out of the table.
            fn prompt_options(&mut self, source: Source<'_>) -> Result<PromptOptions, ErrorAt> {
                use std::mem::take;
                let Source { text, folder } = source;
                let packs = take(&mut self.packs).into_vec();
                let processors = self.post.take();
                let processors = processors
                    .map(|all| all.into_iter().map(|one| processor(one, text)).collect())
                    .transpose();
                Ok(PromptOptions {
                    prompt_files: paths(folder, take(&mut self.prompts)),
                    pack_files: paths(folder, take(&mut self.files)),
                    packs: packs.into_iter().map(|pack| pack_path(folder, pack)).collect(),
                    pack_dirs: paths(folder, take(&mut self.pack_dirs)),
                    processors: processors?,
                    system: self.system.take(),
                    raw: self.raw,
                    params: params(take(&mut self.params), text)?,
                    attach: paths(folder, take(&mut self.attach)),
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
    locked: bool,
    pins: BTreeMap<String, Digest>,
    name: Option<String>,
    #[serde(deserialize_with = "from_scalar")]
    errors: ErrorsInline,
    keep_raw: bool,
    keep_reasoning: bool,
    strict: bool,
    #[serde(deserialize_with = "from_scalar")]
    reasoning_tags: KeepsTags,
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
    #[serde(default)]
    attach: OneOrMore,
}

/// Whether `errors` is `inline`.
#[derive(Default)]
struct ErrorsInline(bool);

impl FromStr for ErrorsInline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file" => Ok(Self(false)),
            "inline" => Ok(Self(true)),
            _ => Err("expected `file` or `inline`".to_owned()),
        }
    }
}

/// Whether `reasoning_tags` is `none`.
#[derive(Default)]
struct KeepsTags(bool);

impl FromStr for KeepsTags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(false)),
            "none" => Ok(Self(true)),
            _ => Err("expected `auto` or `none`".to_owned()),
        }
    }
}

impl PlanToml {
    fn into_plan(mut self, source: Source<'_>) -> Result<Plan, ErrorAt> {
        Ok(Plan {
            defaults: self.prompt_options(source)?,
            settings: self.settings()?,
            out: self.out.map(|path| source.folder.join(path)),
            engine: self.engine,
            models: self.models.into_vec(),
            context: self.context,
            jobs: self.jobs.map(|jobs| jobs.0),
            locked: self.locked,
            pins: self.pins,
            name: self.name,
            results: ResultOptions {
                errors_inline: self.errors.0,
                keep_raw: self.keep_raw,
                keep_reasoning: self.keep_reasoning,
                strict: self.strict,
                keep_reasoning_tags: self.reasoning_tags.0,
            },
            prompts: self
                .prompt
                .convert(|table, at| table.into_entry(at, source))?,
            inputs: self
                .input
                .convert(|table, at| table.into_entry(at, source))?,
            overrides: self.model.convert(ModelToml::into_override)?,
        })
    }
}

impl PromptToml {
    fn into_entry(mut self, offset: usize, source: Source<'_>) -> Result<PromptEntry, ErrorAt> {
        Ok(PromptEntry {
            options: self.prompt_options(source)?,
            settings: self.settings()?,
            name: required("name", self.name, offset)?,
            label: self.label,
            models: self.models.into_vec(),
        })
    }
}

impl InputToml {
    fn into_entry(self, offset: usize, source: Source<'_>) -> Result<InputEntry, ErrorAt> {
        let path = |text: &str| join_pattern(source.folder, text);
        let attach = self.attach.into_vec();
        let mut attach: Vec<PathBuf> = attach.iter().map(|pattern| path(pattern)).collect();
        let entry = match (self.file, self.rows, self.text) {
            (Some(_), None, None) | (None, Some(_), None) if self.name.is_some() => {
                return Err((offset, "files and rows have names of their own".to_owned()));
            }
            (Some(file), None, None) => InputEntrySource::Files(path(&file)),
            (None, Some(rows), None) => InputEntrySource::RowsOrFiles(path(&rows)),
            (None, None, Some(text)) => InputEntrySource::Text {
                name: self.name.unwrap_or_else(|| "text".to_owned()),
                text,
            },
            (None, None, None) if !attach.is_empty() => InputEntrySource::Images {
                name: self.name,
                paths: std::mem::take(&mut attach),
            },
            _ => {
                return Err((
                    offset,
                    "an input needs one of `file`, `rows` or `text`; without one of them, \
                     `attach` makes each image an input"
                        .to_owned(),
                ));
            }
        };
        Ok(InputEntry {
            source: entry,
            attach,
        })
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

fn params(entries: Entries<ParamToml>, text: &str) -> Result<Vec<(String, ParamValues)>, ErrorAt> {
    in_file_order(entries)
        .map(|(name, value)| {
            let span = value.span();
            let values = match value.into_inner() {
                ParamToml::One(one) => ParamValues::One(one.into_text(span, text)),
                ParamToml::Axis(items) if items.is_empty() => {
                    return Err((
                        span.start,
                        format!("parameter `{name}` has no values, so the plan would have no jobs"),
                    ));
                }
                ParamToml::Axis(items) => {
                    let texts = items.into_iter().map(|item| {
                        let span = item.span();
                        item.into_inner().into_text(span, text)
                    });
                    ParamValues::Axis(texts.collect())
                }
            };
            Ok((name, values))
        })
        .collect()
}

fn processor(processor: Spanned<ProcessorToml>, text: &str) -> Result<ProcessorEntry, ErrorAt> {
    let offset = processor.span().start;
    Ok(match processor.into_inner() {
        ProcessorToml::Text(text) => ProcessorEntry::Text(text),
        ProcessorToml::Table(ProcessorTable { name, options }) => {
            let name = required("name", Some(name), offset)?;
            let options = in_file_order(options).map(|(name, value)| {
                let span = value.span();
                (name, value.into_inner().into_text(span, text))
            });
            ProcessorEntry::Named(name, options.collect())
        }
    })
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
attach = "a.png"
models = "gemma*"

[[input]]
file = "texts/*.md"

[[input]]
rows = "rows.jsonl"

[[input]]
text = "Hello."
attach = "b.png"

[[input]]
name = "pair"
attach = ["*.png", "c.jpg"]

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
        assert_eq!(plan.inputs.len(), 4);
        assert_eq!(plan.prompts[1].options.attach, [Path::new("/f/a.png")]);
        assert_eq!(plan.inputs[2].attach, [Path::new("/f/b.png")]);
        let images = ["/f/*.png", "/f/c.jpg"].map(PathBuf::from).to_vec();
        let source = InputEntrySource::Images {
            name: Some("pair".to_owned()),
            paths: images,
        };
        assert_eq!(plan.inputs[3], source.into());
        let toml = plan_to_toml(&plan).unwrap();
        assert_eq!(read(&toml).unwrap(), plan, "{toml}");
    }

    #[test]
    fn values_of_parameters_and_options_are_written_as_in_the_file() {
        let values = "p = { a = 1.10, b = 1e3, c = 0xff, d = 1_000, e = 18446744073709551615, \
                      f = true, g = 2026-01-31, h = [1.50, 'x', -2] }";
        let text = format!(
            "[[prompt]]\nname = 'x'\n{}\npost = [{{ name = 'y', {} }}]\n",
            values.replace("p =", "params ="),
            values
                .replace("p =", "options =")
                .replace(", h = [1.50, 'x', -2]", "")
        );
        let plan = read(&text).unwrap();
        let options = &plan.prompts[0].options;
        let one = |value: &ParamValues| match value {
            ParamValues::One(one) => one.clone(),
            ParamValues::Axis(all) => all.join("|"),
        };
        let params: Vec<String> = options.params.iter().map(|(_, value)| one(value)).collect();
        let written = [
            "1.10",
            "1e3",
            "0xff",
            "1000",
            "18446744073709551615",
            "true",
            "2026-01-31",
        ];
        assert_eq!(params[..7], written);
        assert_eq!(params[7], "1.50|x|-2");
        let Some([ProcessorEntry::Named(_, options)]) = options.processors.as_deref() else {
            panic!("{options:?}")
        };
        let options: Vec<&str> = options.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(options, written);
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
            (
                "[prompt]\nname = 'x'\n",
                "plan.toml:1:1:",
                "double brackets",
            ),
            (
                "[[input]]\n",
                "plan.toml:1:1:",
                "needs one of `file`, `rows` or `text`",
            ),
            (
                "[[input]]\nfile = 'a'\nrows = 'b'\n",
                "plan.toml:1:1:",
                "one of",
            ),
            (
                "[[input]]\nfile = 'a'\nname = 'b'\n",
                "plan.toml:1:1:",
                "names of their own",
            ),
            ("context = 'half'\n", "plan.toml:1:11:", "`fit`"),
            ("jobs = 0\n", "plan.toml:1:8:", "from 1 to 256"),
            (
                "context = ['fit']\n",
                "plan.toml:1:11:",
                "a number or a string",
            ),
            (
                "context = 8192.0\n",
                "plan.toml:1:11:",
                "invalid value `8192.0`",
            ),
            ("errors = { inline = {} }\n", "plan.toml:1:10:", "expected"),
            ("prompt = [['x']]\n", "plan.toml:1:11:", "expected a table"),
            ("top_k = 40.0\n", "plan.toml:1:9:", "invalid value `40.0`"),
            (
                "temperature = '1'\n",
                "plan.toml:1:15:",
                "invalid value `\"1\"`",
            ),
            ("jobs = 'auto'\n", "plan.toml:1:8:", "from 1 to 256"),
            (
                "[[prompt]]\nname = 'x'\npost = [{ name = '' }]\n",
                "plan.toml:3:9:",
                "`name` is missing",
            ),
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
                "expected `name` or `options`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(start), "{text:?}: {error}");
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
