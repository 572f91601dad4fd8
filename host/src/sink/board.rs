//! How a batch run is going: bars on a terminal, lines in a log, lines of JSON
//! for programs. The board is told what happens and only shows it: it decides
//! nothing, estimates nothing and never fails, since a screen that cannot be
//! written is no reason to stop. Time comes in from here, so that what is shown
//! can be tested without waiting. A single run has `Progress` instead.

mod json;
mod plain;
mod screen;
mod terminal;
mod words;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use json::Json;
use plain::Plain;
use terminal::Terminal;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bars on stderr; plain lines where nothing can be drawn there.
    Terminal,
    /// Lines on stderr.
    Plain,
    /// Lines of JSON on stdout.
    Json,
    /// Not at all.
    None,
}

/// What a running job is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Nothing has come yet.
    Waiting,
    /// Its model is being loaded.
    Loading,
    /// The prompt is being read; this much of it, of 1.
    Reading(f32),
    /// The model thinks.
    Thinking,
    /// The answer comes.
    Writing,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<'a> {
    /// Its result is there.
    Done,
    /// It has none, and why.
    Failed(&'a str),
    /// The run was stopped before it had one.
    Stopped,
}

/// One job, as it is named on the screen and in JSON.
#[derive(Clone, Copy, Debug)]
pub struct JobName<'a> {
    /// Which one of this run, from 1.
    pub number: usize,
    /// The name of its result file.
    pub name: &'a str,
    /// The prompt, or several with commas between them.
    pub prompt: &'a str,
    /// The model.
    pub model: &'a str,
    /// What is put into the prompt.
    pub input: Option<&'a str>,
}

/// What a job came to.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Tokens of the answer.
    pub tokens: u32,
    /// How fast they came.
    pub tokens_per_s: Option<f64>,
    /// How long the job took.
    pub seconds: f64,
}

/// Shows how a batch run is going.
///
/// The order of calls: `begin`, then anything, then `finish`; after that
/// nothing is shown any more. A job may end that never started.
pub struct Board {
    run: Run,
    view: Box<dyn View + Send>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// How far the run is.
#[derive(Debug)]
struct Run {
    began: Instant,
    total: usize,
    skipped: usize,
    done: usize,
    failed: usize,
    stopped: usize,
    /// What the runner thought, and when.
    estimate: Option<(Duration, Instant)>,
}

impl Run {
    fn new(total: usize, skipped: usize) -> Self {
        Self {
            began: Instant::now(),
            total,
            skipped,
            done: 0,
            failed: 0,
            stopped: 0,
            estimate: None,
        }
    }

    /// Jobs that need not be run any more; one that was stopped does.
    fn over(&self) -> usize {
        self.done + self.failed
    }

    fn is_over(&self) -> bool {
        self.over() + self.stopped >= self.total
    }

    /// The estimate, less the time since it was made.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (estimate, at) = self.estimate?;
        (self.over() < self.total)
            .then(|| estimate.saturating_sub(now.saturating_duration_since(at)))
    }
}

/// A model that is being loaded.
#[derive(Clone, Copy, Debug)]
struct Load<'a> {
    model: &'a str,
    context: Option<u32>,
    progress: Option<f32>,
}

