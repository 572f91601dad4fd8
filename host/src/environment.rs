//! The process environment, read once in `main`: variables, folders, and the
//! kinds of stdin, stdout and stderr.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::secret::Secret;

/// The process environment.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// Non-empty `LMSTRIX_HOST_*` variables by their names without the prefix,
    /// except the API key.
    pub own_variables: BTreeMap<String, String>,
    /// All non-empty variables. The config can name any of them as the holder of
    /// an API key, so each value is a `Secret`.
    pub all_variables: BTreeMap<String, Secret>,
    /// The folders for config, data, state and cache.
    pub paths: Paths,
    /// The path of this program, for the child process that compiles packs.
    pub program: PathBuf,
    /// True if stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// True if stderr is a terminal.
    pub stderr_is_terminal: bool,
    /// True if stdin can hold an input text: a pipe, a socket or a regular file.
    pub stdin_has_text: bool,
    /// True if `NO_COLOR` is absent or empty.
    pub colour: bool,
}

/// The user's files and folders of this program.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The config file.
    pub config: PathBuf,
    /// The data folder: registry, packs and models.
    pub data: PathBuf,
    /// The state folder: data that must persist but is not configuration, such
    /// as raw answers that could not be written elsewhere.
    pub state: PathBuf,
    /// The cache folder: data that can be recreated, such as compiled packs.
    pub cache: PathBuf,
}

/// Prefix of this program's environment variables.
const PREFIX: &str = "LMSTRIX_HOST_";
/// Name of this program's folders.
const FOLDER: &str = "lmstrix-host";

impl Env {
    /// Reads the process environment.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that reads the environment"
    )]
    pub fn read() -> Self {
        use std::io::IsTerminal;
        let all_variables = std::env::vars_os()
            .filter_map(|(name, value)| {
                let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
                (!value.is_empty()).then(|| (name, Secret::new(&value)))
            })
            .collect();
        let own_variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.to_str()?.strip_prefix(PREFIX)?.to_owned();
                Some((name, value.to_string_lossy().into_owned()))
            })
            // The key must not be shown; it is in `all_variables` as a secret.
            .filter(|(name, _)| name != "API_KEY")
            // Shells and services unset a variable with `VARIABLE=`.
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            paths: Paths::new(own_variables.get("HOME")),
            own_variables,
            all_variables,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(FOLDER)),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stdin_has_text: stdin_has_text(),
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

impl Paths {
    /// Returns the folders below `home` if given, else those of the platform.
    fn new(home: Option<&String>) -> Self {
        use etcetera::BaseStrategy;
        if let Some(home) = home {
            let home = PathBuf::from(home);
            return Self {
                config: home.join("config.toml"),
                data: home.join("data"),
                state: home.join("state"),
                cache: home.join("cache"),
            };
        }
        let Ok(base) = etcetera::choose_base_strategy() else {
            // A service account without a home folder: use the working folder.
            let folder = PathBuf::from(format!(".{FOLDER}"));
            return Self {
                config: folder.join("config.toml"),
                data: folder.join("data"),
                state: folder.join("state"),
                cache: folder.join("cache"),
            };
        };
        Self {
            config: base.config_dir().join(FOLDER).join("config.toml"),
            data: base.data_dir().join(FOLDER),
            state: base
                .state_dir()
                .unwrap_or_else(|| base.data_dir())
                .join(FOLDER),
            cache: base.cache_dir().join(FOLDER),
        }
    }
}

/// Returns true if stdin is a pipe, a socket or a regular file. Other devices
/// are excluded: services have `/dev/null` as stdin, and reading from a terminal
/// would wait for input.
#[cfg(unix)]
fn stdin_has_text() -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(std::io::stdin()).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket | FileType::RegularFile
        )
    })
}

#[cfg(not(unix))]
fn stdin_has_text() -> bool {
    use std::io::IsTerminal;
    !std::io::stdin().is_terminal()
}
