//! The plan as a TOML file. Unknown keys are errors, with the line; paths are
//! relative to the file's folder.

use std::path::{Path, PathBuf};

use fs_err as fs;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::plan::{
    Ask, InputEntry, JOBS_MAX, ModelEntry, Plan, Post, PromptEntry, Results, Values, Wish, below,
};
use crate::inference::{Layer, MaxTokens};
use crate::source_snippet::{Place, excerpt};
use crate::suggest::closest;

/// The schema that this program reads and writes.
pub(super) const SCHEMA: i64 = 1;

/// A plan file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the plan {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or value that means nothing.
    #[error("{}:{line}:{column}: {message}\n{excerpt}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// Counts from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
        /// The line, and a caret.
        excerpt: String,
    },
}

/// What is wrong, and at which byte.
type Wrong = (usize, String);

/// Reads a plan file.
///
/// # Errors
/// It cannot be read, or something in it means nothing.
pub fn load(path: &Path) -> Result<Plan, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, path, folder)
}

/// Reads a plan's text. `shown` is the file's name in messages, `folder` where
/// its paths begin.
///
/// # Errors
/// Something in it means nothing.
pub fn parse(text: &str, shown: &Path, folder: &Path) -> Result<Plan, Error> {
    let invalid = |(offset, message): Wrong| {
        let place = Place::of(text, offset);
        Error::Invalid {
            path: shown.to_owned(),
            line: place.line,
            column: place.column,
            message,
            excerpt: excerpt(text, place),
        }
    };
    let table = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        invalid((at, e.message().to_owned()))
    })?;
    plan(&table, folder).map_err(invalid)
}

fn plan(table: &Spanned<DeTable<'_>>, folder: &Path) -> Result<Plan, Wrong> {
    let mut keys = Keys::new(table.get_ref(), table.span().start, folder);
    if let Some((schema, at)) = keys.integer("schema")?
        && schema != i128::from(SCHEMA)
    {
        return Err((
            at,
            format!("schema {schema} is not known; this program reads {SCHEMA}"),
        ));
    }
    let plan = Plan {
        out: keys.path("out")?,
        engine: keys.text("engine")?,
        models: keys.texts("models")?,
        usual: keys.ask()?,
        context: keys.context()?,
        jobs: keys.count("jobs")?,
        name: keys.text("name")?,
        results: keys.results()?,
        settings: keys.settings()?,
        prompts: keys.tables("prompt", prompt)?,
        inputs: keys.tables("input", input)?,
        overrides: keys.tables("model", model)?,
    };
    keys.end()?;
    Ok(plan)
}

fn prompt(keys: &mut Keys<'_>) -> Result<PromptEntry, Wrong> {
    Ok(PromptEntry {
        name: keys.needed("name")?,
        label: keys.text("label")?,
        models: keys.texts("models")?,
        ask: keys.ask()?,
        settings: keys.settings()?,
    })
}

fn input(keys: &mut Keys<'_>) -> Result<InputEntry, Wrong> {
    let file = keys.pattern("file")?;
    let rows = keys.pattern("rows")?;
    let text = keys.text("text")?;
    let name = keys.text("name")?;
    match (file, rows, text) {
        (Some(file), None, None) => Ok(InputEntry::Files(file)),
        (None, Some(rows), None) => Ok(InputEntry::Any(rows)),
        (None, None, Some(text)) => Ok(InputEntry::Text {
            name: name.unwrap_or_else(|| "text".to_owned()),
            text,
        }),
        _ => Err((
            keys.at,
            "an input has one of `file`, `rows` and `text`".to_owned(),
        )),
    }
}

fn model(keys: &mut Keys<'_>) -> Result<ModelEntry, Wrong> {
    Ok(ModelEntry {
        pattern: keys.needed("match")?,
        context: keys.context()?,
        jobs: keys.count("jobs")?,
        settings: keys.settings()?,
    })
}

