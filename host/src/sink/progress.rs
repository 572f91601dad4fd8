//! `--show-progress`: progress of a single run on stderr, as a spinner and bars
//! on a terminal and as lines elsewhere.

mod plain;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Error, Sink};
use crate::inference::Event;
use plain::ProgressLines;

/// Time between two steps of the spinner.
const TICK_INTERVAL: Duration = Duration::from_millis(120);
/// Length of a bar.
const BAR_STEPS: u64 = 1000;

/// Shows the progress of a run on stderr. Failures to write are ignored.
#[derive(Debug)]
pub struct Progress {
    output: ProgressOutput,
    counts: TokenCounts,
}

#[derive(Debug)]
enum ProgressOutput {
    Terminal {
        bar: ProgressBar,
        /// Clear at the first piece of the answer, which is printed on the same
        /// terminal.
        clear_on_answer: bool,
        /// Clear at the first piece of reasoning, for the same reason.
        clear_on_reasoning: bool,
        stage: Stage,
    },
    Lines(ProgressLines),
}

/// What the bar shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Loading,
    ReadingPrompt,
    Reasoning,
    Writing,
    Cleared,
}

/// Token counts of the answer so far.
#[derive(Debug)]
struct TokenCounts {
    /// Pieces of text and reasoning. Servers usually send one per token.
    pieces: u32,
    /// The count reported by the engine.
    reported: Option<u32>,
    first_piece_at: Option<Instant>,
}

impl TokenCounts {
    fn tokens(&self) -> u32 {
        self.reported.unwrap_or(self.pieces).max(self.pieces)
    }

    fn add_piece(&mut self) {
        self.pieces = self.pieces.saturating_add(1);
        self.first_piece_at.get_or_insert_with(Instant::now);
    }

    /// Returns for example `120 tokens · 43.2 tokens/s`.
    fn summary(&self, elapsed: Duration) -> String {
        let tokens = self.tokens();
        // Of n tokens, n - 1 arrived after the first one.
        let rate = f64::from(tokens.saturating_sub(1)) / elapsed.as_secs_f64();
        if rate.is_finite() && elapsed >= Duration::from_millis(200) {
            format!("{tokens} tokens · {rate:.1} tokens/s")
        } else {
            format!("{tokens} tokens")
        }
    }
}

impl Progress {
    /// Creates the view. `is_terminal` tells whether stderr is a terminal. If the
    /// answer is printed on a terminal as well, nothing is drawn after its first
    /// piece.
    #[must_use]
    pub fn new(is_terminal: bool, answer_on_terminal: bool) -> Self {
        let output = if is_terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            ProgressOutput::terminal(bar, answer_on_terminal)
        } else {
            ProgressOutput::Lines(ProgressLines::new(Box::new(std::io::stderr())))
        };
        Self::with_output(output)
    }

    /// Expects reasoning on the same output as the answer.
    #[must_use]
    pub fn with_reasoning(mut self) -> Self {
        if let ProgressOutput::Terminal {
            clear_on_answer,
            clear_on_reasoning,
            ..
        } = &mut self.output
        {
            *clear_on_reasoning = *clear_on_answer;
        }
        self
    }

    fn with_output(output: ProgressOutput) -> Self {
        Self {
            output,
            counts: TokenCounts {
                pieces: 0,
                reported: None,
                first_piece_at: None,
            },
        }
    }

    fn record_piece(&mut self, stage: Stage) {
        self.counts.add_piece();
        let elapsed = self
            .counts
            .first_piece_at
            .map_or(Duration::ZERO, |at| at.elapsed());
        let summary = self.counts.summary(elapsed);
        match &mut self.output {
            ProgressOutput::Lines(lines) => lines.piece_received(&summary),
            terminal => {
                let prefix = if stage == Stage::Reasoning {
                    "thinking: "
                } else {
                    ""
                };
                terminal.show_spinner(stage, format!("{prefix}{summary}"));
            }
        }
    }
}

