//! Runs the program in a temporary folder with a cleared environment.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// An isolated machine: a temporary home and work folder.
pub(crate) struct Machine {
    root: TempDir,
}

/// The result of a run.
#[must_use = "check the result of the run"]
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// Returns stdout as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Asserts success and returns stdout.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.text()
    }

    /// Asserts an exit code and that stdout is empty; returns stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.text(), "", "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        // A pack may panic; this program must not.
        assert!(!self.stderr.contains("panicked at host/"), "{self:?}");
        &self.stderr
    }

    /// Returns stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Returns a cache folder with the compiled standard pack. Compiling takes a second, so it is
/// done once for all tests.
fn compiled_pack_cache() -> &'static Path {
    static SEED: OnceLock<Machine> = OnceLock::new();
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let seed = SEED.get_or_init(Machine::without_cache);
        seed.run(&["render", "{{text}}", "--text", "x"]).ok();
        seed.home().join("cache/packs")
    })
}

impl Machine {
    /// Creates a machine on which the standard pack is already compiled.
    pub(crate) fn new() -> Self {
        let machine = Self::without_cache();
        let cache = machine.home().join("cache/packs");
        create_private_folder(&cache);
        for entry in std::fs::read_dir(compiled_pack_cache()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "cwasm")
            {
                std::fs::copy(&path, cache.join(path.file_name().unwrap())).unwrap();
            }
        }
        machine
    }

    /// Creates a machine on which the program has never run.
    pub(crate) fn without_cache() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        // Do not discover servers on the developer's machine.
        let config = root.path().join("home/config.toml");
        std::fs::write(config, "[defaults]\ndiscover = false\n").unwrap();
        Self { root }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns a client of the library with this machine's folders and without variables.
    pub(crate) fn client(&self) -> lmstrix::Client {
        let mut environment = lmstrix::Environment::new([], lmstrix::Paths::below(self.home()));
        environment.helper = Some(env!("CARGO_BIN_EXE_lmstrix-host").into());
        lmstrix::Client::new(environment).unwrap()
    }

    /// The current folder of runs.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.work().join(name)).unwrap()
    }

    /// Returns the sorted file names in the work folder.
    pub(crate) fn file_names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.work())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Copies a pack to `./packs`.
    pub(crate) fn install_pack(&self, name: &str, component: &Path) -> PathBuf {
        self.write(
            &format!("packs/{name}.wasm"),
            std::fs::read(component).unwrap(),
        )
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_lmstrix-host")), args)
    }

    /// Returns a command that file permissions restrict: root runs it as the user `nobody`,
    /// which then owns the home folder.
    #[cfg(unix)]
    pub(crate) fn command_without_root(&self, args: &[&str]) -> Command {
        use std::os::unix::fs::{PermissionsExt, chown};
        use std::os::unix::process::CommandExt;
        const NOBODY: u32 = 65_534;
        if !rustix::process::geteuid().is_root() {
            return self.command(args);
        }
        // The folders above the built program may be closed to other users.
        let program = self.root.path().join("lmstrix-host");
        std::fs::copy(env!("CARGO_BIN_EXE_lmstrix-host"), &program).unwrap();
        for path in [self.root.path(), &program] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut paths = vec![self.home()];
        while let Some(path) = paths.pop() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.is_dir() {
                paths.extend(
                    std::fs::read_dir(path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
        let mut command = self.command_of(&program, args);
        command.uid(NOBODY).gid(NOBODY);
        command
    }

    pub(crate) fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("LMSTRIX_HOST_HOME", self.home())
            .current_dir(self.work())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        finish(self.command(args).spawn().unwrap())
    }

    /// Runs with stdout and stderr on a terminal, without colours. Returns the exit code and
    /// the terminal output.
    #[cfg(unix)]
    pub(crate) fn run_on_terminal(&self, args: &[&str]) -> (Option<i32>, String) {
        self.run_on_terminal_with(args, ("NO_COLOR", "1"))
    }

    /// Runs with stdout and stderr on a terminal, and with a variable. Returns the exit code
    /// and the terminal output.
    #[cfg(unix)]
    pub(crate) fn run_on_terminal_with(
        &self,
        args: &[&str],
        (variable, value): (&str, &str),
    ) -> (Option<i32>, String) {
        use std::io::Read;

        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.into_string().unwrap())
            .unwrap();
        let mut command = self.command(args);
        command
            .env(variable, value)
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let mut child = command.spawn().unwrap();
        // The command also has the terminal open; the read below would never end.
        drop(command);
        let mut output = Vec::new();
        // Reading ends with EIO when the child has closed the terminal.
        let _eio = std::fs::File::from(master).read_to_end(&mut output);
        let code = child.wait().unwrap().code();
        (code, String::from_utf8(output).unwrap())
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Run {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // The program may close the pipe without reading it.
        let writer = std::thread::spawn(move || pipe.write_all(&stdin).is_ok());
        let run = finish(child);
        writer.join().unwrap();
        run
    }
}

pub(crate) fn finish(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Creates a named pipe with the program `mkfifo`, since rustix has no such function on macOS.
#[cfg(unix)]
pub(crate) fn make_pipe(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

/// Sends SIGINT to the program, as Ctrl-C does.
#[cfg(unix)]
pub(crate) fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[cfg(unix)]
fn create_private_folder(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .unwrap();
}

#[cfg(not(unix))]
fn create_private_folder(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
}

/// A generator of pseudo-random numbers (Knuth's constants for 64 bits).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Returns the seeds that `variable` gives as `SEED:COUNT`, else 1 to `count`.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test has an environment of its own"
)]
pub(crate) fn seeds(variable: &str, count: u64) -> Range<u64> {
    let Ok(given) = std::env::var(variable) else {
        return 1..1 + count;
    };
    let parsed = given.split_once(':').and_then(|(first, count)| {
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        Some(first..first + count)
    });
    parsed.unwrap_or_else(|| panic!("{variable} is SEED:COUNT"))
}

/// Waits until the condition holds. Panics after 60 s.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < std::time::Duration::from_secs(60),
            "timed out"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
