//! How llama-server is found and started, as the config sets it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// How llama-server is found and started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LlamaServerOptions {
    /// The executable; `None` if not found.
    pub program: Option<PathBuf>,
    /// True if the config names the executable. One that was only found on the PATH and cannot
    /// be used is replaced by the embedded engine.
    pub is_configured: bool,
    /// A program that runs [`run_supervisor`](super::run_supervisor) for the argument
    /// [`SUPERVISOR_COMMAND`](super::SUPERVISOR_COMMAND) and [`run_tied`](super::run_tied) for
    /// the arguments after [`TIED_COMMAND`](super::TIED_COMMAND). Without one, no server is
    /// started.
    pub supervisor: Option<PathBuf>,
    /// The folder for what is known of executables.
    pub cache_dir: PathBuf,
    /// The settings of each server.
    pub settings: LlamaServerSettings,
}

impl LlamaServerOptions {
    /// Returns whether servers can be started.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.program.is_some() && self.supervisor.is_some()
    }
}

/// The settings of each server. `None` leaves a value to llama-server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LlamaServerSettings {
    /// The context length of one slot without a request for another, in tokens.
    pub context: Option<u32>,
    /// The number of inferences at once; 1 if absent.
    pub slots: Option<u32>,
    /// The number of CPU threads.
    pub threads: Option<u32>,
    /// The layers that run on a GPU.
    pub gpu_layers: Option<GpuLayers>,
    /// Further arguments.
    pub args: Vec<String>,
}

/// The number of layers that run on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit.
    Auto,
    /// All layers.
    All,
    /// This many.
    Count(u32),
}

impl FromStr for GpuLayers {
    type Err = String;

    /// Parses a number, `auto` or `all`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::All),
            number => {
                let count = number.parse();
                count
                    .map(Self::Count)
                    .map_err(|_| "expected a number of layers, `auto` or `all`".to_owned())
            }
        }
    }
}

impl fmt::Display for GpuLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl<'de> Deserialize<'de> for GpuLayers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::toml_file::from_scalar(deserializer)
    }
}

/// Flags that this program sets itself, that choose the model, or that would keep it from
/// reaching the server.
const RESERVED_FLAGS: [&str; 41] = [
    "-h",
    "--help",
    "--usage",
    "--version",
    "-dr",
    "--docker-repo",
    "-hff",
    "--hf-file",
    "--models-dir",
    "--models-preset",
    "--ssl-key-file",
    "--ssl-cert-file",
    "-lv",
    "--log-verbosity",
    "--verbosity",
    "--reuse-port",
    "-m",
    "--model",
    "-mu",
    "--model-url",
    "-hf",
    "-hfr",
    "--hf-repo",
    "-a",
    "--alias",
    "-c",
    "--ctx-size",
    "-np",
    "--parallel",
    "-t",
    "--threads",
    "-ngl",
    "--gpu-layers",
    "--n-gpu-layers",
    "--host",
    "--port",
    "--api-key",
    "--api-key-file",
    "--api-prefix",
    "--log-disable",
    "--log-file",
];

/// Returns the first of the arguments that must not be set by the user.
#[must_use]
pub fn reserved_flag(args: &[String]) -> Option<&str> {
    // llama.cpp takes `_` for `-`.
    let flag = |arg: &String| {
        let name = arg.split('=').next().unwrap_or_default();
        name.replace('_', "-")
    };
    args.iter()
        .find(|arg| RESERVED_FLAGS.contains(&flag(arg).as_str()))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_this_program_sets_are_reserved() {
        let args = |list: &[&str]| list.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        assert_eq!(reserved_flag(&args(&["-fa", "on", "--mlock"])), None);
        assert_eq!(
            reserved_flag(&args(&["-fa", "on", "--port=80"])),
            Some("--port=80")
        );
        assert_eq!(reserved_flag(&args(&["--api_key", "x"])), Some("--api_key"));
    }

    #[test]
    fn gpu_layers_are_a_number_or_a_word() {
        for text in ["0", "99", "auto", "all"] {
            let layers: GpuLayers = text.parse().unwrap();
            assert_eq!(layers.to_string(), text);
        }
        assert!("-1".parse::<GpuLayers>().is_err());
    }
}
