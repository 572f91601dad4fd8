//! The process: its variables, folders, and the kinds of stdin, stdout and stderr, read
//! once in `main`.

use std::ops::Deref;
use std::path::PathBuf;

use etcetera::BaseStrategy;
use lmstrix::{Environment, Paths};

/// Name of this program's folders.
const FOLDER: &str = "lmstrix-host";
/// The variable of the folder that replaces the platform's folders.
const HOME: &str = "LMSTRIX_HOST_HOME";

/// The process environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    /// Variables and folders, which the library uses.
    environment: Environment,
    /// The path of this program.
    pub(crate) program: PathBuf,
    /// True if stdout is a terminal.
    pub(crate) stdout_is_terminal: bool,
    /// True if stderr is a terminal.
    pub(crate) stderr_is_terminal: bool,
    /// True if stdin can hold an input text: a pipe, a socket or a regular file.
    pub(crate) stdin_has_text: bool,
    /// True if `NO_COLOR` is absent or empty.
    pub(crate) colour: bool,
}

impl Deref for Env {
    type Target = Environment;

    fn deref(&self) -> &Environment {
        &self.environment
    }
}

impl Env {
    /// Reads the process environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that reads the environment"
    )]
    pub(crate) fn read() -> Self {
        use std::io::IsTerminal;
        // A value that is not UTF-8 is shown where it is invalid.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        let home = std::env::var_os(HOME).filter(|home| !home.is_empty());
        let paths = home.map_or_else(platform_paths, Paths::below);
        let mut environment = Environment::new(variables, paths);
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(FOLDER));
        environment.helper = Some(program.clone());
        Self {
            environment,
            program,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stdin_has_text: stdin_has_text(),
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb"),
        }
    }
}

/// Returns the folders of the platform.
fn platform_paths() -> Paths {
    let Ok(base) = etcetera::choose_base_strategy() else {
        // A service account without a home folder: use the working folder.
        return Paths::below(PathBuf::from(format!(".{FOLDER}")));
    };
    let state = base.state_dir().unwrap_or_else(|| base.data_dir());
    Paths {
        config: base.config_dir().join(FOLDER).join("config.toml"),
        data: base.data_dir().join(FOLDER),
        state: state.join(FOLDER),
        cache: base.cache_dir().join(FOLDER),
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