impl ProgressOutput {
    fn terminal(bar: ProgressBar, clear_on_answer: bool) -> Self {
        if let Ok(style) = style(false) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK_INTERVAL);
        bar.set_message("waiting");
        Self::Terminal {
            bar,
            clear_on_answer,
            clear_on_reasoning: false,
            stage: Stage::Waiting,
        }
    }

    fn show_spinner(&mut self, next: Stage, message: String) {
        let Self::Terminal { bar, stage, .. } = self else {
            return;
        };
        if *stage == Stage::Cleared {
            return;
        }
        resume(bar);
        if *stage != next {
            *stage = next;
            if let Ok(style) = style(false) {
                bar.set_style(style);
            }
        }
        bar.set_message(message);
    }

    fn show_bar(&mut self, next: Stage, done: f32, message: String) {
        let Self::Terminal { bar, stage, .. } = self else {
            return;
        };
        if *stage == Stage::Cleared {
            return;
        }
        resume(bar);
        *stage = next;
        if let Ok(style) = style(true) {
            bar.set_style(style);
        }
        bar.set_length(BAR_STEPS);
        bar.set_position(steps(done));
        bar.set_message(message);
    }

    fn clear(&mut self) {
        if let Self::Terminal { bar, stage, .. } = self
            && *stage != Stage::Cleared
        {
            *stage = Stage::Cleared;
            bar.finish_and_clear();
        }
    }
}

/// Draws a suspended bar again without resetting its elapsed time.
fn resume(bar: &ProgressBar) {
    if bar.is_finished() {
        let elapsed = bar.elapsed();
        bar.reset();
        // A clone shares its state with the bar.
        let _shared = bar.clone().with_elapsed(elapsed);
        bar.enable_steady_tick(TICK_INTERVAL);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a value between 0 and 1000"
)]
fn steps(done: f32) -> u64 {
    (f64::from(done.clamp(0.0, 1.0)) * 1000.0) as u64
}

/// Returns a style without colours, so that `NO_COLOR` needs no handling.
fn style(has_bar: bool) -> Result<ProgressStyle, indicatif::style::TemplateError> {
    ProgressStyle::with_template(if has_bar {
        "{spinner} {msg} {bar:30} {elapsed}"
    } else {
        "{spinner} {msg} {elapsed}"
    })
}

impl Sink for Progress {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Loading(progress) => match (&mut self.output, progress) {
                (ProgressOutput::Lines(lines), progress) => lines.loading(*progress),
                (terminal, None) => {
                    terminal.show_spinner(Stage::Loading, "loading the model".to_owned())
                }
                (terminal, Some(done)) => {
                    terminal.show_bar(Stage::Loading, *done, "loading the model".to_owned());
                }
            },
            Event::Prefill { progress, tokens } => match (&mut self.output, tokens) {
                (ProgressOutput::Lines(lines), tokens) => lines.reading(*progress, *tokens),
                (terminal, None) if *progress <= 0.0 => {
                    terminal.show_spinner(
                        Stage::ReadingPrompt,
                        "waiting for the first token".to_owned(),
                    );
                }
                (terminal, None) => {
                    terminal.show_bar(
                        Stage::ReadingPrompt,
                        *progress,
                        "reading the prompt".to_owned(),
                    );
                }
                (terminal, Some(tokens)) => {
                    let message = format!("reading the prompt, {tokens} tokens");
                    terminal.show_bar(Stage::ReadingPrompt, *progress, message);
                }
            },
            Event::Reasoning(_) => {
                if matches!(
                    self.output,
                    ProgressOutput::Terminal {
                        clear_on_reasoning: true,
                        ..
                    }
                ) {
                    self.output.clear();
                }
                self.record_piece(Stage::Reasoning);
            }
            Event::Usage(usage) => self.counts.reported = Some(usage.completion_tokens),
            // The `Warnings` sink prints it after this call.
            Event::Warning(_) => self.suspend(),
            Event::Text(_) | Event::Finished(_) => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), Error> {
        self.record_piece(Stage::Writing);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if !text.is_empty()
            && matches!(
                self.output,
                ProgressOutput::Terminal {
                    clear_on_answer: true,
                    ..
                }
            )
        {
            self.output.clear();
        }
        Ok(())
    }

    fn suspend(&mut self) {
        if let ProgressOutput::Terminal { bar, stage, .. } = &self.output
            && *stage != Stage::Cleared
        {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    fn wants_answer(&self) -> bool {
        false
    }

    fn end(&mut self) -> Result<(), Error> {
        self.output.clear();
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.output.clear();
    }
}
