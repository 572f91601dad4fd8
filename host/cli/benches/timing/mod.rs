//! Times of an operation.

use std::time::{Duration, Instant};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// The number of batches for each measurement.
const BATCHES: usize = 51;

/// Runs `operation` in batches of `calls` calls. Returns the times of one call, sorted.
pub(crate) fn measure(
    calls: u32,
    mut operation: impl FnMut() -> Result<(), Failure>,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..calls {
            operation()?;
        }
        times.push(start.elapsed() / calls);
    }
    times.sort();
    Ok(times)
}

/// Returns the median of sorted times.
pub(crate) fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}
