//! What is written down: one TOML file. Unknown keys are errors, with the line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::Deserialize;

use crate::duration;
use crate::inference::{Layer, MaxTokens};
use crate::pack::Limits;
use crate::source_snippet::{Place, excerpt};

/// The schema that this program reads.
const SCHEMA: u32 = 1;

/// The config file's contents.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Engine to use when none is given.
    pub engine: Option<String>,
    /// Whether `auto` looks for servers at their usual ports; else it asks
    /// only those of `engines`.
    pub discover: bool,
    /// Model to use when none is given; a relative GGUF file is relative to
    /// the config file.
    pub model: Option<String>,
    /// Prompt files to use when none is given; relative ones are relative to
    /// the config file.
    pub prompts: Vec<PathBuf>,
    /// Sampling.
    pub layer: Layer,
    /// Servers with names of their own, in the file's order.
    pub engines: Vec<Engine>,
    /// Limits of time.
    pub timeouts: Timeouts,
    /// What packs may use.
    pub limits: Limits,
}

/// A server that the config names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// What `--engine` calls it.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Its protocol; else it is detected.
    pub dialect: Option<String>,
    /// The variable that holds its key.
    pub key_env: Option<String>,
}

/// Limits of time, as far as they are written; the inner `None` is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the flag of the same name")]
pub struct Timeouts {
    pub connect: Option<Option<Duration>>,
    pub load: Option<Option<Duration>>,
    pub first_token: Option<Option<Duration>>,
    pub stream: Option<Option<Duration>>,
    pub total: Option<Option<Duration>>,
}

/// The config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the config file {}", path.display())]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: Option<u32>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    engines: BTreeMap<String, WrittenEngine>,
    #[serde(default)]
    timeouts: WrittenTimeouts,
    #[serde(default)]
    limits: WrittenLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEngine {
    url: String,
    dialect: Option<String>,
    key_env: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTimeouts {
    connect: Option<WrittenSpan>,
    load: Option<WrittenSpan>,
    first_token: Option<WrittenSpan>,
    stream: Option<WrittenSpan>,
    total: Option<WrittenSpan>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected seconds, or a text such as \"90s\"")]
enum WrittenSpan {
    Seconds(f64),
    Text(String),
}

