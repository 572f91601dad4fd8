//! How a download goes: a bar on a terminal, lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Messages;

/// How often a line is printed where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Shows how a download goes. It never fails.
#[derive(Debug)]
pub struct Download {
    view: View,
}

#[derive(Debug)]
enum View {
    Bar(ProgressBar),
    Lines {
        messages: Messages,
        name: String,
        all: u64,
        last: Instant,
    },
}

impl Download {
    /// For a stderr that is a terminal or not.
    #[must_use]
    pub fn new(messages: Messages, is_terminal: bool, quiet: bool) -> Self {
        let view = if is_terminal && !quiet {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ) {
                bar.set_style(style);
            }
            View::Bar(bar)
        } else {
            View::Lines {
                messages,
                name: String::new(),
                all: 0,
                last: Instant::now(),
            }
        };
        Self { view }
    }

    /// A file of so many bytes, of which some are there.
    pub fn begin(&mut self, name: &str, bytes: u64, have: u64) {
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_length(bytes);
                bar.set_message(super::visible(name));
                bar.set_position(have);
                // What was there before says nothing of the speed.
                bar.reset_eta();
            }
            View::Lines {
                messages,
                name: old,
                all,
                ..
            } => {
                name.clone_into(old);
                *all = bytes;
                messages.status(&match have {
                    0 => format!("{name}: {bytes} bytes"),
                    have => format!("{name}: {bytes} bytes, goes on at {have}"),
                });
            }
        }
    }

    /// So many bytes are there now.
    pub fn have(&mut self, bytes: u64) {
        match &mut self.view {
            View::Bar(bar) => bar.set_position(bytes),
            View::Lines {
                messages,
                name,
                all,
                last,
            } => {
                if last.elapsed() >= EVERY {
                    *last = Instant::now();
                    let percent = bytes.saturating_mul(100) / (*all).max(1);
                    messages.status(&format!("{name}: {percent} %"));
                }
            }
        }
    }

    /// Something to be said in between.
    pub fn say(&mut self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.println(super::visible(text)),
            View::Lines { messages, .. } => messages.status(text),
        }
    }

    /// The bar goes.
    pub fn end(self) {
        if let View::Bar(bar) = self.view {
            bar.finish_and_clear();
        }
    }
}
