//! Batch progress on a terminal: a row for each running job, and a bar for the
//! whole run below them. Events only update the state; a tick draws everything
//! at once. Control characters in names are made visible.

use std::time::{Duration, Instant};

use lmstrix::batch::{BatchEvent, JobEnd};

use super::format;
use super::job_state::JobState;
use super::screen::{Footer, Screen, ScreenRow};
use super::view::{BatchView, RunCounts};

/// The maximum number of job rows.
const MAX_JOB_ROWS: usize = 8;
/// The maximum number of rows for models that are being loaded.
const MAX_LOAD_ROWS: usize = 2;
/// Minimum time between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(50);
/// Replaces the spinner of a silent job.
const SILENT_MARK: &str = "·";

/// Draws batch progress on a terminal.
pub(super) struct TerminalView {
    screen: Screen,
    jobs: Vec<JobRow>,
    loads: Vec<LoadRow>,
    /// Lines to be printed above the rows.
    messages: Vec<String>,
    drawn_at: Option<Instant>,
}

/// A running job.
struct JobRow {
    number: usize,
    label: String,
    model: String,
    state: JobState,
}

/// A model that is being loaded.
struct LoadRow {
    model: String,
    text: String,
}

impl TerminalView {
    pub(super) fn new(screen: Screen) -> Self {
        Self {
            screen,
            jobs: Vec::new(),
            loads: Vec::new(),
            messages: Vec::new(),
            drawn_at: None,
        }
    }

    /// Prints a line above the rows, now or when the next drawing is due.
    fn print(&mut self, line: String, run: &RunCounts, now: Instant) {
        self.messages.push(line);
        self.draw_when_due(run, now);
    }

    fn draw_when_due(&mut self, run: &RunCounts, now: Instant) {
        let is_due = |at| now.saturating_duration_since(at) >= DRAW_INTERVAL;
        if self.drawn_at.is_none_or(is_due) {
            self.draw(run, now);
        }
    }

    fn draw(&mut self, run: &RunCounts, now: Instant) {
        self.drawn_at = Some(now);
        let rows = self.rows(run, now);
        let footer = Footer {
            done: run.completed(),
            total: run.total,
            text: overall_text(run, now),
        };
        let messages = std::mem::take(&mut self.messages);
        self.screen.draw(&rows, Some(footer), &messages);
    }

    fn rows(&self, run: &RunCounts, now: Instant) -> Vec<ScreenRow> {
        let spinner = format::spinner(run.elapsed(now));
        let digits = run.total.max(1).to_string().len();
        let visible = &self.jobs[..self.jobs.len().min(MAX_JOB_ROWS)];
        let states: Vec<String> = visible
            .iter()
            .map(|job| job.state.short_text(now))
            .collect();
        // States are padded to the same width, so that their column is stable.
        let width = states.iter().map(String::len).max().unwrap_or(0);
        let without_state = |text| ScreenRow {
            text,
            state: String::new(),
        };
        let loads = self.loads.iter().take(MAX_LOAD_ROWS);
        let loads = loads.map(|load| without_state(format!("{spinner} {}", load.text)));
        let jobs = visible.iter().zip(states).map(|(job, state)| {
            let mark = if job.state.is_silent(now) {
                SILENT_MARK
            } else {
                spinner
            };
            ScreenRow {
                text: format!("{mark} {:>digits$} {}", job.number, job.label),
                state: format!("{state:width$}"),
            }
        });
        let more = self.jobs.len() - visible.len();
        let more = (more > 0).then(|| without_state(format!("  … and {more} more")));
        loads.chain(jobs).chain(more).collect()
    }

    fn model_loading(&mut self, model: &str, text: String, now: Instant) {
        for job in self.jobs.iter_mut().filter(|job| job.model == model) {
            job.state.load_progressed(now);
        }
        match self.loads.iter_mut().find(|load| load.model == model) {
            Some(load) => load.text = text,
            None => self.loads.push(LoadRow {
                model: model.to_owned(),
                text,
            }),
        }
    }
}

/// Returns for example `12/36, 1 failed, 3:12, about 12 min left` (40 columns).
fn overall_text(run: &RunCounts, now: Instant) -> String {
    let (completed, total, failed) = (run.completed(), run.total, format::failed(run));
    let clock = format::clock(run.elapsed(now));
    let left = run.remaining(now);
    let left = left.map_or_else(String::new, |left| format!(", {}", format::time_left(left)));
    format!("{completed}/{total}{failed}, {clock}{left}")
}

impl BatchView for TerminalView {
    fn event(&mut self, run: &RunCounts, event: BatchEvent<'_>, now: Instant) {
        match event {
            BatchEvent::RunStarted { .. } => {
                if run.skipped > 0 {
                    self.messages.push(format::skipped(run));
                }
                self.draw(run, now);
            }
            BatchEvent::ModelLoading {
                model,
                context,
                progress,
            } => {
                let text = format::loading(model, context, progress, true);
                self.model_loading(model, text, now);
            }
            BatchEvent::ModelLoaded { model, .. } | BatchEvent::ModelUnloaded { model } => {
                self.loads.retain(|load| load.model != model);
            }
            BatchEvent::JobStarted(job) => self.jobs.push(JobRow {
                number: job.number,
                label: format::short_label(job),
                model: job.model.clone(),
                state: JobState::new(now),
            }),
            BatchEvent::JobProgressed {
                number,
                phase,
                tokens,
            } => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.number == number) {
                    job.state.update(phase, tokens, now);
                }
            }
            BatchEvent::JobFinished { job, end, .. } => {
                self.jobs.retain(|running| running.number != job.number);
                if let JobEnd::Failed(reason) = end {
                    // A failed load is reported only by the failure of its jobs.
                    self.loads.retain(|load| load.model != job.model);
                    let label = format::label(job, true);
                    let reason = format::reason(reason, true);
                    self.print(format!("{} {label} failed: {reason}", job.number), run, now);
                }
            }
            BatchEvent::Status(text) => self.print(format::message(text, false, true), run, now),
            BatchEvent::Warning(text) => self.print(format::message(text, true, true), run, now),
            BatchEvent::Tick => self.draw_when_due(run, now),
            BatchEvent::RunEnded => {
                if !self.messages.is_empty() {
                    self.draw(run, now);
                }
                self.screen.clear();
            }
            BatchEvent::TimeLeft(_) | BatchEvent::JobQueued(_) => {}
        }
    }
}
