//! Progress of a download: a bar on a terminal, lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lmstrix::sink::escape_controls;

use super::Messages;

/// Minimum time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the progress of a download on stderr. Failures to write are ignored.
#[derive(Debug)]
pub(crate) struct DownloadProgress {
    output: DownloadOutput,
}

#[derive(Debug)]
enum DownloadOutput {
    Bar(ProgressBar),
    Lines {
        messages: Messages,
        name: String,
        total: u64,
        printed_at: Instant,
    },
}

impl DownloadProgress {
    /// Creates the view. Quiet messages show nothing.
    #[must_use]
    pub(crate) fn new(messages: Messages) -> Self {
        let output = if messages.is_terminal() && !messages.is_quiet() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ) {
                bar.set_style(style);
            }
            DownloadOutput::Bar(bar)
        } else {
            DownloadOutput::Lines {
                messages,
                name: String::new(),
                total: 0,
                printed_at: Instant::now(),
            }
        };
        Self { output }
    }

    /// Starts the download of a file of `bytes` bytes, of which `present` bytes
    /// exist already.
    pub(crate) fn start(&mut self, name: &str, bytes: u64, present: u64) {
        match &mut self.output {
            DownloadOutput::Bar(bar) => {
                bar.set_length(bytes);
                bar.set_message(escape_controls(name));
                bar.set_position(present);
                // Bytes of an earlier download do not count towards the speed.
                bar.reset_eta();
            }
            DownloadOutput::Lines {
                messages,
                name: current,
                total,
                ..
            } => {
                name.clone_into(current);
                *total = bytes;
                messages.status(&match present {
                    0 => format!("{name}: {bytes} bytes"),
                    _ => format!("{name}: {bytes} bytes, resuming at {present}"),
                });
            }
        }
    }

    /// Sets the number of downloaded bytes.
    pub(crate) fn set_position(&mut self, bytes: u64) {
        match &mut self.output {
            DownloadOutput::Bar(bar) => bar.set_position(bytes),
            DownloadOutput::Lines {
                messages,
                name,
                total,
                printed_at,
            } => {
                if printed_at.elapsed() >= LINE_INTERVAL {
                    *printed_at = Instant::now();
                    let percent = bytes.saturating_mul(100) / (*total).max(1);
                    messages.status(&format!("{name}: {percent} %"));
                }
            }
        }
    }

    /// Prints a status message.
    pub(crate) fn message(&mut self, text: &str) {
        match &self.output {
            DownloadOutput::Bar(bar) => bar.println(escape_controls(text)),
            DownloadOutput::Lines { messages, .. } => messages.status(text),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        if let DownloadOutput::Bar(bar) = self.output {
            bar.finish_and_clear();
        }
    }
}
