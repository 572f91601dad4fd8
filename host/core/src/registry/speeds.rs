//! Measured speeds of a model.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::quantity::median;

/// The speeds of a model in its last runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speeds {
    /// Seconds until the first token.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub first_token_s: Samples,
    /// Prompt tokens per second.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub prefill: Samples,
    /// Answer tokens per second.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub decode: Samples,
    /// The load time, in seconds.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    pub load_s: Samples,
}

impl Speeds {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The last measurements of a value. Their median is used, so that one run on a busy
/// machine does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

/// The number of measurements to keep.
const MAX_SAMPLES: usize = 15;

impl Samples {
    /// Adds a measurement. Values that are not positive numbers are ignored.
    pub fn add(&mut self, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            return;
        }
        if self.0.len() >= MAX_SAMPLES {
            self.0.remove(0);
        }
        // No clock here is more precise than six decimals.
        self.0.push((value * 1e6).round() / 1e6);
    }

    /// Returns the median, or `None` without measurements.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        median(&self.0)
    }

    /// Returns the median of the measurements in a range.
    pub(super) fn median_within(&self, range: &RangeInclusive<f64>) -> Option<f64> {
        let within = self.0.iter().copied().filter(|value| range.contains(value));
        median(&within.collect::<Vec<_>>())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_return_the_median_of_the_last_values() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for value in [1.0, 100.0, 2.0, f64::NAN, 0.0, -1.0] {
            samples.add(value);
        }
        assert_eq!(samples.median(), Some(2.0));
        samples.add(4.0);
        assert_eq!(samples.median(), Some(3.0));
        for _ in 0..MAX_SAMPLES {
            samples.add(7.0);
        }
        assert_eq!(
            (samples.median(), samples.0.len()),
            (Some(7.0), MAX_SAMPLES)
        );
    }
}
