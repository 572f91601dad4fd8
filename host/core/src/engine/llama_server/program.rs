//! The executable of llama-server, and the flags that it knows. They are read from its
//! `--help` once, and kept until the executable changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::failure::{LlamaServerFailure, LlamaServerFault};
use super::options::LlamaServerOptions;
use super::tied_child::{end_group, lead_group};
use crate::store::{AtomicFile, sha256_hex};

/// The time that `--help` may take. A build for GPUs looks for them first.
const HELP_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of output that are read. `--help` has some 60,000.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// The variable of the API key.
pub(super) const KEY_VARIABLE: &str = "LLAMA_API_KEY";

const SCHEMA: u32 = 1;

/// A llama-server executable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    schema: u32,
    pub(super) path: PathBuf,
    flags: BTreeSet<String>,
    /// True if it takes an API key from [`KEY_VARIABLE`].
    pub(super) has_key_variable: bool,
    /// The first line of `--version`, if there is one.
    pub(super) version: Option<String>,
}

impl Program {
    /// Returns the executable of the options with its flags.
    ///
    /// # Errors
    /// Returns an error if the executable does not exist, cannot be started, or lacks flags
    /// without which it cannot be used.
    pub(super) async fn inspect(options: &LlamaServerOptions) -> Result<Self, LlamaServerFailure> {
        let path = options.program.clone().unwrap_or_default();
        let failure = |fault| LlamaServerFailure {
            program: path.clone(),
            model: String::new(),
            fault,
            lines: Vec::new(),
            log: None,
        };
        let not_started = |cause: String| failure(LlamaServerFault::NotStarted(cause));
        let cached = cache_file(&path, &options.cache_dir)
            .map_err(|error| not_started(error.to_string()))?;
        if let Some(known) = read_cached(&cached) {
            return Ok(known);
        }
        let help = output_of(&path, "--help").await.map_err(not_started)?;
        let version = output_of(&path, "--version").await.unwrap_or_default();
        let program = Self::from_help(path.clone(), &help, &version);
        if let Some(lacking) = program.lacks() {
            return Err(failure(LlamaServerFault::Lacks(lacking.to_owned())));
        }
        program.write_cached(&cached);
        Ok(program)
    }

    fn from_help(path: PathBuf, help: &str, version: &str) -> Self {
        let of_flags = help.lines().map(str::trim_start);
        let words = of_flags
            .filter(|line| line.starts_with('-'))
            .flat_map(str::split_whitespace)
            .map(|word| word.trim_end_matches(','));
        let flags = words.filter(|word| is_flag(word)).map(str::to_owned);
        let version = version.lines().find_map(|line| {
            let version = line.trim().strip_prefix("version:")?;
            Some(version.trim().to_owned())
        });
        Self {
            schema: SCHEMA,
            path,
            flags: flags.collect(),
            has_key_variable: help.contains(KEY_VARIABLE),
            version,
        }
    }

    /// Returns whether the executable knows a flag.
    pub(super) fn knows(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// Returns what the executable lacks to be used.
    fn lacks(&self) -> Option<&'static str> {
        let needed = ["--model", "--ctx-size", "--parallel", "--host", "--port"];
        let flag = needed.into_iter().find(|flag| !self.knows(flag));
        let has_key = self.has_key_variable || self.knows("--api-key-file");
        flag.or((!has_key).then_some("API key by environment or file"))
    }

    /// Keeps what is known of the executable. A folder that cannot be written costs a start
    /// of the executable each time.
    fn write_cached(&self, file: &Path) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or(Path::new("")))?;
            AtomicFile::replace(file, &serde_json::to_vec(self)?)
        };
        if let Err(error) = write() {
            tracing::info!(%error, "flags of llama-server not kept");
        }
    }

    /// Removes what is known of the executable.
    pub(super) fn forget(&self, cache_dir: &Path) {
        let removed = cache_file(&self.path, cache_dir).and_then(fs::remove_file);
        if let Err(error) = removed {
            tracing::debug!(%error, "flags of llama-server not removed");
        }
    }

    /// Returns the free memory of the devices that the executable can use besides the CPU,
    /// in bytes; 0 if it is not reported.
    pub(super) async fn free_device_bytes(&self) -> u64 {
        if !self.knows("--list-devices") {
            return 0;
        }
        let devices = output_of(&self.path, "--list-devices").await;
        free_bytes(&devices.unwrap_or_default())
    }
}