/// The keys of a table. Each that is asked for is crossed off; one that is left
/// means nothing.
struct Keys<'a> {
    table: &'a DeTable<'a>,
    at: usize,
    folder: &'a Path,
    asked: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    fn new(table: &'a DeTable<'a>, at: usize, folder: &'a Path) -> Self {
        Self {
            table,
            at,
            folder,
            asked: Vec::new(),
        }
    }

    fn get(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, usize)> {
        self.asked.push(key);
        let (_, value) = self.table.iter().find(|(it, _)| it.get_ref() == key)?;
        Some((value.get_ref(), value.span().start))
    }

    fn end(self) -> Result<(), Wrong> {
        let unknown = self
            .table
            .keys()
            .find(|it| !self.asked.contains(&it.get_ref().as_ref()));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let name = unknown.get_ref();
        let close = closest(name, self.asked.iter().copied());
        let hint = close
            .first()
            .map_or_else(String::new, |it| format!("; did you mean `{it}`?"));
        Err((unknown.span().start, format!("unknown key `{name}`{hint}")))
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::String(text), _)) => Ok(Some(text.to_string())),
            Some((other, at)) => Err(expected(key, "a text", other, at)),
        }
    }

    fn needed(&mut self, key: &'static str) -> Result<String, Wrong> {
        let at = self.at;
        self.text(key)?
            .filter(|it| !it.is_empty())
            .ok_or_else(|| (at, format!("`{key}` is missing")))
    }

    fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, Wrong> {
        Ok(self.text(key)?.map(|it| self.folder.join(it)))
    }

    /// A path that may be a pattern: the folder's own name is none.
    fn pattern(&mut self, key: &'static str) -> Result<Option<PathBuf>, Wrong> {
        Ok(self.text(key)?.map(|it| below(self.folder, &it)))
    }

    /// A text, or a list of texts.
    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Wrong> {
        let Some((value, at)) = self.get(key) else {
            return Ok(Vec::new());
        };
        match value {
            DeValue::String(text) => Ok(vec![text.to_string()]),
            DeValue::Array(list) => list
                .iter()
                .map(|it| match it.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    other => Err(expected(key, "texts", other, it.span().start)),
                })
                .collect(),
            other => Err(expected(key, "a text or a list of texts", other, at)),
        }
    }

    fn paths(&mut self, key: &'static str) -> Result<Vec<PathBuf>, Wrong> {
        let texts = self.texts(key)?;
        Ok(texts.iter().map(|it| self.folder.join(it)).collect())
    }

    fn integer(&mut self, key: &'static str) -> Result<Option<(i128, usize)>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Integer(number), at)) => {
                i128::from_str_radix(number.as_str(), number.radix())
                    .map(|it| Some((it, at)))
                    .map_err(|e| (at, format!("`{key}`: {e}")))
            }
            Some((other, at)) => Err(expected(key, "a whole number", other, at)),
        }
    }

    fn whole<T: TryFrom<i128>>(&mut self, key: &'static str) -> Result<Option<T>, Wrong> {
        let Some((number, at)) = self.integer(key)? else {
            return Ok(None);
        };
        let wrong = |_| (at, format!("`{key}` is {number}, which is out of range"));
        T::try_from(number).map(Some).map_err(wrong)
    }

    fn count(&mut self, key: &'static str) -> Result<Option<usize>, Wrong> {
        let at = self.get(key).map_or(self.at, |it| it.1);
        match self.whole(key)? {
            None => Ok(None),
            Some(count @ 1..=JOBS_MAX) => Ok(Some(count)),
            Some(count) => {
                let why = format!("`{key}` is {count}; it takes a number from 1 to {JOBS_MAX}");
                Err((at, why))
            }
        }
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f64>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Float(number), at)) => parsed(key, number.as_str(), at),
            Some((DeValue::Integer(number), at)) => parsed(key, number.as_str(), at),
            Some((other, at)) => Err(expected(key, "a number", other, at)),
        }
    }

    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Wrong> {
        match self.get(key) {
            None => Ok(None),
            Some((DeValue::Boolean(flag), _)) => Ok(Some(*flag)),
            Some((other, at)) => Err(expected(key, "true or false", other, at)),
        }
    }

    fn results(&mut self) -> Result<Results, Wrong> {
        let at = self.get("errors").map_or(self.at, |it| it.1);
        let errors_inline = match self.text("errors")?.as_deref() {
            None | Some("file") => false,
            Some("inline") => true,
            Some(other) => {
                let why = format!("`errors` is `{other}`; it takes `file` or `inline`");
                return Err((at, why));
            }
        };
        let at = self.get("reasoning_tags").map_or(self.at, |it| it.1);
        let tags_stay = match self.text("reasoning_tags")?.as_deref() {
            None | Some("auto") => false,
            Some("none") => true,
            Some(other) => {
                let why = format!("`reasoning_tags` is `{other}`; it takes `auto` or `none`");
                return Err((at, why));
            }
        };
        Ok(Results {
            errors_inline,
            keep_raw: self.flag("keep_raw")?.unwrap_or(false),
            keep_reasoning: self.flag("keep_reasoning")?.unwrap_or(false),
            strict: self.flag("strict")?.unwrap_or(false),
            tags_stay,
        })
    }

    fn context(&mut self) -> Result<Option<Wish>, Wrong> {
        let Some((value, at)) = self.get("context") else {
            return Ok(None);
        };
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            other => return Err(expected("context", "a number or a text", other, at)),
        };
        Wish::parse(&text).map(Some).map_err(|why| (at, why))
    }

    fn ask(&mut self) -> Result<Ask, Wrong> {
        let packs = self.texts("packs")?;
        Ok(Ask {
            files: self.paths("prompts")?,
            // What looks like a file is one beside the plan; a name stays.
            packs: packs
                .into_iter()
                .map(|it| {
                    let is_file = it.ends_with(".wasm") || it.contains(std::path::is_separator);
                    if is_file {
                        self.folder.join(&it).to_string_lossy().into_owned()
                    } else {
                        it
                    }
                })
                .collect(),
            pack_dirs: self.paths("pack_dirs")?,
            post: self.post()?,
            system: self.text("system")?,
            raw: self.flag("raw")?,
            params: self.params()?,
        })
    }

    fn post(&mut self) -> Result<Option<Vec<Post>>, Wrong> {
        let Some((value, at)) = self.get("post") else {
            return Ok(None);
        };
        let wants = "texts such as \"fence:lang=rust\", or tables with `name` and `options`";
        let DeValue::Array(list) = value else {
            return Err(expected("post", "a list", value, at));
        };
        let mut post = Vec::new();
        for item in list.iter() {
            let at = item.span().start;
            post.push(match item.get_ref() {
                DeValue::String(text) => Post::Typed(text.to_string()),
                DeValue::Table(table) => {
                    let mut keys = Keys::new(table, at, self.folder);
                    let name = keys.needed("name")?;
                    let options = match keys.get("options") {
                        None => Vec::new(),
                        Some((DeValue::Table(options), _)) => entries(options)
                            .map(|(key, value)| Ok((key, scalar("options", value)?)))
                            .collect::<Result<_, Wrong>>()?,
                        Some((other, at)) => return Err(expected("options", "a table", other, at)),
                    };
                    keys.end()?;
                    Post::Named(name, options)
                }
                other => return Err(expected("post", wants, other, at)),
            });
        }
        Ok(Some(post))
    }

    fn params(&mut self) -> Result<Vec<(String, Values)>, Wrong> {
        let Some((value, at)) = self.get("params") else {
            return Ok(Vec::new());
        };
        let DeValue::Table(table) = value else {
            return Err(expected("params", "a table", value, at));
        };
        entries(table)
            .map(|(name, value)| match value.get_ref() {
                DeValue::Array(list) if list.is_empty() => Err((
                    value.span().start,
                    format!("the axis `{name}` has no values, so that there would be no jobs"),
                )),
                DeValue::Array(list) => {
                    let values = list.iter().map(|it| scalar("params", it));
                    Ok((name, Values::Axis(values.collect::<Result<_, _>>()?)))
                }
                _ => Ok((name, Values::One(scalar("params", value)?))),
            })
            .collect()
    }

    fn settings(&mut self) -> Result<Layer, Wrong> {
        let max_tokens = match self.get("max_tokens") {
            None => None,
            Some((value, at)) => {
                let text = match value {
                    DeValue::String(text) => text.to_string(),
                    DeValue::Integer(number) => number.as_str().to_owned(),
                    other => return Err(expected("max_tokens", "a number or a text", other, at)),
                };
                Some(MaxTokens::parse(&text).map_err(|why| (at, why))?)
            }
        };
        let stop = self.texts("stop")?;
        let has_stop = self.get("stop").is_some();
        let layer = Layer {
            temperature: self.number("temperature")?,
            top_k: self.whole("top_k")?,
            top_p: self.number("top_p")?,
            min_p: self.number("min_p")?,
            repeat_penalty: self.number("repeat_penalty")?,
            presence_penalty: self.number("presence_penalty")?,
            frequency_penalty: self.number("frequency_penalty")?,
            seed: self.whole("seed")?,
            max_tokens,
            stop: has_stop.then_some(stop),
            json_schema: self.text("json_schema")?,
            reasoning: self.text("reasoning")?,
            ..Layer::default()
        };
        layer.check().map_err(|(name, why)| {
            let at = self.get(name).map_or(self.at, |it| it.1);
            (at, format!("{name} {why}"))
        })?;
        Ok(layer)
    }

    /// `[[key]]`
    fn tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Keys<'a>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let Some((value, at)) = self.get(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(list) = value else {
            return Err((at, format!("`{key}` is written as [[{key}]]")));
        };
        let mut all = Vec::new();
        for item in list.iter() {
            let at = item.span().start;
            let DeValue::Table(table) = item.get_ref() else {
                return Err((at, format!("`{key}` is written as [[{key}]]")));
            };
            let mut keys = Keys::new(table, at, self.folder);
            all.push(read(&mut keys)?);
            keys.end()?;
        }
        Ok(all)
    }
}

