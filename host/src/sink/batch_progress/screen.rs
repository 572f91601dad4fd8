//! Draws rows of text on a terminal with indicatif, which truncates them to the
//! width and erases what it drew before.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::RunProgress;

/// Rate at which indicatif draws bars by itself; the lowest possible value.
pub(super) const INDICATIF_HZ: u8 = 1;

/// A row. `text` is truncated to the width, `state` is always shown in full.
pub(super) struct ScreenRow {
    pub(super) text: String,
    pub(super) state: String,
}

/// The bars on the terminal.
pub(super) struct Screen {
    multi: MultiProgress,
    rows: Vec<ProgressBar>,
    /// The bar of the whole run and the text below it.
    overall: Option<(ProgressBar, ProgressBar)>,
}

impl Screen {
    pub(super) fn new(target: ProgressDrawTarget) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target),
            rows: Vec::new(),
            overall: None,
        }
    }

    /// Returns true if the target cannot show anything.
    pub(super) fn is_hidden(&self) -> bool {
        self.multi.is_hidden()
    }

    /// Draws everything. Changes to bars are drawn at most `INDICATIF_HZ` times
    /// per second; only the last call below draws at once.
    pub(super) fn draw(
        &mut self,
        rows: &[ScreenRow],
        overall: &str,
        run: &RunProgress,
        messages: &[String],
    ) {
        self.set_row_count(rows.len());
        for (bar, row) in self.rows.iter().zip(rows) {
            // A clone shares its state with the bar. Unlike `set_prefix`,
            // `with_prefix` does not draw.
            let _shared = bar.clone().with_prefix(row.state.clone());
            bar.set_message(row.text.clone());
        }
        let (bar, text) = self.overall.get_or_insert_with(|| {
            let bar = self.multi.add(hidden_bar("{wide_bar}"));
            let text = self.multi.add(hidden_bar("{wide_msg}"));
            (bar, text)
        });
        bar.set_length(run.total as u64);
        bar.set_position(run.completed() as u64);
        bar.tick();
        text.set_message(overall.to_owned());
        if messages.is_empty() {
            text.force_draw();
        } else {
            let _ignored = self.multi.println(messages.join("\n"));
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

    pub(super) fn clear(&mut self) {
        self.set_row_count(0);
        if let Some((bar, text)) = self.overall.take() {
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
