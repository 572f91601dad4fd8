//! Draws rows of text on a terminal with indicatif, which truncates them to the width and
//! erases what it drew before.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Rate at which indicatif draws bars by itself; the lowest possible value.
const INDICATIF_HZ: u8 = 1;

/// A row. `text` is truncated to the width, `state` is always shown in full.
pub(super) struct ScreenRow {
    pub(super) text: String,
    pub(super) state: String,
}

/// A bar over the whole width and a text, below all rows.
pub(super) struct Footer {
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) text: String,
}

/// The rows on the terminal.
pub(super) struct Screen {
    multi: MultiProgress,
    rows: Vec<ProgressBar>,
    footer: Option<(ProgressBar, ProgressBar)>,
}

impl Screen {
    /// Returns stderr, or `None` if it does not support drawing.
    pub(super) fn stderr() -> Option<Self> {
        let screen = Self::new(ProgressDrawTarget::stderr_with_hz(INDICATIF_HZ));
        (!screen.multi.is_hidden()).then_some(screen)
    }

    #[cfg(test)]
    pub(super) fn in_memory(term: &indicatif::InMemoryTerm) -> Self {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), INDICATIF_HZ);
        Self::new(target)
    }

    fn new(target: ProgressDrawTarget) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target),
            rows: Vec::new(),
            footer: None,
        }
    }

    /// Draws everything, and prints `messages` above it. Changes to bars are drawn at most
    /// `INDICATIF_HZ` times per second; only the last call below draws at once.
    pub(super) fn draw(&mut self, rows: &[ScreenRow], footer: Option<Footer>, messages: &[String]) {
        self.set_row_count(rows.len());
        for (bar, row) in self.rows.iter().zip(rows) {
            // A clone shares its state with the bar. Unlike `set_prefix`, `with_prefix`
            // does not draw.
            let _shared = bar.clone().with_prefix(row.state.clone());
            bar.set_message(row.text.clone());
        }
        if let Some(footer) = footer {
            let (bar, text) = self.footer.get_or_insert_with(|| {
                let bar = self.multi.add(hidden_bar("{wide_bar}"));
                let text = self.multi.add(hidden_bar("{wide_msg}"));
                (bar, text)
            });
            bar.set_length(footer.total as u64);
            bar.set_position(footer.done as u64);
            bar.tick();
            text.set_message(footer.text);
        }
        let last = self.footer.as_ref().map(|(_, text)| text);
        if !messages.is_empty() {
            let _ignored = self.multi.println(messages.join("\n"));
        } else if let Some(last) = last.or(self.rows.last()) {
            last.force_draw();
        }
    }

    fn set_row_count(&mut self, count: usize) {
        for bar in self.rows.drain(count.min(self.rows.len())..) {
            self.multi.remove(&bar);
        }
        while self.rows.len() < count {
            let bar = hidden_bar("{wide_msg} {prefix}");
            self.rows.push(self.multi.insert(self.rows.len(), bar));
        }
    }

    /// Erases everything that `draw` drew.
    pub(super) fn clear(&mut self) {
        self.set_row_count(0);
        if let Some((bar, text)) = self.footer.take() {
            self.multi.remove(&bar);
            self.multi.remove(&text);
        }
        let _ignored = self.multi.clear();
    }
}

/// Returns a bar that draws nothing until it is added to the screen.
fn hidden_bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
