//! The world around the program, read once in `main`: variables, folders,
//! what stdin, stdout and stderr are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::secret::Secret;

/// Everything that is read from outside, except files.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// `LMSTRIX_HOST_*`, without the prefix.
    pub own: BTreeMap<String, String>,
    /// All other variables: the config names those that hold keys, so each is
    /// kept as a secret.
    pub others: BTreeMap<String, Secret>,
    /// Where config, data, state and cache lie.
    pub paths: Paths,
    /// This program, for the compiling child.
    pub program: PathBuf,
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub stderr_is_terminal: bool,
    /// Whether stdin is a pipe or a file, which may hold a text.
    pub stdin_has_text: bool,
    /// Whether colours are wanted: `NO_COLOR` is absent or empty.
    pub colour: bool,
}

/// The user's folders for this program.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The config file.
    pub config: PathBuf,
    /// Packs and models.
    pub data: PathBuf,
    /// What must survive, but is no setting: raw answers that no file took.
    pub state: PathBuf,
    /// What can be made again: compiled packs.
    pub cache: PathBuf,
}

/// The prefix of our own variables.
const PREFIX: &str = "LMSTRIX_HOST_";
/// The name of our folders.
const FOLDER: &str = "lmstrix-host";

impl Env {
    /// Reads the process's environment. Only `main` calls this.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place, called from main"
    )]
    pub fn read() -> Self {
        use std::io::IsTerminal;
        let others = std::env::vars_os()
            .filter_map(|(name, value)| {
                let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
                (!value.is_empty()).then(|| (name, Secret::new(&value)))
            })
            .collect();
        let own: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.to_str()?.strip_prefix(PREFIX)?.to_owned();
                Some((name, value.to_string_lossy().into_owned()))
            })
            // A key, which nothing may show: it is among the others.
            .filter(|(name, _)| name != "API_KEY")
            // `VARIABLE=` is how shells and services take one back.
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            paths: Paths::new(own.get("HOME")),
            own,
            others,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from(FOLDER)),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stdin_has_text: stdin_has_text(),
            colour: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
        }
    }
}

impl Paths {
    /// Under `home` when given, else where the platform keeps such things.
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
            // No home at all (a bare service account): beside the work.
            let here = PathBuf::from(format!(".{FOLDER}"));
            return Self {
                config: here.join("config.toml"),
                data: here.join("data"),
                state: here.join("state"),
                cache: here.join("cache"),
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

/// A pipe, a socket or a regular file. `/dev/null`, which services have as
/// their stdin, holds no text, and a terminal is never waited for.
#[cfg(unix)]
fn stdin_has_text() -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(std::io::stdin()).is_ok_and(|it| {
        matches!(
            FileType::from_raw_mode(it.st_mode),
            FileType::Fifo | FileType::Socket | FileType::RegularFile
        )
    })
}

#[cfg(not(unix))]
fn stdin_has_text() -> bool {
    use std::io::IsTerminal;
    !std::io::stdin().is_terminal()
}
