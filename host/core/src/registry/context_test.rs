//! Results of context tests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a test of a context checks, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestLevel {
    /// The model loads with the context, and the instance has it.
    Loads,
    /// The model answers a prompt that fills the context.
    Accepts,
    /// The model finds a key hidden in such a prompt.
    Recalls,
}

impl TestLevel {
    /// All levels, from the weakest to the strongest.
    pub const ALL: [Self; 3] = [Self::Loads, Self::Accepts, Self::Recalls];

    /// Returns the level's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Accepts => "accepts",
            Self::Recalls => "recalls",
        }
    }

    /// Parses a level's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// The largest context that a test found to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestedContext {
    /// The context, in tokens.
    pub context: u32,
    /// The level of the test; absent for results of lmstrix, which only checked that a
    /// short prompt is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<TestLevel>,
    /// The time of the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// True if the test was completed.
    #[serde(default)]
    pub complete: bool,
}

/// The progress of a test at one level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextTrial {
    /// The largest context that worked.
    #[serde(rename = "good", default, skip_serializing_if = "Option::is_none")]
    pub largest_passed: Option<u32>,
    /// The smallest context that failed.
    #[serde(rename = "bad", default, skip_serializing_if = "Option::is_none")]
    pub smallest_failed: Option<u32>,
    /// Why that context failed.
    #[serde(rename = "why", default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The probe in progress. If a later run finds it here and its process is gone, the
    /// probe crashed the program or the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingProbe>,
}

/// A probe in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingProbe {
    /// The tested context, in tokens.
    pub context: u32,
    /// The ID of the probing process.
    pub process: u32,
    /// The start time.
    pub at: Timestamp,
}
