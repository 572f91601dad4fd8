//! The values of flags with a fixed list.

use std::str::FromStr;

use clap::ValueEnum;
use lmstrix::batch::JOBS_MAX;
use lmstrix::registry::{SortKey, TestLevel};

/// The handling of a leading <think> block of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasoningTags {
    /// Remove it from the answer
    #[default]
    Auto,
    /// Keep it
    None,
}

/// The place of the failures of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ErrorPlace {
    /// NAME.error.txt
    #[default]
    File,
    /// In place of the result
    Inline,
}

/// The policy for results whose prompt, pack, settings or input changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Changed {
    /// Keep them, with a warning
    #[default]
    Keep,
    /// Run their jobs again
    Rerun,
}

/// The progress output of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, lines elsewhere
    #[default]
    Auto,
    /// Lines
    Plain,
    /// JSON lines on stdout
    Json,
    /// No progress output
    None,
}

/// The format of exported rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// One JSON object per line
    Jsonl,
    /// Comma-separated values
    Csv,
}

/// The format of `list`, in the Python program's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListShow {
    /// Names
    Id,
    /// Paths
    Path,
    /// One JSON object
    Json,
    /// A Markdown table
    Md,
}

/// The number of concurrent jobs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobCount {
    /// As many as the server has slots, or fewer if that is faster.
    Auto,
    /// A number from 1 to [`JOBS_MAX`].
    Jobs(usize),
}

impl FromStr for JobCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text.trim(), text.trim().parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(jobs @ 1..=JOBS_MAX)) => Ok(Self::Jobs(jobs)),
            _ => Err(format!("expected a number from 1 to {JOBS_MAX}, or auto")),
        }
    }
}

/// Parses a level of `test`.
pub(super) fn test_level(name: &str) -> Result<TestLevel, String> {
    TestLevel::from_name(name).ok_or_else(|| "expected loads, accepts or recalls".to_owned())
}

/// An order of models, and whether it is reversed.
pub(crate) type SortOrder = (SortKey, bool);

/// Parses an order of models.
pub(super) fn sort_order(name: &str) -> Result<SortOrder, String> {
    SortKey::parse(name).ok_or_else(|| format!("expected one of {}", SortKey::NAMES.join(", ")))
}
