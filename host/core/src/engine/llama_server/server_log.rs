//! The output of a server: a file with a limit, its last lines, and the ports that it names.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::store::{DAY, Sweep, create_plain};

/// The most bytes of a log file. A full one is renamed, and the one before it is removed.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of a line.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// The bytes at the end of a log that are searched for its last lines.
const TAIL_BYTES: u64 = 32 << 10;
/// The most characters of a line in an error.
const LINE_CHARS_MAX: usize = 240;

/// The end of the names of log files.
pub(super) const LOG_EXTENSION: &str = "log";

/// Logs are kept for some days, and only the newest.
pub(super) const OLD_LOGS: Sweep = Sweep {
    prefix: "",
    suffix: ".log",
    age_max: DAY.saturating_mul(7),
    bytes_max: 16 << 20,
};

/// Copies the output of a server into its log file until it ends. Calls `on_port` with each
/// port that a line says the server listens at. Text of a model file may be in the output,
/// too, so a port counts only if it is the expected one.
pub(super) fn copy_output(output: impl Read, log: &Path, mut on_port: impl FnMut(u16)) {
    let mut file = LogFile::create(log);
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        if let Some(port) = listening_port(&String::from_utf8_lossy(&line)) {
            on_port(port);
        }
        // A full disk must not end the server.
        let _not_written = file.as_mut().map(|file| file.write(&line));
    }
}

/// A log file with a limit.
struct LogFile {
    path: PathBuf,
    file: fs::File,
    bytes: u64,
}

impl LogFile {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: create_private(path)?,
            path: path.to_owned(),
            bytes: 0,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let bytes = line.len() as u64;
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > LOG_BYTES_MAX {
            fs::rename(&self.path, earlier(&self.path))?;
            *self = Self::create(&self.path)?;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.file.write_all(line)
    }
}

/// Creates a file that other users cannot read: the output of a server may show prompts.
fn create_private(path: &Path) -> io::Result<fs::File> {
    let file = create_plain(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Returns the path of the log that was full.
fn earlier(log: &Path) -> PathBuf {
    log.with_extension(format!("earlier.{LOG_EXTENSION}"))
}

/// Returns the port in a line such as `srv llama_server: listening on http://127.0.0.1:45201`.
fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening")?;
    let (_, address) = rest.split_once("127.0.0.1:")?;
    let digits = address.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Returns the last lines of a log that are not empty, shortened and without control
/// characters.
pub(super) fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let tail = read_tail(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let skipped = lines.len().saturating_sub(count);
    let shown = lines.into_iter().skip(skipped).map(|line| {
        let visible = line.chars().filter(|c| !c.is_control());
        visible.take(LINE_CHARS_MAX).collect()
    });
    shown.collect()
}

fn read_tail(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_the_line_about_the_address() {
        for (line, port) in [
            (
                "0.01.627.071 I srv  llama_server: listening on http://127.0.0.1:45201",
                Some(45201),
            ),
            (
                "main: server is listening on http://127.0.0.1:8080 - starting the main loop",
                Some(8080),
            ),
            (
                "main: HTTP server is listening, hostname: 127.0.0.1, port: 0",
                None,
            ),
            ("listening on http://127.0.0.1:99999", None),
            ("srv load_model: loading model 'x'", None),
        ] {
            assert_eq!(listening_port(line), port, "{line}");
        }
    }

    #[test]
    fn a_log_has_a_limit_and_its_last_lines_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        let mut output = vec![b'x'; 3 << 20];
        for line in output.chunks_mut(1000) {
            line[0] = b'\n';
        }
        output.extend(b"\n\x1b[31mfirst\n\nlistening on http://127.0.0.1:7\nlast");
        let mut ports = Vec::new();
        copy_output(output.as_slice(), &log, |port| ports.push(port));
        assert_eq!(ports, [7]);
        assert_eq!(
            last_lines(&log, 3),
            ["[31mfirst", "listening on http://127.0.0.1:7", "last"]
        );
        let files = fs::read_dir(folder.path()).unwrap();
        let sizes: Vec<u64> = files
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= LOG_BYTES_MAX), "{sizes:?}");
        assert_eq!(last_lines(&folder.path().join("none"), 3), [""; 0]);
    }
}
