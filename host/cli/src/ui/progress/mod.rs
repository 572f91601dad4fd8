//! Progress of a batch or of a single run: rows on a terminal, lines in a log, and for a
//! batch JSON lines for programs.
//!
//! Failures to write are ignored. Views receive the time as an argument, so that they can
//! be tested without waiting.

mod format;
mod job_state;
mod json;
mod lines;
mod screen;
mod single;
mod terminal;
mod view;

use std::io::IsTerminal;
use std::time::Instant;

use lmstrix::batch::{BatchEvent, BatchObserver, JobEnd};

use super::Messages;
use json::JsonView;
pub(crate) use json::WriteError;
use lines::LinesView;
use screen::Screen;
pub(crate) use single::InferProgress;
use terminal::TerminalView;
use view::{BatchView, RunCounts};

/// Where and how the progress of a batch is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// Rows on stderr if it is a terminal, lines otherwise.
    Terminal,
    /// Lines on stderr.
    Plain,
    /// JSON lines on stdout.
    Json,
    /// No output.
    None,
}

/// Shows the events of a batch: progress during the run, messages before and after it.
pub(crate) struct BatchProgress {
    messages: Messages,
    run: RunCounts,
    /// `None` shows nothing.
    view: Option<Box<dyn BatchView>>,
    /// The view owns the terminal from the start of the run to its end.
    is_running: bool,
}

impl BatchProgress {
    /// Creates the output for a mode. Quiet messages suppress everything but JSON.
    /// `write_error` receives the error of a write to stdout.
    #[must_use]
    pub(crate) fn new(mode: ProgressMode, messages: Messages, write_error: WriteError) -> Self {
        let stderr = std::io::stderr();
        let stdout = std::io::stdout();
        let is_terminal = stderr.is_terminal();
        let lines = || Box::new(LinesView::new(Box::new(stderr), is_terminal));
        let view: Option<Box<dyn BatchView>> = match mode {
            ProgressMode::Json => {
                let is_terminal = stdout.is_terminal();
                Some(Box::new(JsonView::new(
                    Box::new(stdout),
                    is_terminal,
                    write_error,
                )))
            }
            ProgressMode::None => None,
            _ if messages.is_quiet() => None,
            ProgressMode::Plain => Some(lines()),
            ProgressMode::Terminal => Some(match Screen::stderr() {
                Some(screen) => Box::new(TerminalView::new(screen)),
                None => lines(),
            }),
        };
        Self::with_view(view, messages)
    }

    fn with_view(view: Option<Box<dyn BatchView>>, messages: Messages) -> Self {
        Self {
            messages,
            run: RunCounts::new(0, 0, Instant::now()),
            view,
            is_running: false,
        }
    }

    fn event_at(&mut self, event: BatchEvent<'_>, now: Instant) {
        match event {
            BatchEvent::Status(text) if !self.is_running => return self.messages.status(text),
            BatchEvent::Warning(text) if !self.is_running => return self.messages.warning(text),
            BatchEvent::RunStarted { jobs, skipped } => {
                self.is_running = true;
                self.run = RunCounts::new(jobs, skipped, now);
            }
            BatchEvent::TimeLeft(estimate) => {
                self.run.estimate = estimate.map(|remaining| (remaining, now));
            }
            BatchEvent::JobFinished { end, .. } => match end {
                JobEnd::Done => self.run.done += 1,
                JobEnd::Failed(_) => self.run.failed += 1,
                JobEnd::Stopped => self.run.stopped += 1,
            },
            _ => {}
        }
        if let Some(view) = &mut self.view {
            view.event(&self.run, event, now);
        }
        if matches!(event, BatchEvent::RunEnded) {
            self.is_running = false;
            self.view = None;
        }
    }
}

impl BatchObserver for BatchProgress {
    fn event(&mut self, event: BatchEvent<'_>) {
        self.event_at(event, Instant::now());
    }
}

impl Drop for BatchProgress {
    fn drop(&mut self) {
        if self.is_running {
            self.event(BatchEvent::RunEnded);
        }
    }
}

#[cfg(test)]
mod tests;