/// One way to show a run. `run` is how it stands after what is told.
trait View {
    fn begin(&mut self, _run: &Run, _now: Instant) {}
    fn left(&mut self, _estimate: Option<Duration>) {}
    fn loading(&mut self, _load: Load<'_>, _now: Instant) {}
    fn loaded(&mut self, _model: &str, _seconds: Option<f64>, _context: Option<u32>) {}
    fn unloaded(&mut self, _model: &str) {}
    fn start(&mut self, _job: &JobName<'_>, _now: Instant) {}
    /// Called for every token: it may do no more than store numbers.
    fn phase(&mut self, _number: usize, _phase: Phase, _tokens: u32, _now: Instant) {}
    fn tick(&mut self, _run: &Run, _now: Instant) {}
    fn end(
        &mut self,
        _run: &Run,
        _job: &JobName<'_>,
        _ended: Ended<'_>,
        _tally: &Tally,
        _now: Instant,
    ) {
    }
    fn say(&mut self, _run: &Run, _text: &str, _is_warning: bool, _now: Instant) {}
    fn finish(&mut self, _run: &Run, _now: Instant) {}
}

/// Shows nothing.
struct Nothing;

impl View for Nothing {}

impl Board {
    /// A board in a style; `quiet` leaves only JSON, which is data.
    #[must_use]
    pub fn new(style: Style, quiet: bool) -> Self {
        let stderr = || {
            let stderr = std::io::stderr();
            let is_terminal = stderr.is_terminal();
            Plain::new(Box::new(stderr), is_terminal)
        };
        Self::with(match style {
            Style::Json => {
                let stdout = std::io::stdout();
                let is_terminal = stdout.is_terminal();
                Box::new(Json::new(Box::new(stdout), is_terminal))
            }
            Style::None => Box::new(Nothing),
            _ if quiet => Box::new(Nothing),
            Style::Plain => Box::new(stderr()),
            Style::Terminal => match Terminal::stderr() {
                Some(terminal) => Box::new(terminal),
                None => Box::new(stderr()),
            },
        })
    }

    /// As `new`, with the lines going to `out`, where nothing is drawn.
    #[must_use]
    pub fn with_output(style: Style, quiet: bool, out: Box<dyn Write + Send>) -> Self {
        Self::with(match style {
            Style::Json => Box::new(Json::new(out, false)),
            Style::Plain | Style::Terminal if !quiet => Box::new(Plain::new(out, false)),
            _ => Box::new(Nothing),
        })
    }

    fn with(view: Box<dyn View + Send>) -> Self {
        Self {
            run: Run::new(0, 0),
            view,
        }
    }

    /// `total` jobs are to be run; `skipped` more were done before.
    pub fn begin(&mut self, total: usize, skipped: usize) {
        self.run = Run::new(total, skipped);
        self.view.begin(&self.run, self.run.began);
    }

    /// Time that is left, as the runner estimates it from loads and medians;
    /// `None` is unknown. Called after every job.
    pub fn left(&mut self, estimate: Option<Duration>) {
        self.run.estimate = estimate.map(|it| (it, Instant::now()));
        self.view.left(estimate);
    }

    /// A model is being loaded. This is over with `loaded`, with `unloaded`, or
    /// when a job of that model fails.
    pub fn loading(&mut self, model: &str, context: Option<u32>, progress: Option<f32>) {
        let load = Load {
            model,
            context,
            progress,
        };
        self.view.loading(load, Instant::now());
    }

    /// A model is there, and how long that took.
    pub fn loaded(&mut self, model: &str, seconds: Option<f64>, context: Option<u32>) {
        self.view.loaded(model, seconds, context);
    }

    /// A model is gone.
    pub fn unloaded(&mut self, model: &str) {
        self.view.unloaded(model);
    }

    /// A job runs.
    pub fn start(&mut self, job: &JobName<'_>) {
        self.view.start(job, Instant::now());
    }

    /// A sign of life: phase, and the tokens so far.
    pub fn phase(&mut self, number: usize, phase: Phase, tokens: u32) {
        self.view.phase(number, phase, tokens, Instant::now());
    }

    /// Called about every 200 ms: turns spinners, refreshes seconds of silence.
    /// A terminal is drawn only here and when something is said.
    pub fn tick(&mut self) {
        self.view.tick(&self.run, Instant::now());
    }

    /// A job is over.
    pub fn end(&mut self, job: &JobName<'_>, ended: Ended<'_>, tally: &Tally) {
        self.end_at(job, ended, tally, Instant::now());
    }

    fn end_at(&mut self, job: &JobName<'_>, ended: Ended<'_>, tally: &Tally, now: Instant) {
        match ended {
            Ended::Done => self.run.done += 1,
            Ended::Failed(_) => self.run.failed += 1,
            Ended::Stopped => self.run.stopped += 1,
        }
        self.view.end(&self.run, job, ended, tally, now);
    }

    /// Something of note: a warning, a model set aside, a retry. It stands
    /// above the bars.
    pub fn say(&mut self, text: &str, is_warning: bool) {
        self.view.say(&self.run, text, is_warning, Instant::now());
    }

    /// Nothing is drawn any more.
    pub fn finish(&mut self) {
        self.view.finish(&self.run, Instant::now());
        self.view = Box::new(Nothing);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