/// A table's entries in the order of the file: the map has them by name.
fn entries<'a>(table: &'a DeTable<'a>) -> impl Iterator<Item = (String, &'a Spanned<DeValue<'a>>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all.into_iter()
        .map(|(key, value)| (key.get_ref().to_string(), value))
}

fn parsed<T: std::str::FromStr>(key: &str, text: &str, at: usize) -> Result<Option<T>, Wrong> {
    let wrong = |_| {
        (
            at,
            format!("`{key}` is `{text}`, which is not a number it takes"),
        )
    };
    text.parse().map(Some).map_err(wrong)
}

/// Numbers and booleans are written as TOML writes them.
fn scalar(key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Wrong> {
    Ok(match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        other => {
            let at = value.span().start;
            return Err(expected(key, "texts, numbers and booleans", other, at));
        }
    })
}

fn expected(key: &str, what: &str, found: &DeValue<'_>, at: usize) -> Wrong {
    (
        at,
        format!("`{key}` takes {what}, not {}", found.type_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::print::print;

    fn read(text: &str) -> Result<Plan, String> {
        parse(text, Path::new("plan.toml"), Path::new("/f")).map_err(|e| e.to_string())
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
    fn a_full_plan_is_read_and_printed_and_read_again() {
        let plan = read(FULL).unwrap();
        assert_eq!(plan.out.as_deref(), Some(Path::new("/f/out")));
        assert_eq!(plan.usual.files, [Path::new("/f/adam.toml")]);
        assert_eq!(plan.usual.packs, ["shout", "/f/own/p.wasm"]);
        assert_eq!(plan.prompts[0].settings.stop, Some(vec![]));
        assert_eq!(
            plan.prompts[0].settings.max_tokens,
            Some(MaxTokens::Percent(50))
        );
        let params: Vec<&str> = plan.prompts[1]
            .ask
            .params
            .iter()
            .map(|it| it.0.as_str())
            .collect();
        assert_eq!(params, ["z", "a b"], "in the file's order");
        assert_eq!(plan.overrides[0].context, Some(Wish::Tokens(8192)));
        assert_eq!(plan.inputs.len(), 3);
        let printed = print(&plan).unwrap();
        assert_eq!(read(&printed).unwrap(), plan, "{printed}");
    }

    #[test]
    fn errors_name_the_place() {
        for (text, start, says) in [
            ("modles = []\n", "plan.toml:1:1:", "did you mean `models`?"),
            ("schema = 2\n", "plan.toml:1:10:", "schema 2"),
            ("out = 3\n", "plan.toml:1:7:", "`out` takes a text"),
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
                "texts",
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
            ("jobs = 0\n", "plan.toml:1:8:", "from 1"),
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
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
