//! Progress as lines, for stderr that is not a terminal. There are no escape
//! sequences, and the number of lines is limited.

use std::io::Write;
use std::time::{Duration, Instant};

/// Minimum time between two lines of one phase.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two lines while the answer arrives.
const WRITING_INTERVAL: Duration = Duration::from_secs(10);

/// Writes a line when the progress changes.
pub(super) struct ProgressLines {
    out: Box<dyn Write + Send>,
    start: Instant,
    last_line: String,
    printed_at: Option<Instant>,
    has_first_token: bool,
}

impl std::fmt::Debug for ProgressLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl ProgressLines {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            start: Instant::now(),
            last_line: String::new(),
            printed_at: None,
            has_first_token: false,
        }
    }

    pub(super) fn loading(&mut self, progress: Option<f32>) {
        match progress {
            None => self.print("loading the model".to_owned(), true),
            Some(done) => self.print(
                format!("loading the model: {:.0} %", done * 100.0),
                done >= 1.0,
            ),
        }
    }

    pub(super) fn reading(&mut self, progress: f32, tokens: Option<u32>) {
        let is_complete = progress >= 1.0;
        match tokens {
            None if progress <= 0.0 => {
                self.print("waiting for the first token".to_owned(), true);
            }
            None => self.print(
                format!("reading the prompt: {:.0} %", progress * 100.0),
                is_complete,
            ),
            Some(tokens) => self.print(
                format!(
                    "reading the prompt: {:.0} % of {tokens} tokens",
                    progress * 100.0
                ),
                is_complete,
            ),
        }
    }

    pub(super) fn piece_received(&mut self, counts: &str) {
        if !std::mem::replace(&mut self.has_first_token, true) {
            let first = self.start.elapsed().as_secs_f64();
            self.print(format!("first token after {first:.2} s"), true);
        } else if self
            .printed_at
            .is_none_or(|at| at.elapsed() >= WRITING_INTERVAL)
        {
            self.print(counts.to_owned(), true);
        }
    }

    /// Prints a line unless it is the same as the last one. Without `force` it
    /// is also skipped within `LINE_INTERVAL` of the last one.
    fn print(&mut self, line: String, force: bool) {
        let is_due = force
            || self
                .printed_at
                .is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
        if !is_due || line == self.last_line {
            return;
        }
        let _ignored = writeln!(self.out, "{line}");
        self.printed_at = Some(Instant::now());
        self.last_line = line;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for SharedBuffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn changes_are_printed_once() {
        let out = SharedBuffer::default();
        let mut plain = ProgressLines::new(Box::new(out.clone()));
        plain.loading(None);
        plain.loading(None);
        plain.loading(Some(1.0));
        plain.reading(0.0, None);
        // Skipped: too soon after the last line.
        plain.reading(0.5, Some(2048));
        plain.reading(1.0, Some(2048));
        plain.piece_received("1 tokens");
        plain.piece_received("2 tokens");
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "loading the model",
                "loading the model: 100 %",
                "waiting for the first token",
                "reading the prompt: 100 % of 2048 tokens"
            ]
        );
        assert!(lines[4].starts_with("first token after "), "{text}");
        assert_eq!(lines.len(), 5);
        assert!(!text.contains('\x1b') && !text.contains('\r'));
    }
}
