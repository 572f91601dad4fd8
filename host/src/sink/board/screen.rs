//! Rows of text on a terminal, drawn by indicatif: it knows the width, cuts what
//! is longer, and wipes off what it drew before. What the rows say is not known
//! here.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Run;

/// How often bars draw on their own account: as seldom as can be said.
pub(super) const OWN_HZ: u8 = 1;

/// A line of the board: what may be cut at the right end, and what may not.
pub(super) struct Row {
    pub(super) text: String,
    pub(super) state: String,
}

/// The bars that rows are drawn with.
pub(super) struct Screen {
    all: MultiProgress,
    rows: Vec<ProgressBar>,
    /// The bar and the words below it, while the run goes on.
    overall: Option<(ProgressBar, ProgressBar)>,
}

impl Screen {
    pub(super) fn new(target: ProgressDrawTarget) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            rows: Vec::new(),
            overall: None,
        }
    }

    /// Nothing drawn there would be seen.
    pub(super) fn is_hidden(&self) -> bool {
        self.all.is_hidden()
    }

    /// Bars draw on their own whenever they are told something, if only
    /// `OWN_HZ` times a second; the last call draws in any case.
    pub(super) fn draw(&mut self, rows: &[Row], overall: &str, run: &Run, said: &[String]) {
        self.fit(rows.len());
        for (bar, row) in self.rows.iter().zip(rows) {
            // A clone is the same bar. Unlike `set_prefix` this does not draw.
            let _same = bar.clone().with_prefix(row.state.clone());
            bar.set_message(row.text.clone());
        }
        let (bar, words) = self.overall.get_or_insert_with(|| {
            let bar = self.all.add(hidden("{wide_bar}"));
            let words = self.all.add(hidden("{wide_msg}"));
            (bar, words)
        });
        bar.set_length(run.total as u64);
        bar.set_position(run.over() as u64);
        bar.tick();
        words.set_message(overall.to_owned());
        if said.is_empty() {
            words.force_draw();
        } else {
            let _undrawable = self.all.println(said.join("\n"));
        }
    }

    fn fit(&mut self, count: usize) {
        for bar in self.rows.drain(count.min(self.rows.len())..) {
            self.all.remove(&bar);
        }
        while self.rows.len() < count {
            let bar = hidden("{wide_msg} {prefix}");
            self.rows.push(self.all.insert(self.rows.len(), bar));
        }
    }

    pub(super) fn clear(&mut self) {
        self.fit(0);
        if let Some((bar, words)) = self.overall.take() {
            self.all.remove(&bar);
            self.all.remove(&words);
        }
        let _undrawable = self.all.clear();
    }
}

/// A bar that draws nothing before it has its place.
fn hidden(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