impl WrittenSpan {
    fn read(self) -> Result<Option<Duration>, String> {
        match self {
            Self::Seconds(seconds) => duration::parse(&seconds.to_string()),
            Self::Text(text) => duration::parse(&text),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    engine: Option<String>,
    discover: Option<bool>,
    model: Option<String>,
    prompts: Option<OneOrMore>,
    temperature: Option<f64>,
    top_k: Option<u32>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<u64>,
    max_tokens: Option<WrittenMaxTokens>,
    stop: Option<OneOrMore>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, -1, or a text such as \"50%\""
)]
enum WrittenMaxTokens {
    Number(i64),
    Text(String),
}

/// Names as in `Limits`, with their units.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    pack_memory_bytes: Option<usize>,
    pack_table_elements: Option<usize>,
    pack_instances: Option<usize>,
    pack_describe_ms: Option<u64>,
    pack_resolve_ms: Option<u64>,
    pack_push_ms: Option<u64>,
    pack_finish_ms: Option<u64>,
    pack_call_bytes: Option<usize>,
    pack_output_bytes: Option<usize>,
    pack_list_entries: Option<usize>,
    pack_handles: Option<usize>,
    pack_file_bytes: Option<u64>,
    pack_compile_memory_bytes: Option<u64>,
    pack_compile_seconds: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: None,
            discover: true,
            model: None,
            prompts: Vec::new(),
            layer: Layer::default(),
            engines: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Reads the file. One that nobody asked for may be absent.
    ///
    /// # Errors
    /// It cannot be read or understood, or `asked_for` and not there.
    pub fn load(path: &Path, asked_for: bool) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !asked_for => Ok(Self::default()),
            Err(source) => Err(Error::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |offset: usize, message: String| {
            let place = Place::of(text, offset);
            Error::Invalid {
                path: path.to_owned(),
                line: place.line,
                column: place.column,
                message,
                excerpt: excerpt(text, place),
            }
        };
        let written: Written = toml::from_str(text).map_err(|e| {
            invalid(
                e.span().map_or(0, |span| span.start),
                e.message().to_owned(),
            )
        })?;
        if let Some(schema) = written.schema
            && schema != SCHEMA
        {
            let at = key_offset(text, "schema");
            return Err(invalid(
                at,
                format!("schema {schema} is not known; this program reads {SCHEMA}"),
            ));
        }
        let Defaults {
            engine,
            discover,
            model,
            prompts,
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            seed,
            max_tokens,
            stop,
            reasoning,
        } = written.defaults;
        let max_tokens = match max_tokens {
            None => None,
            Some(WrittenMaxTokens::Number(n)) => Some(MaxTokens::parse(&n.to_string())),
            Some(WrittenMaxTokens::Text(text)) => Some(MaxTokens::parse(&text)),
        }
        .map(|parsed| parsed.map_err(|why| invalid(key_offset(text, "max_tokens"), why)))
        .transpose()?;
        let layer = Layer {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            seed,
            max_tokens,
            stop: stop.map(OneOrMore::into_vec),
            reasoning,
            ..Layer::default()
        };
        layer
            .check()
            .map_err(|(name, why)| invalid(key_offset(text, name), format!("{name} {why}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let span = |key: &str, written: Option<WrittenSpan>| {
            written
                .map(WrittenSpan::read)
                .transpose()
                .map_err(|why| invalid(key_offset(text, key), format!("{key}: {why}")))
        };
        let timeouts = written.timeouts;
        let timeouts = Timeouts {
            connect: span("connect", timeouts.connect)?,
            load: span("load", timeouts.load)?,
            first_token: span("first_token", timeouts.first_token)?,
            stream: span("stream", timeouts.stream)?,
            total: span("total", timeouts.total)?,
        };
        let engines = written.engines.into_iter().map(|(name, it)| Engine {
            name,
            url: it.url,
            dialect: it.dialect,
            key_env: it.key_env,
        });
        Ok(Self {
            engine,
            discover: discover.unwrap_or(true),
            model: model.map(|it| beside(folder, it)),
            prompts: prompts
                .map(OneOrMore::into_vec)
                .unwrap_or_default()
                .into_iter()
                .map(|file| folder.join(file))
                .collect(),
            layer,
            engines: engines.collect(),
            timeouts,
            limits: written.limits.over(Limits::default()),
        })
    }
}

/// Where a line begins with that key.
fn key_offset(text: &str, key: &str) -> usize {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let is_key = trimmed
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='));
        if is_key {
            return offset + line.len() - trimmed.len();
        }
        offset += line.len();
    }
    0
}

/// A GGUF file beside the config file; a model's name stays as it is.
fn beside(folder: &Path, model: String) -> String {
    let is_file = Path::new(&model)
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
    if is_file {
        folder.join(model).to_string_lossy().into_owned()
    } else {
        model
    }
}

impl WrittenLimits {
    fn over(self, limits: Limits) -> Limits {
        let ms = |given: Option<u64>, default| given.map_or(default, Duration::from_millis);
        let Self {
            pack_memory_bytes,
            pack_table_elements,
            pack_instances,
            pack_describe_ms,
            pack_resolve_ms,
            pack_push_ms,
            pack_finish_ms,
            pack_call_bytes,
            pack_output_bytes,
            pack_list_entries,
            pack_handles,
            pack_file_bytes,
            pack_compile_memory_bytes,
            pack_compile_seconds,
        } = self;
        Limits {
            memory_bytes: pack_memory_bytes.unwrap_or(limits.memory_bytes),
            table_elements: pack_table_elements.unwrap_or(limits.table_elements),
            instances: pack_instances.unwrap_or(limits.instances),
            describe_time: ms(pack_describe_ms, limits.describe_time),
            resolve_time: ms(pack_resolve_ms, limits.resolve_time),
            push_time: ms(pack_push_ms, limits.push_time),
            finish_time: ms(pack_finish_ms, limits.finish_time),
            call_bytes: pack_call_bytes.unwrap_or(limits.call_bytes),
            output_bytes: pack_output_bytes.unwrap_or(limits.output_bytes),
            list_entries: pack_list_entries.unwrap_or(limits.list_entries),
            handles: pack_handles.unwrap_or(limits.handles),
            file_bytes: pack_file_bytes.unwrap_or(limits.file_bytes),
            compile_memory_bytes: pack_compile_memory_bytes.unwrap_or(limits.compile_memory_bytes),
            compile_time: pack_compile_seconds.map_or(limits.compile_time, Duration::from_secs),
            stderr_bytes: limits.stderr_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/c.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_full_file_is_read() {
        let config = parse(
            "schema = 1\n[defaults]\nengine = 'embedded'\nmodel = 'm.gguf'\nprompts = ['a.toml', '/b.toml']\n\
             temperature = 0.2\nmax_tokens = '50%'\nstop = 'END'\n[limits]\npack_push_ms = 5\n",
        )
        .unwrap();
        assert_eq!(config.engine.as_deref(), Some("embedded"));
        assert_eq!(config.model.as_deref(), Some("/etc/m.gguf"));
        assert_eq!(
            config.prompts,
            [Path::new("/etc/a.toml"), Path::new("/b.toml")]
        );
        assert_eq!(config.layer.max_tokens, Some(MaxTokens::Percent(50)));
        assert_eq!(config.layer.stop.as_deref(), Some(&["END".to_owned()][..]));
        assert_eq!(config.limits.push_time, Duration::from_millis(5));
        let config = parse(
            "[engines.studio]\nurl = 'http://127.0.0.1:1234'\nkey_env = 'KEY'\n\
             [timeouts]\nload = '5m'\nstream = 0\nconnect = 1.5\n",
        )
        .unwrap();
        assert_eq!(config.engines[0].name, "studio");
        assert_eq!(
            (
                config.timeouts.load,
                config.timeouts.stream,
                config.timeouts.connect
            ),
            (
                Some(Some(Duration::from_secs(300))),
                Some(None),
                Some(Some(Duration::from_millis(1500)))
            )
        );
        assert_eq!(config.timeouts.total, None);
    }

    #[test]
    fn errors_name_the_place() {
        for (text, start, says) in [
            (
                "[defaults]\ntemprature = 1\n",
                "/etc/c.toml:2:1:",
                "unknown field `temprature`",
            ),
            ("x = \n", "/etc/c.toml:1:5:", ""),
            ("schema = 2\n", "/etc/c.toml:1:1:", "schema 2 is not known"),
            ("[defaults]\ntop_p = 3.0\n", "/etc/c.toml:2:1:", "top_p"),
            (
                "# top_p\n[defaults]\n  top_p = 3.0\n",
                "/etc/c.toml:3:3:",
                "top_p",
            ),
            ("[defaults]\nmax_tokens = 'x'\n", "/etc/c.toml:2:1:", "max"),
            (
                "[timeouts]\nload = '5x'\n",
                "/etc/c.toml:2:1:",
                "span of time",
            ),
            (
                "[engines.a]\nurl = 'x'\nkey = 'sk'\n",
                "/etc/c.toml:3:1:",
                "unknown field `key`",
            ),
            (
                "[limits]\npack_push_ms = 'a'\n",
                "/etc/c.toml:2:16:",
                "invalid type",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(start), "{text:?}: {error}");
            assert!(error.contains(says), "{text:?}: {error}");
            assert!(error.ends_with('^'), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_absent_file_is_an_error_only_when_it_was_asked_for() {
        let path = Path::new("/nonexistent/config.toml");
        assert_eq!(Config::load(path, false).unwrap(), Config::default());
        assert!(matches!(Config::load(path, true), Err(Error::Read { .. })));
    }
}
