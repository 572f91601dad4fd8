//! A kind of progress output, and the counts that all of them show.

use std::io::Write;
use std::time::{Duration, Instant};

use lmstrix::batch::BatchEvent;

/// A kind of progress output of a batch. `run` has the counts after the event.
pub(super) trait BatchView: Send {
    /// Called for every token, so implementations must be cheap.
    fn event(&mut self, run: &RunCounts, event: BatchEvent<'_>, now: Instant);
}

/// Counts of a run.
pub(super) struct RunCounts {
    pub(super) started: Instant,
    pub(super) total: usize,
    pub(super) skipped: usize,
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) stopped: usize,
    /// The estimated remaining time, and the time of the estimate.
    pub(super) estimate: Option<(Duration, Instant)>,
}

impl RunCounts {
    pub(super) fn new(total: usize, skipped: usize, now: Instant) -> Self {
        Self {
            started: now,
            total,
            skipped,
            done: 0,
            failed: 0,
            stopped: 0,
            estimate: None,
        }
    }

    /// Returns the number of done and failed jobs. Stopped jobs still have to run.
    pub(super) fn completed(&self) -> usize {
        self.done + self.failed
    }

    pub(super) fn is_finished(&self) -> bool {
        self.completed() + self.stopped >= self.total
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Returns the estimate minus the time since it was made.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        let (estimate, at) = self.estimate?;
        (self.completed() < self.total)
            .then(|| estimate.saturating_sub(now.saturating_duration_since(at)))
    }
}

/// Writes a line at once, so that lines of other processes are not mixed in.
pub(super) fn write_line(out: &mut dyn Write, line: &str) -> std::io::Result<()> {
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
