//! The failures of a command that goes on after the first one.

use crate::error::{Exit, Failure};

/// The failures so far.
#[derive(Default)]
pub(super) struct Failures(Vec<Failure>);

impl Failures {
    pub(super) fn push(&mut self, failure: Failure) {
        self.0.push(failure);
    }

    /// Returns all failures as one, with the exit code of the first and each hint once.
    pub(super) fn into_result(self) -> Result<Exit, Failure> {
        let mut failures = self.0.into_iter();
        let Some(mut all) = failures.next() else {
            return Ok(Exit::Done);
        };
        for failure in failures {
            all.message = format!("{}\n{}", all.message, failure.message);
            for hint in failure.hints {
                if !all.hints.contains(&hint) {
                    all.hints.push(hint);
                }
            }
        }
        Err(all)
    }
}