/// Returns the file for what is known of an executable: its name changes with the executable.
///
/// # Errors
/// Returns an error if the executable cannot be read.
fn cache_file(program: &Path, folder: &Path) -> std::io::Result<PathBuf> {
    // The error is shown with the path.
    let metadata = program.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
    let identity = format!(
        "{}\n{}\n{}",
        program.display(),
        metadata.len(),
        modified.unwrap_or_default().as_nanos()
    );
    let mut digest = sha256_hex(identity.as_bytes());
    digest.truncate(16);
    Ok(folder.join("llama-server").join(format!("{digest}.json")))
}

fn read_cached(file: &Path) -> Option<Program> {
    let program: Program = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (program.schema == SCHEMA).then_some(program)
}

/// Returns the output of the executable with one argument, stderr included.
async fn output_of(program: &Path, argument: &str) -> Result<String, String> {
    let mut command = std::process::Command::new(program);
    lead_group(&mut command);
    let mut command = Command::from(command);
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Closing the pipes at the limit ends a program that prints without end.
    let reading = async { tokio::join!(read_limited(stdout), read_limited(stderr)) };
    let read = tokio::time::timeout(HELP_LIMIT, reading).await;
    // Also what a script has started.
    child.id().into_iter().for_each(end_group);
    let (stdout, stderr) =
        read.map_err(|_| format!("`{argument}` took more than {} s", HELP_LIMIT.as_secs()))?;
    Ok(stdout + &stderr)
}

/// Reads at most [`OUTPUT_BYTES_MAX`] of a pipe.
async fn read_limited(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // An error ends the output.
        let _read = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| {
        let name = rest.strip_prefix('-').unwrap_or(rest);
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

/// Returns the sum of the free memory in a list of devices with lines such as
/// `CUDA0: NVIDIA H100 (81079 MiB, 80500 MiB free)`, in bytes.
fn free_bytes(devices: &str) -> u64 {
    let of_line = |line: &str| -> Option<u64> {
        let (before, _) = line.rsplit_once(" MiB free")?;
        let number = before.rsplit([' ', ',', '(']).next()?;
        number.parse::<u64>().ok()?.checked_mul(1 << 20)
    };
    devices
        .lines()
        .filter_map(of_line)
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_help() {
        let help = "----- common params -----\n\n\
            -h,    --help, --usage                  print usage and exit\n\
            -c,    --ctx-size N                     size of the prompt context (default: 0)\n\
            \x20                                       (env: LLAMA_ARG_CTX_SIZE)\n\
            --mlock                                 DEPRECATED in favor of `--load-mode`\n\
            \x20                                        - auto: mmap, --unless\n\
            -ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers\n";
        let program = Program::from_help("llama-server".into(), help, "x\nversion: 5 (abc)\n");
        for flag in ["-h", "--help", "--usage", "-c", "--ctx-size", "--mlock"] {
            assert!(program.knows(flag), "{flag}");
        }
        for flag in ["--load-mode", "-", "-----", "--port"] {
            assert!(!program.knows(flag), "{flag}");
        }
        assert!(program.knows("--n-gpu-layers"));
        assert_eq!(program.version.as_deref(), Some("5 (abc)"));
        assert_eq!(program.lacks(), Some("--model"));
    }

    #[test]
    fn the_free_memory_of_devices_is_added() {
        let devices = "Available devices:\n  \
            CUDA0: NVIDIA H100 (81079 MiB, 2 MiB free)\n  \
            Vulkan0: llvmpipe (10 MiB, 3 MiB free)\n  BLAS: x\n";
        assert_eq!(free_bytes(devices), 5 << 20);
        assert_eq!(free_bytes("(none)"), 0);
    }
}
