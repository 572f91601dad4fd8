//! What a pack writes to stdout and stderr, which is kept for its author.

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

/// Returns what a pack that crashed wrote last: the last line that has a word, or nothing.
///
/// Rust ends the message of a panic with a note about backtraces. Python's traceback is
/// followed by a panic of its runtime that says nothing of the reason.
pub(super) fn reason_of_crash(written: &str) -> &str {
    let before_panic = written
        .rsplit_once("\n\nthread '")
        .map(|(before, _)| before);
    let of_traceback = before_panic.filter(|text| text.contains("Traceback (most recent"));
    let has_word = |line: &&str| line.contains(char::is_alphanumeric);
    let lines = of_traceback.unwrap_or(written).lines();
    let mut lines = lines.map(str::trim).filter(has_word);
    let last = lines.rfind(|line| !line.starts_with("note: run with `"));
    last.unwrap_or_default()
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
        assert_eq!(reason_of_crash(&text), "line 9999");
    }

    #[test]
    fn the_reason_of_a_crash_is_the_last_line_that_says_it() {
        for (written, reason) in [
            (
                "thread 'main' panicked at src/lib.rs:1:2:\nno such key\n\
                 note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
                "no such key",
            ),
            (
                "one\nTraceback (most recent call last):\n  File \"/0/app.py\", line 3, in x\n\
                 KeyError: 'a'\n\nthread '<unnamed>' (1) panicked at lib.rs:1:2:\nunexpected",
                "KeyError: 'a'",
            ),
            ("error: x\n)\n", "error: x"),
            (" \n", ""),
        ] {
            assert_eq!(reason_of_crash(written), reason, "{written}");
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
