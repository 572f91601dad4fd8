//! Progress as lines, for stderr that is no terminal: no escapes, and no more
//! lines than a person reads in a log.

use std::io::Write;
use std::time::{Duration, Instant};

/// Between two lines of one phase.
const EVERY: Duration = Duration::from_secs(1);
/// Between two lines while the answer comes.
const EVERY_WRITING: Duration = Duration::from_secs(10);

/// Writes a line when there is news.
pub(super) struct Plain {
    out: Box<dyn Write + Send>,
    start: Instant,
    last: String,
    at: Option<Instant>,
    has_first: bool,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Plain {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            start: Instant::now(),
            last: String::new(),
            at: None,
            has_first: false,
        }
    }

    pub(super) fn loading(&mut self, progress: Option<f32>) {
        match progress {
            None => self.say("loading the model".to_owned(), true),
            Some(done) => self.say(
                format!("loading the model: {:.0} %", done * 100.0),
                done >= 1.0,
            ),
        }
    }

    pub(super) fn reading(&mut self, progress: f32, tokens: Option<u32>) {
        let is_whole = progress >= 1.0;
        match tokens {
            None if progress <= 0.0 => {
                self.say("waiting for the first token".to_owned(), true);
            }
            None => self.say(
                format!("reading the prompt: {:.0} %", progress * 100.0),
                is_whole,
            ),
            Some(tokens) => self.say(
                format!(
                    "reading the prompt: {:.0} % of {tokens} tokens",
                    progress * 100.0
                ),
                is_whole,
            ),
        }
    }

    pub(super) fn wrote(&mut self, counts: &str) {
        if !std::mem::replace(&mut self.has_first, true) {
            let first = self.start.elapsed().as_secs_f64();
            self.say(format!("first token after {first:.2} s"), true);
        } else if self.at.is_none_or(|at| at.elapsed() >= EVERY_WRITING) {
            self.say(counts.to_owned(), true);
        }
    }

    /// `now` is said also when something was said a moment ago.
    fn say(&mut self, line: String, now: bool) {
        let is_due = now || self.at.is_none_or(|at| at.elapsed() >= EVERY);
        if !is_due || line == self.last {
            return;
        }
        let _unwritable = writeln!(self.out, "{line}");
        self.at = Some(Instant::now());
        self.last = line;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn news_is_a_line_and_the_same_again_is_none() {
        let out = Shared::default();
        let mut plain = Plain::new(Box::new(out.clone()));
        plain.loading(None);
        plain.loading(None);
        plain.loading(Some(1.0));
        plain.reading(0.0, None);
        // Too soon after the last line to be worth one.
        plain.reading(0.5, Some(2048));
        plain.reading(1.0, Some(2048));
        plain.wrote("1 tokens");
        plain.wrote("2 tokens");
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
