//! `infer --show-progress`: the progress of a single run, as one row on a terminal and as
//! lines elsewhere.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lmstrix::batch::JobPhase;
use lmstrix::sink::{Error, Sink};
use lmstrix_inference::Event;

use super::format;
use super::job_state::JobState;
use super::screen::{Screen, ScreenRow};
use super::view::write_line;

/// Time between two drawings on a terminal.
const TICK: Duration = Duration::from_millis(200);
/// Minimum time between two lines of one phase.
const PHASE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two lines while the answer arrives.
const WRITING_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the progress of a run on stderr.
pub(crate) struct InferProgress {
    /// `None` after the end. A terminal is drawn by a thread that ends with it.
    view: Option<Arc<Mutex<RunView>>>,
    /// The answer is printed on the same terminal: the row is erased before it.
    clear_on_answer: bool,
    /// So is reasoning.
    clear_on_reasoning: bool,
    /// Pieces of text and reasoning. Servers usually send one per token.
    pieces: u32,
    /// The number of tokens that the engine reported.
    reported: u32,
}

impl InferProgress {
    /// Creates the view. `is_terminal` tells whether stderr is a terminal. If the answer is
    /// printed on a terminal as well, nothing is drawn after its first piece.
    #[must_use]
    pub(crate) fn new(is_terminal: bool, answer_on_terminal: bool) -> Self {
        let screen = is_terminal.then(Screen::stderr).flatten();
        let draws = screen.is_some();
        let output = match screen {
            Some(screen) => RunOutput::Terminal {
                screen,
                is_shown: true,
            },
            None => RunOutput::lines(Box::new(std::io::stderr())),
        };
        let view = Arc::new(Mutex::new(RunView::new(output, Instant::now())));
        if draws {
            let view = Arc::downgrade(&view);
            let _handle = std::thread::Builder::new().spawn(move || {
                while let Some(view) = view.upgrade() {
                    lock(&view).draw(Instant::now());
                    drop(view);
                    std::thread::sleep(TICK);
                }
            });
        }
        Self {
            view: Some(view),
            clear_on_answer: draws && answer_on_terminal,
            clear_on_reasoning: false,
            pieces: 0,
            reported: 0,
        }
    }

    /// Expects reasoning on the same output as the answer.
    #[must_use]
    pub(crate) fn with_reasoning(mut self) -> Self {
        self.clear_on_reasoning = self.clear_on_answer;
        self
    }

    fn update(&self, phase: JobPhase) {
        if let Some(view) = &self.view {
            // An answer begins with its first piece, not with a count.
            let tokens = match self.pieces {
                0 => 0,
                pieces => pieces.max(self.reported),
            };
            lock(view).update(phase, tokens, Instant::now());
        }
    }

    fn piece(&mut self, phase: JobPhase) {
        self.pieces = self.pieces.saturating_add(1);
        self.update(phase);
    }

    fn finish(&mut self) {
        self.suspend();
        self.view = None;
    }
}

