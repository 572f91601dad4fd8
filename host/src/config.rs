//! The config file: one TOML file. Unknown keys are errors that name the line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::Deserialize;

use crate::duration;
use crate::inference::{MaxTokens, SettingsLayer};
use crate::pack::SandboxLimits;
use crate::source_snippet::{Position, source_snippet};

/// The schema version that this program reads.
const SCHEMA: u32 = 1;

/// The contents of the config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Default engine.
    pub engine: Option<String>,
    /// If true, `auto` looks for servers on their default ports; otherwise it
    /// uses only the servers of `engines`.
    pub discover: bool,
    /// Default model. A GGUF path is relative to the config file.
    pub model: Option<String>,
    /// Default prompt files, resolved relative to the config file.
    pub prompts: Vec<PathBuf>,
    /// Sampling settings.
    pub settings: SettingsLayer,
    /// Named servers, sorted by name.
    pub engines: Vec<EngineConfig>,
    /// Timeouts.
    pub timeouts: TimeoutConfig,
    /// Resource limits of packs.
    pub limits: SandboxLimits,
}

/// A named server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The name that `--engine` takes.
    pub name: String,
    /// The base URL.
    pub url: String,
    /// The dialect; detected if absent.
    pub dialect: Option<String>,
    /// The environment variable that holds the API key.
    pub key_env: Option<String>,
}

/// Timeouts. The outer `None` means not set, the inner `None` means disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the flag of the same name")]
pub struct TimeoutConfig {
    pub connect: Option<Option<Duration>>,
    pub load: Option<Option<Duration>>,
    pub first_token: Option<Option<Duration>>,
    pub stream: Option<Option<Duration>>,
    pub total: Option<Option<Duration>>,
}

/// An error in the config file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read config file `{}`", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or contains an unknown key or an invalid value.
    #[error("{}:{line}:{column}: {message}\n{snippet}", path.display())]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// The line number, starting at 1.
        line: usize,
        /// The column in characters, starting at 1.
        column: usize,
        /// The cause.
        message: String,
        /// The line, and a caret below the column.
        snippet: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigToml {
    schema: Option<u32>,
    #[serde(default)]
    defaults: DefaultsToml,
    #[serde(default)]
    engines: BTreeMap<String, EngineToml>,
    #[serde(default)]
    timeouts: TimeoutsToml,
    #[serde(default)]
    limits: LimitsToml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineToml {
    url: String,
    dialect: Option<String>,
    key_env: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsToml {
    connect: Option<DurationToml>,
    load: Option<DurationToml>,
    first_token: Option<DurationToml>,
    stream: Option<DurationToml>,
    total: Option<DurationToml>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected seconds, or a string such as \"90s\"")]
enum DurationToml {
    Seconds(f64),
    Text(String),
}

impl DurationToml {
    fn parse(self) -> Result<Option<Duration>, String> {
        match self {
            Self::Seconds(seconds) => duration::parse(&seconds.to_string()),
            Self::Text(text) => duration::parse(&text),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsToml {
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
    max_tokens: Option<MaxTokensToml>,
    stop: Option<OneOrMore>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
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
    expecting = "expected a number, -1, or a string such as \"50%\""
)]
enum MaxTokensToml {
    Number(i64),
    Text(String),
}

/// The `[limits]` table; the keys are those of `SandboxLimits` with units.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsToml {
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
            settings: SettingsLayer::default(),
            engines: Vec::new(),
            timeouts: TimeoutConfig::default(),
            limits: SandboxLimits::default(),
        }
    }
}

