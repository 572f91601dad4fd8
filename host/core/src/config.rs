//! The config file: one TOML file. Unknown keys are errors that name the line.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix_inference::{SettingsLayer, settings_table};
use lmstrix_sandbox::SandboxLimits;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use crate::duration::TimeLimit;
use crate::engine::{GpuLayers, LlamaServerSettings, reserved_flag};
use crate::toml_file::{self, ErrorAt, OneOrMore, Table, TomlFileError, table_with_settings};

/// The schema version that this program reads.
const SCHEMA: i64 = 1;

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
    /// Folders that are searched for packs after the usual ones, resolved relative to the
    /// config file.
    pub pack_dirs: Vec<PathBuf>,
    /// Sampling settings.
    pub settings: SettingsLayer,
    /// Named servers, sorted by name.
    pub engines: Vec<EngineConfig>,
    /// The llama-server executable, as a path or a name on the PATH.
    pub llama_server_command: Option<PathBuf>,
    /// The settings of llama-servers that this program starts.
    pub llama_server: LlamaServerSettings,
    /// Timeouts.
    pub timeouts: TimeoutConfig,
    /// Resource limits of packs.
    pub limits: SandboxLimits,
}

/// A named server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// The name that `--engine` takes.
    pub name: String,
    /// The base URL.
    pub url: String,
    /// The dialect; detected if absent.
    pub dialect: Option<String>,
    /// The environment variable that holds the API key.
    pub key_env: Option<String>,
    /// A PEM file with certificates to trust for this server.
    pub ca_file: Option<PathBuf>,
    /// Do not check the server's certificate.
    pub insecure: bool,
    /// Headers of every request.
    pub headers: BTreeMap<String, HeaderConfig>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text, or { env = \"NAME\" }")]
pub enum HeaderConfig {
    /// The value.
    Value(String),
    /// The environment variable that holds the value.
    Env {
        /// Its name.
        env: String,
    },
}

