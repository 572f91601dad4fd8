//! Measures tokens per second of all jobs of an instance.

use std::time::Duration;

use tokio::time::Instant;

use crate::batch::ConcurrencyLimit;

/// The span of one measurement.
pub(super) const MEASURE: Duration = Duration::from_secs(3);

/// Tokens of an instance over time.
#[derive(Debug)]
pub(super) struct Throughput {
    since: Instant,
    tokens: u64,
    /// The number of jobs that ran throughout; `None` before the first measurement.
    running: Option<usize>,
}

impl Throughput {
    pub(super) fn new(tokens: u64) -> Self {
        Self {
            since: Instant::now(),
            tokens,
            running: None,
        }
    }

    /// Takes a sample; after a whole span with the same number of jobs, reports the
    /// rate to `slots`.
    pub(super) fn sample(&mut self, tokens: u64, running: usize, slots: &mut ConcurrencyLimit) {
        if self.running == Some(running) {
            let elapsed = self.since.elapsed();
            if elapsed < MEASURE {
                return;
            }
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = tokens.saturating_sub(self.tokens) as f64 / elapsed.as_secs_f64();
            // No tokens at all are prompts that are being read.
            if rate > 0.0 {
                slots.record(running, rate);
            }
        }
        self.running = Some(running);
        self.since = Instant::now();
        self.tokens = tokens;
    }
}