impl Config {
    /// Loads the config file. Returns the defaults if the file is missing and
    /// not `required`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is invalid, or if it is
    /// `required` and missing.
    pub fn load(path: &Path, required: bool) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(source) => Err(Error::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |offset: usize, message: String| {
            let position = Position::from_offset(text, offset);
            Error::Invalid {
                path: path.to_owned(),
                line: position.line,
                column: position.column,
                message,
                snippet: source_snippet(text, position),
            }
        };
        let file: ConfigToml = toml::from_str(text).map_err(|e| {
            invalid(
                e.span().map_or(0, |span| span.start),
                e.message().to_owned(),
            )
        })?;
        if let Some(schema) = file.schema
            && schema != SCHEMA
        {
            return Err(invalid(
                key_offset(text, "schema"),
                format!("schema {schema} is not supported; this version reads schema {SCHEMA}"),
            ));
        }
        let DefaultsToml {
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
        } = file.defaults;
        let max_tokens = match max_tokens {
            None => None,
            Some(MaxTokensToml::Number(number)) => Some(MaxTokens::parse(&number.to_string())),
            Some(MaxTokensToml::Text(text)) => Some(MaxTokens::parse(&text)),
        }
        .map(|parsed| parsed.map_err(|message| invalid(key_offset(text, "max_tokens"), message)))
        .transpose()?;
        let settings = SettingsLayer {
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
            ..SettingsLayer::default()
        };
        settings.check().map_err(|(name, problem)| {
            invalid(key_offset(text, name), format!("{name} {problem}"))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let timeout = |key: &str, value: Option<DurationToml>| {
            value
                .map(DurationToml::parse)
                .transpose()
                .map_err(|message| invalid(key_offset(text, key), format!("{key}: {message}")))
        };
        let timeouts = file.timeouts;
        let timeouts = TimeoutConfig {
            connect: timeout("connect", timeouts.connect)?,
            load: timeout("load", timeouts.load)?,
            first_token: timeout("first_token", timeouts.first_token)?,
            stream: timeout("stream", timeouts.stream)?,
            total: timeout("total", timeouts.total)?,
        };
        let engines = file.engines.into_iter().map(|(name, engine)| EngineConfig {
            name,
            url: engine.url,
            dialect: engine.dialect,
            key_env: engine.key_env,
        });
        Ok(Self {
            engine,
            discover: discover.unwrap_or(true),
            model: model.map(|model| resolve_model_path(folder, model)),
            prompts: prompts
                .map(OneOrMore::into_vec)
                .unwrap_or_default()
                .into_iter()
                .map(|path| folder.join(path))
                .collect(),
            settings,
            engines: engines.collect(),
            timeouts,
            limits: file.limits.over(SandboxLimits::default()),
        })
    }
}

/// Returns the byte offset of the first line that sets `key`, or 0.
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

/// Resolves a GGUF path relative to `folder`; returns a model name unchanged.
fn resolve_model_path(folder: &Path, model: String) -> String {
    let is_file = Path::new(&model)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if is_file {
        folder.join(model).to_string_lossy().into_owned()
    } else {
        model
    }
}

impl LimitsToml {
    fn over(self, defaults: SandboxLimits) -> SandboxLimits {
        let ms = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
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
        SandboxLimits {
            memory_bytes: pack_memory_bytes.unwrap_or(defaults.memory_bytes),
            table_elements: pack_table_elements.unwrap_or(defaults.table_elements),
            instances: pack_instances.unwrap_or(defaults.instances),
            describe_time: ms(pack_describe_ms, defaults.describe_time),
            resolve_time: ms(pack_resolve_ms, defaults.resolve_time),
            push_time: ms(pack_push_ms, defaults.push_time),
            finish_time: ms(pack_finish_ms, defaults.finish_time),
            call_bytes: pack_call_bytes.unwrap_or(defaults.call_bytes),
            output_bytes: pack_output_bytes.unwrap_or(defaults.output_bytes),
            list_entries: pack_list_entries.unwrap_or(defaults.list_entries),
            handles: pack_handles.unwrap_or(defaults.handles),
            file_bytes: pack_file_bytes.unwrap_or(defaults.file_bytes),
            compile_memory_bytes: pack_compile_memory_bytes
                .unwrap_or(defaults.compile_memory_bytes),
            compile_time: pack_compile_seconds.map_or(defaults.compile_time, Duration::from_secs),
            stderr_bytes: defaults.stderr_bytes,
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
    fn reads_all_sections() {
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
        assert_eq!(config.settings.max_tokens, Some(MaxTokens::Percent(50)));
        assert_eq!(
            config.settings.stop.as_deref(),
            Some(&["END".to_owned()][..])
        );
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
    fn errors_name_the_position() {
        for (text, start, expected) in [
            (
                "[defaults]\ntemprature = 1\n",
                "/etc/c.toml:2:1:",
                "unknown field `temprature`",
            ),
            ("x = \n", "/etc/c.toml:1:5:", ""),
            (
                "schema = 2\n",
                "/etc/c.toml:1:1:",
                "schema 2 is not supported",
            ),
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
                "invalid duration",
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
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(error.ends_with('^'), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_only_if_it_is_required() {
        let path = Path::new("/nonexistent/config.toml");
        assert_eq!(Config::load(path, false).unwrap(), Config::default());
        assert!(matches!(Config::load(path, true), Err(Error::Read { .. })));
    }
}
