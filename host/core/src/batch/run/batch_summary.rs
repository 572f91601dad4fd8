//! The summary of a run.

use super::run_state::RunStop;
use super::totals::ModelTotals;

/// The summary of a run.
pub struct BatchSummary {
    /// The totals of each model, by label.
    pub models: Vec<(String, ModelTotals)>,
    /// Jobs that were to be run.
    pub jobs: usize,
    /// The reason if the run ended early.
    pub stop: Option<RunStop>,
}

impl BatchSummary {
    /// Returns the number of jobs done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.models.iter().map(|(_, totals)| totals.done).sum()
    }

    /// Returns the number of jobs that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.models.iter().map(|(_, totals)| totals.failed).sum()
    }
}