impl Sink for InferProgress {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Loading(done) => self.update(JobPhase::Loading(*done)),
            Event::Prefill { progress, tokens } => self.update(JobPhase::Reading {
                done: *progress,
                tokens: *tokens,
            }),
            Event::Reasoning(_) => {
                if self.clear_on_reasoning {
                    self.finish();
                }
                self.piece(JobPhase::Reasoning);
            }
            Event::Usage(usage) => self.reported = usage.completion_tokens,
            // The `Warnings` sink prints it after this call.
            Event::Warning(_) | Event::PackOutput { .. } => self.suspend(),
            Event::Text(_) | Event::TextWasReasoning | Event::Finished(_) => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), Error> {
        self.piece(JobPhase::Writing);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.clear_on_answer && !text.is_empty() {
            self.finish();
        }
        Ok(())
    }

    fn suspend(&mut self) {
        if let Some(view) = &self.view {
            lock(view).clear();
        }
    }

    fn wants_answer(&self) -> bool {
        false
    }

    fn end(&mut self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

impl Drop for InferProgress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(view: &Mutex<RunView>) -> MutexGuard<'_, RunView> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is shown of a run.
struct RunView {
    started: Instant,
    job: JobState,
    output: RunOutput,
}

enum RunOutput {
    Terminal {
        screen: Screen,
        /// False from `clear` to the next update.
        is_shown: bool,
    },
    Lines {
        out: Box<dyn Write + Send>,
        last_line: String,
        printed_at: Option<Instant>,
    },
}

impl RunOutput {
    fn lines(out: Box<dyn Write + Send>) -> Self {
        Self::Lines {
            out,
            last_line: String::new(),
            printed_at: None,
        }
    }
}

impl RunView {
    fn new(output: RunOutput, now: Instant) -> Self {
        Self {
            started: now,
            job: JobState::new(now),
            output,
        }
    }

    /// Updates the state. Lines are printed now, a terminal is drawn later.
    fn update(&mut self, phase: JobPhase, tokens: u32, now: Instant) {
        let is_first_token = tokens > 0 && !self.job.has_tokens();
        self.job.update(phase, tokens, now);
        match &mut self.output {
            RunOutput::Terminal { is_shown, .. } => *is_shown = true,
            RunOutput::Lines {
                out,
                last_line,
                printed_at,
            } => {
                let mut line = self.job.long_text();
                let interval = if is_first_token {
                    let first = now.saturating_duration_since(self.started).as_secs_f64();
                    line = format!("first token after {first:.2} s");
                    Duration::ZERO
                } else if self.job.has_tokens() {
                    WRITING_INTERVAL
                } else if self.job.fraction().is_some_and(|done| done < 1.0) {
                    PHASE_INTERVAL
                } else {
                    Duration::ZERO
                };
                let is_due =
                    printed_at.is_none_or(|at| now.saturating_duration_since(at) >= interval);
                if is_due && line != *last_line {
                    let _ignored = write_line(out.as_mut(), &line);
                    *printed_at = Some(now);
                    *last_line = line;
                }
            }
        }
    }

    /// Draws the row on a terminal.
    fn draw(&mut self, now: Instant) {
        if let RunOutput::Terminal {
            screen,
            is_shown: true,
        } = &mut self.output
        {
            let elapsed = now.saturating_duration_since(self.started);
            let mut text = format!("{} {}", format::spinner(elapsed), self.job.long_text());
            if let Some(done) = self.job.fraction() {
                text += &format!(" {}", format::bar(done));
            }
            let row = ScreenRow {
                text: format!("{text} {}", format::clock(elapsed)),
                state: String::new(),
            };
            screen.draw(&[row], None, &[]);
        }
    }

    /// Erases the row until the next update.
    fn clear(&mut self) {
        if let RunOutput::Terminal { screen, is_shown } = &mut self.output {
            *is_shown = false;
            screen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::super::tests::SharedBuffer;
    use super::*;

    const UNKNOWN: JobPhase = JobPhase::Reading {
        done: 0.0,
        tokens: None,
    };

    fn reading(done: f32) -> JobPhase {
        JobPhase::Reading {
            done,
            tokens: Some(2048),
        }
    }

    #[test]
    fn lines_are_printed_when_something_changes() {
        let out = SharedBuffer::default();
        let start = Instant::now();
        let mut view = RunView::new(RunOutput::lines(Box::new(out.clone())), start);
        for (seconds, phase, tokens) in [
            (0.0, JobPhase::Loading(None), 0),
            (0.0, JobPhase::Loading(None), 0),
            (0.1, JobPhase::Loading(Some(1.0)), 0),
            (1.0, UNKNOWN, 0),
            // Too soon after the last line.
            (1.5, reading(0.5), 0),
            (2.5, reading(0.6), 0),
            (2.6, reading(1.0), 0),
            (3.0, JobPhase::Reasoning, 1),
            (4.0, JobPhase::Reasoning, 2),
            (13.5, JobPhase::Reasoning, 22),
            (14.0, JobPhase::Writing, 23),
            (23.5, JobPhase::Writing, 42),
        ] {
            let now = start + Duration::from_secs_f64(seconds);
            view.update(phase, tokens, now);
            view.draw(now);
        }
        view.clear();
        let expected = "\
loading the model
loading the model: 100 %
waiting for the first token
reading the prompt: 60 % of 2048 tokens
reading the prompt: 100 % of 2048 tokens
first token after 3.00 s
thinking, 22 at 2.0 tokens/s
writing, 42 at 2.0 tokens/s
";
        assert_eq!(out.text(), expected);
    }

    #[test]
    fn a_row_shows_the_phase_and_yields_to_other_output() {
        let term = InMemoryTerm::new(24, 80);
        let output = RunOutput::Terminal {
            screen: Screen::in_memory(&term),
            is_shown: true,
        };
        let start = Instant::now();
        let mut view = RunView::new(output, start);
        view.draw(start);
        assert_eq!(term.contents(), "⠋ waiting 0:00");
        for (seconds, phase, tokens, shown) in [
            (0.2, JobPhase::Loading(None), 0, "⠙ loading the model 0:00"),
            (
                1.0,
                JobPhase::Loading(Some(0.5)),
                0,
                "⠴ loading the model: 50 % ███████████████░░░░░░░░░░░░░░░ 0:01",
            ),
            (2.0, UNKNOWN, 0, "⠋ waiting for the first token 0:02"),
            (
                3.0,
                reading(0.1),
                0,
                "⠴ reading the prompt: 10 % of 2048 tokens ███░░░░░░░░░░░░░░░░░░░░░░░░░░░ 0:03",
            ),
            (4.0, JobPhase::Reasoning, 1, "⠋ thinking, 1 token 0:04"),
            (
                64.0,
                JobPhase::Writing,
                61,
                "⠋ writing, 61 at 1.0 tokens/s 1:04",
            ),
        ] {
            let now = start + Duration::from_secs_f64(seconds);
            view.clear();
            view.draw(now);
            assert_eq!(term.contents(), "", "cleared until the next update");
            view.update(phase, tokens, now);
            view.draw(now);
            assert_eq!(term.contents(), shown);
        }
    }

    #[test]
    fn the_display_ends_with_the_first_piece_of_the_answer_on_the_same_terminal() {
        for (reasoning, answer, ends) in [(false, "", false), (false, "x", true), (true, "", true)]
        {
            let mut progress = InferProgress::new(false, true);
            progress.clear_on_answer = true;
            let mut progress = progress.with_reasoning();
            if reasoning {
                progress.event(&Event::Reasoning("y".to_owned())).unwrap();
            }
            progress.text(answer).unwrap();
            assert_eq!(progress.view.is_none(), ends);
            progress.end().unwrap();
            assert!(progress.view.is_none());
        }
    }
}
