//! The state of a running job, and its text.

use std::time::{Duration, Instant};

use lmstrix::batch::JobPhase;
use lmstrix::quantity::count;

use super::format;

/// A job without updates for this time is shown as silent.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Minimum time for which a speed is computed.
const MIN_RATE_TIME: Duration = Duration::from_millis(200);

/// Phase and tokens of a running job.
pub(super) struct JobState {
    /// `None` before the first update.
    phase: Option<JobPhase>,
    tokens: u32,
    /// The time and number of tokens of the first update with tokens.
    first_tokens: Option<(Instant, u32)>,
    /// The time of the last update.
    updated: Instant,
}

/// A phase in words.
struct PhaseText {
    /// For a row among others.
    short: &'static str,
    /// For a line of its own.
    long: &'static str,
    /// The completed fraction, where known.
    done: Option<f32>,
}

impl JobState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: None,
            tokens: 0,
            first_tokens: None,
            updated: now,
        }
    }

    pub(super) fn update(&mut self, phase: JobPhase, tokens: u32, now: Instant) {
        self.phase = Some(phase);
        self.tokens = tokens;
        self.updated = now;
        if tokens > 0 {
            self.first_tokens.get_or_insert((now, tokens));
        }
    }

    /// Takes progress of the load that the job waits for as an update.
    pub(super) fn load_progressed(&mut self, now: Instant) {
        if matches!(self.phase, Some(JobPhase::Loading(_))) {
            self.updated = now;
        }
    }

    pub(super) fn has_tokens(&self) -> bool {
        self.tokens > 0
    }

    /// Returns the completed fraction of the phase, where known.
    pub(super) fn fraction(&self) -> Option<f32> {
        self.phase_text().done
    }

    /// Returns for example `writing, 340 at 43.1 tokens/s` for a row of a batch. The text
    /// stays below 40 columns, so that it fits on narrow terminals.
    pub(super) fn short_text(&self, now: Instant) -> String {
        let phase = self.phase_text();
        let mut text = phase.short.to_owned();
        if let Some(done) = phase.done {
            text += &format!(" {} %", format::percent(done));
        }
        let is_silent = self.is_silent(now);
        text += &self.token_text(!is_silent);
        if is_silent {
            text += &format!(", silent {} s", self.silence(now).as_secs());
        }
        text
    }

    /// Returns for example `reading the prompt: 40 % of 2048 tokens`.
    pub(super) fn long_text(&self) -> String {
        let phase = self.phase_text();
        let mut text = phase.long.to_owned();
        if let Some(done) = phase.done {
            text += &format!(": {} %", format::percent(done));
        }
        if let Some(JobPhase::Reading {
            tokens: Some(tokens),
            ..
        }) = self.phase
        {
            text += &format!(" of {}", count(tokens as usize, "token"));
        }
        text + &self.token_text(true)
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silence(now) > SILENT_AFTER
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.updated)
    }

    fn phase_text(&self) -> PhaseText {
        let (short, long, done) = match self.phase {
            None => ("waiting", "waiting", None),
            Some(JobPhase::Loading(done)) => ("loading", "loading the model", done),
            // Most servers report no progress.
            Some(JobPhase::Reading { done, tokens: None }) if done <= 0.0 => {
                ("waiting", "waiting for the first token", None)
            }
            Some(JobPhase::Reading { done, .. }) => ("reading", "reading the prompt", Some(done)),
            Some(JobPhase::Reasoning) => ("thinking", "thinking", None),
            Some(JobPhase::Writing) => ("writing", "writing", None),
        };
        PhaseText { short, long, done }
    }

    fn token_text(&self, has_rate: bool) -> String {
        match self.rate().filter(|_| has_rate) {
            Some(rate) => format!(", {} at {}", self.tokens, format::rate(rate)),
            None if self.tokens > 0 => format!(", {}", count(self.tokens as usize, "token")),
            None => String::new(),
        }
    }

    fn rate(&self) -> Option<f64> {
        let (at, tokens) = self.first_tokens?;
        let elapsed = self.updated.saturating_duration_since(at);
        let new_tokens = self.tokens.saturating_sub(tokens);
        (elapsed >= MIN_RATE_TIME && new_tokens > 0)
            .then(|| f64::from(new_tokens) / elapsed.as_secs_f64())
    }
}