/// Timeouts; `None` means not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the flag of the same name")]
pub struct TimeoutConfig {
    pub connect: Option<TimeLimit>,
    pub load: Option<TimeLimit>,
    pub first_token: Option<TimeLimit>,
    pub stream: Option<TimeLimit>,
    pub total: Option<TimeLimit>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigToml {
    #[serde(rename = "schema")]
    _schema: Option<IgnoredAny>,
    defaults: Table<DefaultsToml>,
    engines: BTreeMap<String, Table<EngineToml>>,
    llama_server: Table<LlamaServerToml>,
    timeouts: Table<TimeoutConfig>,
    limits: Table<SandboxLimits>,
}

settings_table!(table_with_settings {
    DefaultsToml {
        engine: Option<String>,
        discover: Option<bool>,
        model: Option<String>,
        prompts: OneOrMore,
        pack_dirs: OneOrMore,
    }
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineToml {
    url: String,
    dialect: Option<String>,
    key_env: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    headers: BTreeMap<String, HeaderConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LlamaServerToml {
    command: Option<PathBuf>,
    context: Option<Spanned<u32>>,
    slots: Option<Spanned<u32>>,
    threads: Option<Spanned<u32>>,
    gpu_layers: Option<GpuLayers>,
    args: Option<Spanned<Vec<String>>>,
}

impl LlamaServerToml {
    fn into_settings(self) -> Result<LlamaServerSettings, ErrorAt> {
        if let Some(args) = &self.args
            && let Some(flag) = reserved_flag(args.get_ref())
        {
            let problem = format!("`{flag}` cannot be set here");
            return Err((args.span().start, problem));
        }
        Ok(LlamaServerSettings {
            context: self.context.map(at_least_one).transpose()?,
            slots: self.slots.map(at_least_one).transpose()?,
            threads: self.threads.map(at_least_one).transpose()?,
            gpu_layers: self.gpu_layers,
            args: self.args.map(Spanned::into_inner).unwrap_or_default(),
        })
    }
}

fn at_least_one(number: Spanned<u32>) -> Result<u32, ErrorAt> {
    match *number.get_ref() {
        0 => Err((number.span().start, "must be at least 1".to_owned())),
        number => Ok(number),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: None,
            discover: true,
            model: None,
            prompts: Vec::new(),
            pack_dirs: Vec::new(),
            settings: SettingsLayer::default(),
            engines: Vec::new(),
            llama_server_command: None,
            llama_server: LlamaServerSettings::default(),
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
    pub fn load(path: &Path, required: bool) -> Result<Self, TomlFileError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            // A home folder that is no folder has no config file either.
            Err(e)
                if !required
                    && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Self::default())
            }
            Err(source) => Err(TomlFileError::Read {
                kind: "config file",
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TomlFileError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        toml_file::parse(text, path, SCHEMA, |file: ConfigToml| {
            file.into_config(folder)
        })
    }
}

impl ConfigToml {
    fn into_config(self, folder: &Path) -> Result<Config, ErrorAt> {
        let Table(mut defaults) = self.defaults;
        let settings = defaults.settings()?;
        let engines = self
            .engines
            .into_iter()
            .map(|(name, Table(engine))| EngineConfig {
                name,
                url: engine.url,
                dialect: engine.dialect,
                key_env: engine.key_env,
                ca_file: engine.ca_file.map(|path| folder.join(path)),
                insecure: engine.insecure,
                headers: engine.headers,
            });
        let prompts = defaults.prompts.into_vec();
        let pack_dirs = defaults.pack_dirs.into_vec();
        let Table(mut llama_server) = self.llama_server;
        let command = llama_server.command.take();
        Ok(Config {
            engine: defaults.engine,
            discover: defaults.discover.unwrap_or(true),
            model: defaults
                .model
                .map(|model| resolve_model_path(folder, model)),
            prompts: prompts.iter().map(|path| folder.join(path)).collect(),
            pack_dirs: pack_dirs.iter().map(|path| folder.join(path)).collect(),
            settings,
            engines: engines.collect(),
            llama_server_command: command.map(|command| resolve_command(folder, command)),
            llama_server: llama_server.into_settings()?,
            timeouts: self.timeouts.0,
            limits: self.limits.0,
        })
    }
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

/// Resolves the path of a program relative to `folder`; returns a bare name unchanged.
fn resolve_command(folder: &Path, command: PathBuf) -> PathBuf {
    match command.components().count() {
        1 => command,
        _ => folder.join(command),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lmstrix_inference::MaxTokens;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/c.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_all_sections() {
        let config = parse(
            "schema = 1\n[defaults]\nengine = 'embedded'\nmodel = 'm.gguf'\nprompts = ['a.toml', '/b.toml']\n\
             pack_dirs = 'packs'\ntemperature = 0.2\nmax_tokens = '50%'\nstop = 'END'\n[limits]\npack_push_ms = 5\n",
        )
        .unwrap();
        assert_eq!(config.engine.as_deref(), Some("embedded"));
        assert_eq!(config.model.as_deref(), Some("/etc/m.gguf"));
        assert_eq!(
            config.prompts,
            [Path::new("/etc/a.toml"), Path::new("/b.toml")]
        );
        assert_eq!(config.pack_dirs, [Path::new("/etc/packs")]);
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
                Some(TimeLimit(Some(Duration::from_secs(300)))),
                Some(TimeLimit(None)),
                Some(TimeLimit(Some(Duration::from_millis(1500))))
            )
        );
        assert_eq!(config.timeouts.total, None);
        let config = parse(
            "[llama_server]\ncommand = 'bin/llama-server'\ncontext = 8192\nslots = 2\n\
             gpu_layers = 99\nargs = ['-fa', 'on']\n",
        )
        .unwrap();
        let command = config.llama_server_command.as_deref();
        assert_eq!(command, Some(Path::new("/etc/bin/llama-server")));
        assert_eq!(
            config.llama_server,
            LlamaServerSettings {
                context: Some(8192),
                slots: Some(2),
                threads: None,
                gpu_layers: Some(GpuLayers::Count(99)),
                args: vec!["-fa".to_owned(), "on".to_owned()],
            }
        );
    }

    #[test]
    fn errors_name_the_position() {
        for (text, start, expected) in [
            (
                "[defaults]\ntemprature = 1\n",
                "/etc/c.toml:2:1:",
                "did you mean `temperature`?",
            ),
            ("x = \n", "/etc/c.toml:1:5:", ""),
            ("schema = 2\n", "/etc/c.toml:1:10:", "unsupported schema 2"),
            ("[defaults]\ntop_p = 3.0\n", "/etc/c.toml:2:9:", "top_p"),
            (
                "# top_p\n[defaults]\n  top_p = 3.0\n",
                "/etc/c.toml:3:11:",
                "top_p",
            ),
            ("[defaults]\nmax_tokens = 'x'\n", "/etc/c.toml:2:14:", "max"),
            (
                "[engines.x]\nurl = 'h'\nheaders = { A = { var = 'B' } }\n",
                "/etc/c.toml:3:17:",
                "expected a text, or { env = \"NAME\" }",
            ),
            (
                "[timeouts]\nload = '5x'\n",
                "/etc/c.toml:2:8:",
                "invalid value `5x`",
            ),
            (
                "[engines.a]\nurl = 'x'\nkey = 'sk'\n",
                "/etc/c.toml:3:1:",
                "unknown key `key`",
            ),
            (
                "[llama_server]\nargs = ['-fa', 'on', '--port', '1']\n",
                "/etc/c.toml:2:8:",
                "`--port` cannot be set here",
            ),
            (
                "[llama_server]\nslots = 0\n",
                "/etc/c.toml:2:9:",
                "must be at least 1",
            ),
            (
                "[llama_server]\ngpu_layers = 'some'\n",
                "/etc/c.toml:2:14:",
                "a number of layers, `auto` or `all`",
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
        assert!(matches!(
            Config::load(path, true),
            Err(TomlFileError::Read { .. })
        ));
    }
}
