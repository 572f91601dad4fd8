//! An isolated machine: a temporary folder, in which programs run with a cleared environment.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::launcher::{self, Cost};
use crate::peers::variable;
use crate::timing::Failure;

/// A temporary home and work folder.
pub(crate) struct Machine {
    root: TempDir,
    runs: Cell<usize>,
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    /// `{run}` in an argument stands for a number that differs in each run.
    pub(crate) args: Vec<String>,
    /// The short form of the command line, for the table.
    pub(crate) shown: String,
    /// Text that stdout must contain; empty if any output is right.
    pub(crate) expected: String,
}

impl Call {
    /// Returns a call of lmstrix-host.
    pub(crate) fn ours(args: &[&str], shown: &str) -> Self {
        Self::new(Path::new(env!("CARGO_BIN_EXE_lmstrix-host")), args, shown)
    }

    pub(crate) fn new(program: &Path, args: &[&str], shown: &str) -> Self {
        Self {
            program: program.to_path_buf(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            shown: shown.to_owned(),
            expected: String::new(),
        }
    }

    /// Requires that stdout contains `text`.
    pub(crate) fn expecting(self, text: &str) -> Self {
        let expected = text.to_owned();
        Self { expected, ..self }
    }
}

impl Machine {
    pub(crate) fn new() -> Result<Self, Failure> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join("home"))?;
        let runs = Cell::new(0);
        Ok(Self { root, runs })
    }

    /// Returns the work folder.
    pub(crate) fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Returns the folder of configuration and state, of lmstrix-host and of other programs.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// Writes a file in the work folder, and the folders above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        let path = self.folder().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, text)?)
    }

    /// Writes a file with `count` rows for a batch.
    pub(crate) fn write_rows(&self, name: &str, count: usize) -> Result<(), Failure> {
        let rows: String = (0..count)
            .map(|number| format!("{{\"text\":\"word {number}\"}}\n"))
            .collect();
        self.write(name, rows)
    }

    /// Returns the output of the last run on stdout.
    pub(crate) fn stdout(&self) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(self.folder().join("stdout"))?)
    }

    /// Runs a program. Errors if it fails, or does not print the expected text.
    pub(crate) fn run(&self, call: &Call) -> Result<Cost, Failure> {
        self.runs.set(self.runs.get() + 1);
        let number = self.runs.get().to_string();
        let args = call.args.iter().map(|arg| arg.replace("{run}", &number));
        let file = |name: &str| self.folder().join(name);
        let [result, stdout, stderr] = ["result.json", "stdout", "stderr"].map(file);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(launcher::FLAG)
            .args([&result, &call.program])
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&stdout)?)
            .stderr(std::fs::File::create(&stderr)?);
        // Windows starts no process without `SystemRoot`.
        for name in ["PATH", "SystemRoot"] {
            if let Some(value) = variable(name) {
                command.env(name, value);
            }
        }
        for name in [
            "HOME",
            "LMSTRIX_HOST_HOME",
            "AICHAT_CONFIG_DIR",
            "LLM_USER_PATH",
            "PROMPTFOO_CONFIG_DIR",
        ] {
            command.env(name, self.home());
        }
        // promptfoo needs a key, also for a server that ignores it.
        for name in [
            "PROMPTFOO_DISABLE_TELEMETRY",
            "PROMPTFOO_DISABLE_UPDATE",
            "OPENAI_API_KEY",
        ] {
            command.env(name, "1");
        }
        let status = command.status()?;
        let cost = if status.success() {
            launcher::read_cost(&result)
        } else {
            Err(status.to_string().into())
        };
        let failure = match cost {
            Ok(cost) => {
                if self.stdout()?.contains(&call.expected) {
                    return Ok(cost);
                }
                format!("`{}` is missing in stdout", call.expected).into()
            }
            Err(e) => e,
        };
        let stderr = std::fs::read(&stderr)?;
        let stderr = String::from_utf8_lossy(&stderr);
        Err(format!("`{}` failed: {failure}\n{}", call.shown, stderr.trim_end()).into())
    }
}
