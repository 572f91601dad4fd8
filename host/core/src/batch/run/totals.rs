//! The totals of each model in this run, and the estimate of the time left.

use std::time::Duration;

use crate::batch::{ModelSpeed, estimate_remaining};
use crate::quantity::median;

/// Durations of jobs that are kept for the median.
const DURATIONS_MAX: usize = 31;

/// The totals of a model in this run.
#[derive(Clone, Debug, Default)]
pub struct ModelTotals {
    /// Jobs done.
    pub done: usize,
    /// Jobs failed.
    pub failed: usize,
    /// Jobs neither done nor failed.
    pub left: usize,
    /// Tokens of all answers.
    pub tokens: u64,
    /// Seconds of all jobs.
    pub seconds: f64,
    /// Times that the model was loaded.
    pub loads: usize,
    /// Seconds of all loads.
    pub load_s: f64,
    /// The reason if the model was set aside.
    pub aside: Option<String>,
    pub(super) durations: Vec<f64>,
    pub(super) prompt_tokens: u64,
    /// The longest answer that is allowed, where it is limited.
    pub(super) answer_limit: Option<u32>,
    /// Jobs that run at once.
    pub(super) at_once: usize,
    pub(super) is_loaded: bool,
}

impl ModelTotals {
    pub(super) fn job_done(&mut self, tokens: Option<u32>, seconds: f64) {
        self.done += 1;
        self.left = self.left.saturating_sub(1);
        self.tokens += u64::from(tokens.unwrap_or(0));
        self.seconds += seconds;
        if self.durations.len() >= DURATIONS_MAX {
            self.durations.remove(0);
        }
        self.durations.push(seconds);
    }

    pub(super) fn job_failed(&mut self) {
        self.failed += 1;
        self.left = self.left.saturating_sub(1);
    }

    pub(super) fn loaded(&mut self, load_s: Option<f64>) {
        self.is_loaded = true;
        if let Some(seconds) = load_s {
            self.loads += 1;
            self.load_s += seconds;
        }
    }
}

/// Estimates the time that all models need for the rest. A model that has not run yet
/// counts as being as fast as the others; `None` is unknown.
pub(super) fn time_left<'a>(
    models: impl Iterator<Item = (&'a ModelTotals, ModelSpeed)> + Clone,
) -> Option<Duration> {
    let all: Vec<f64> = models
        .clone()
        .flat_map(|(totals, _)| totals.durations.iter().copied())
        .collect();
    let of_all = median(&all);
    let mut left = Some(Duration::ZERO);
    for (totals, mut speed) in models {
        speed.job_s = median(&totals.durations).or(of_all);
        let of_model = estimate_remaining(
            speed,
            totals.left,
            totals.prompt_tokens,
            totals.answer_limit,
            totals.at_once,
            totals.is_loaded,
        );
        left = left.zip(of_model).and_then(|(a, b)| a.checked_add(b));
    }
    left
}
