//! The output of a pack on stdout and stderr, which is kept for its author.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that are kept from the start.
const FIRST_BYTES: usize = 16 << 10;
/// Bytes that are kept from the end, since a pack that fails says why last.
const LAST_BYTES: usize = 2 << 10;

/// The stdout and stderr of one store, in one stream: the first bytes and the last ones.
#[derive(Clone, Debug, Default)]
pub(super) struct CapturedOutput {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    first: Vec<u8>,
    last: VecDeque<u8>,
    left_out: usize,
}

impl CapturedOutput {
    /// Returns the text that was written.
    pub(super) fn text(&self) -> String {
        let Ok(kept) = self.kept.lock() else {
            return String::new();
        };
        let mut bytes = kept.first.clone();
        if kept.left_out > 0 {
            bytes.extend(format!("\n[{} bytes left out]\n", kept.left_out).into_bytes());
        }
        bytes.extend(&kept.last);
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

impl Kept {
    fn write(&mut self, written: &[u8]) {
        let free = FIRST_BYTES - self.first.len();
        let (first, rest) = written.split_at(free.min(written.len()));
        self.first.extend(first);
        self.last.extend(rest);
        let too_many = self.last.len().saturating_sub(LAST_BYTES);
        self.last.drain(..too_many);
        self.left_out += too_many;
    }
}

#[async_trait]
impl Pollable for CapturedOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for CapturedOutput {
    fn write(&mut self, written: bytes::Bytes) -> StreamResult<()> {
        if let Ok(mut kept) = self.kept.lock() {
            kept.write(&written);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // Always ready: a guest that writes too much only uses up its own CPU time.
        Ok(64 << 10)
    }
}

/// Lines at each end that [`WrittenLines`] shows.
const SHOWN_LINES: usize = 20;

/// Shows what a pack wrote, below a message: nothing if it wrote nothing, else a heading and
/// the lines.
pub struct WrittenLines<'a>(pub &'a str);

impl std::fmt::Display for WrittenLines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "\nthe pack wrote:")?;
        let lines: Vec<&str> = self.0.lines().collect();
        let hidden = lines.len().saturating_sub(2 * SHOWN_LINES);
        for (at, line) in lines.iter().enumerate() {
            if hidden > 0 && at == SHOWN_LINES {
                write!(f, "\n  [{hidden} lines left out]")?;
            }
            if at < SHOWN_LINES || at >= SHOWN_LINES + hidden {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

/// The line that starts the message of a panic in Rust, and the one that ends it.
const PANIC: &str = " panicked at ";
const PANIC_NOTE: &str = "note: run with `RUST_BACKTRACE";
/// The line that starts an error in Python. The runtime in Rust panics after it.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// Returns the message of a pack that crashed: the last line of Python's traceback, or the
/// message of a panic. `None` if there is neither.
pub(super) fn reason_of_crash(written: &str) -> Option<String> {
    let lines: Vec<&str> = written.lines().map(str::trim_end).collect();
    if let Some(start) = lines.iter().rposition(|line| line.starts_with(TRACEBACK)) {
        // The traceback ends with the first line that is not indented.
        let mut rest = lines.iter().skip(start + 1);
        return rest
            .find(|line| !line.is_empty() && !line.starts_with(' '))
            .map(|line| (*line).to_owned());
    }
    let start = lines.iter().rposition(|line| line.contains(PANIC))?;
    let message = lines.iter().skip(start + 1);
    let message: Vec<&str> = message
        .take_while(|line| !line.starts_with(PANIC_NOTE))
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    (!message.is_empty()).then(|| message.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_bytes_are_kept() {
        let mut kept = Kept::default();
        for number in 0..10_000 {
            kept.write(format!("line {number}\n").as_bytes());
        }
        let output = CapturedOutput {
            kept: Arc::new(Mutex::new(kept)),
        };
        let text = output.text();
        assert!(text.starts_with("line 0\nline 1\n"));
        assert!(text.ends_with("line 9998\nline 9999"));
        assert!(text.contains("bytes left out]\n"));
        assert!(text.len() < FIRST_BYTES + LAST_BYTES + 100);
        let shown = WrittenLines(&text).to_string();
        assert_eq!(shown.lines().count(), 2 + 2 * SHOWN_LINES + 1);
    }

    #[test]
    fn the_reason_of_a_crash_is_the_message_of_a_panic_or_a_traceback() {
        for (written, reason) in [
            (
                "one\nthread 'main' panicked at src/lib.rs:1:2:\nno such key\n\
                 note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
                Some("no such key"),
            ),
            (
                "thread 'main' panicked at src/lib.rs:1:2:\nassertion `left == right` failed\n  \
                 left: 1\n right: 2\nnote: run with `RUST_BACKTRACE=1` …",
                Some("assertion `left == right` failed left: 1 right: 2"),
            ),
            (
                "one\nTraceback (most recent call last):\n  File \"/0/app.py\", line 3, in x\n\
                 KeyError: 'a'\n\nthread '<unnamed>' (1) panicked at lib.rs:1:2:\nunexpected",
                Some("KeyError: 'a'"),
            ),
            ("a line of a log\n", None),
            ("", None),
        ] {
            let found = reason_of_crash(written);
            assert_eq!(found.as_deref(), reason, "{written}");
        }
    }

    #[test]
    fn lines_are_shown_below_a_heading() {
        assert_eq!(WrittenLines("").to_string(), "");
        assert_eq!(
            WrittenLines("a\nb").to_string(),
            "\nthe pack wrote:\n  a\n  b"
        );
    }
}
