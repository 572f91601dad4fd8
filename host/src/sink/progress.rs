//! `--show-progress`: how a run is going, on stderr. A terminal gets a spinner
//! and bars, anything else plain lines.

mod plain;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Error, Sink};
use crate::inference::Event;
use plain::Plain;

/// How often the spinner turns, also while nothing comes.
const TICK: Duration = Duration::from_millis(120);
/// Parts of a bar.
const STEPS: u64 = 1000;

/// Shows how a run is going. It never fails: a stderr that cannot be written is
/// no reason to stop.
#[derive(Debug)]
pub struct Progress {
    view: View,
    counts: Counts,
}

#[derive(Debug)]
enum View {
    Terminal {
        bar: ProgressBar,
        /// The answer is printed on the same screen, and a bar would garble it.
        yields: bool,
        /// So is the model's thinking.
        yields_to_thoughts: bool,
        stage: Stage,
    },
    Lines(Plain),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Loading,
    Reading,
    Thinking,
    Writing,
    Over,
}

/// What is known of the answer so far.
#[derive(Debug)]
struct Counts {
    /// Pieces of text and reasoning; servers send one for each token.
    pieces: u32,
    /// What the engine counted.
    counted: Option<u32>,
    first: Option<Instant>,
}

impl Counts {
    fn tokens(&self) -> u32 {
        self.counted.unwrap_or(self.pieces).max(self.pieces)
    }

    fn piece(&mut self) {
        self.pieces = self.pieces.saturating_add(1);
        self.first.get_or_insert_with(Instant::now);
    }

    /// `120 tokens · 43.2 tokens/s`
    fn shown(&self, elapsed: Duration) -> String {
        let tokens = self.tokens();
        // Of n tokens, n - 1 came since the first one.
        let rate = f64::from(tokens.saturating_sub(1)) / elapsed.as_secs_f64();
        if rate.is_finite() && elapsed >= Duration::from_millis(200) {
            format!("{tokens} tokens · {rate:.1} tokens/s")
        } else {
            format!("{tokens} tokens")
        }
    }
}

impl Progress {
    /// `terminal` is whether stderr is one; `answer_on_terminal` whether the
    /// answer is printed on one, too: then nothing is drawn from its first
    /// piece on.
    #[must_use]
    pub fn new(terminal: bool, answer_on_terminal: bool) -> Self {
        let view = if terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            View::terminal(bar, answer_on_terminal)
        } else {
            View::Lines(Plain::new(Box::new(std::io::stderr())))
        };
        Self::with(view)
    }

    /// The model's thinking is printed where the answer is.
    #[must_use]
    pub fn with_reasoning(mut self) -> Self {
        if let View::Terminal {
            yields,
            yields_to_thoughts,
            ..
        } = &mut self.view
        {
            *yields_to_thoughts = *yields;
        }
        self
    }

    fn with(view: View) -> Self {
        Self {
            view,
            counts: Counts {
                pieces: 0,
                counted: None,
                first: None,
            },
        }
    }

    fn wrote(&mut self, stage: Stage) {
        self.counts.piece();
        let elapsed = self.counts.first.map_or(Duration::ZERO, |it| it.elapsed());
        let shown = self.counts.shown(elapsed);
        match &mut self.view {
            View::Lines(plain) => plain.wrote(&shown),
            view => {
                let word = if stage == Stage::Thinking {
                    "thinking: "
                } else {
                    ""
                };
                view.spin(stage, format!("{word}{shown}"));
            }
        }
    }
}

impl View {
    fn terminal(bar: ProgressBar, yields: bool) -> Self {
        if let Ok(style) = style(false) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        bar.set_message("waiting");
        Self::Terminal {
            bar,
            yields,
            yields_to_thoughts: false,
            stage: Stage::Waiting,
        }
    }

    fn spin(&mut self, next: Stage, message: String) {
        let Self::Terminal { bar, stage, .. } = self else {
            return;
        };
        if *stage == Stage::Over {
            return;
        }
        awake(bar);
        if *stage != next {
            *stage = next;
            if let Ok(style) = style(false) {
                bar.set_style(style);
            }
        }
        bar.set_message(message);
    }

    fn fraction(&mut self, next: Stage, done: f32, message: String) {
        let Self::Terminal { bar, stage, .. } = self else {
            return;
        };
        if *stage == Stage::Over {
            return;
        }
        awake(bar);
        *stage = next;
        if let Ok(style) = style(true) {
            bar.set_style(style);
        }
        bar.set_length(STEPS);
        bar.set_position(steps(done));
        bar.set_message(message);
    }

    fn over(&mut self) {
        if let Self::Terminal { bar, stage, .. } = self
            && *stage != Stage::Over
        {
            *stage = Stage::Over;
            bar.finish_and_clear();
        }
    }
}

/// After an interlude it is drawn again, its time going on.
fn awake(bar: &ProgressBar) {
    if bar.is_finished() {
        let elapsed = bar.elapsed();
        bar.reset();
        // A clone is the same bar: they share their state.
        let _same = bar.clone().with_elapsed(elapsed);
        bar.enable_steady_tick(TICK);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1, in thousandths"
)]
fn steps(done: f32) -> u64 {
    (f64::from(done.clamp(0.0, 1.0)) * 1000.0) as u64
}

/// Plain in any case: what is drawn has no colours, so that `NO_COLOR` has
/// nothing to switch off.
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
            Event::Loading(progress) => match (&mut self.view, progress) {
                (View::Lines(plain), progress) => plain.loading(*progress),
                (view, None) => view.spin(Stage::Loading, "loading the model".to_owned()),
                (view, Some(done)) => {
                    view.fraction(Stage::Loading, *done, "loading the model".to_owned());
                }
            },
            Event::Prefill { progress, tokens } => match (&mut self.view, tokens) {
                (View::Lines(plain), tokens) => plain.reading(*progress, *tokens),
                (view, None) if *progress <= 0.0 => {
                    view.spin(Stage::Reading, "waiting for the first token".to_owned());
                }
                (view, None) => {
                    view.fraction(Stage::Reading, *progress, "reading the prompt".to_owned());
                }
                (view, Some(tokens)) => {
                    let message = format!("reading the prompt, {tokens} tokens");
                    view.fraction(Stage::Reading, *progress, message);
                }
            },
            Event::Reasoning(_) => {
                if matches!(
                    self.view,
                    View::Terminal {
                        yields_to_thoughts: true,
                        ..
                    }
                ) {
                    self.view.over();
                }
                self.wrote(Stage::Thinking);
            }
            Event::Usage(usage) => self.counts.counted = Some(usage.completion_tokens),
            // It is printed by somebody else, right after this.
            Event::Warning(_) => self.interlude(),
            Event::Text(_) | Event::Finished(_) => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), Error> {
        self.wrote(Stage::Writing);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if !text.is_empty() && matches!(self.view, View::Terminal { yields: true, .. }) {
            self.view.over();
        }
        Ok(())
    }

    fn interlude(&mut self) {
        if let View::Terminal { bar, stage, .. } = &self.view
            && *stage != Stage::Over
        {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    fn wants_answer(&self) -> bool {
        false
    }

    fn end(&mut self) -> Result<(), Error> {
        self.view.over();
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.view.over();
    }
}
