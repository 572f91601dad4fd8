//! What the program that uses the library knows of its process: variables and folders. The
//! library itself reads neither.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::secret::Secret;

/// Variables and folders, given by the program that uses the library.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Non-empty `LMSTRIX_HOST_*` variables by their names without the prefix,
    /// except the API key.
    pub own_variables: BTreeMap<String, String>,
    /// All non-empty variables. The config can name any of them as the holder of
    /// an API key, so each value is a `Secret`.
    pub all_variables: BTreeMap<String, Secret>,
    /// The folders for config, data, state and cache.
    pub paths: Paths,
    /// A program that runs [`run_compile_child`](lmstrix_sandbox::run_compile_child) for the
    /// command [`CHILD_COMMAND`](lmstrix_sandbox::CHILD_COMMAND), and `engine::run_supervisor`
    /// and `engine::run_tied` for the commands `engine::SUPERVISOR_COMMAND` and
    /// `engine::TIED_COMMAND`. Packs are compiled in it, within limits of memory and time;
    /// without one, in this process. Without one, no llama-server is started.
    pub helper: Option<PathBuf>,
}

/// The files and folders of the user.
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

/// Prefix of this program's variables.
const PREFIX: &str = "LMSTRIX_HOST_";

impl Environment {
    /// Creates an environment of variables, by name, and folders. Empty variables count
    /// as absent, since shells and services unset a variable with `VARIABLE=`.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, paths: Paths) -> Self {
        let mut environment = Self {
            paths,
            ..Self::default()
        };
        for (name, value) in variables {
            if value.is_empty() {
                continue;
            }
            // The key must not be shown; it is in `all_variables` as a secret.
            if let Some(own) = name.strip_prefix(PREFIX)
                && own != "API_KEY"
            {
                environment
                    .own_variables
                    .insert(own.to_owned(), value.clone());
            }
            environment.all_variables.insert(name, Secret::new(&value));
        }
        environment
    }
}

impl Paths {
    /// Returns the paths below one folder.
    #[must_use]
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            config: folder.join("config.toml"),
            data: folder.join("data"),
            state: folder.join("state"),
            cache: folder.join("cache"),
        }
    }
}
