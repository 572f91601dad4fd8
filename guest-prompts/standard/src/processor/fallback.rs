//! What happens when a processor that picks a part does not find it: the whole
//! text and a warning, or a rejection.

use super::{OptionInfo, Options, Outcome};
use crate::types::Error;

/// Rejects an answer without a match.
pub(super) const REQUIRED: OptionInfo =
    OptionInfo::new("required", "reject an answer without a match").or("false");
/// Says nothing about an answer without a match.
pub(super) const QUIET: OptionInfo =
    OptionInfo::new("quiet", "no warning when there is no match").or("false");

/// The text so far, for as long as no match has been found.
#[derive(Debug)]
pub(super) struct Fallback {
    required: bool,
    quiet: bool,
    held: String,
}

impl Fallback {
    pub(super) fn new(options: &Options<'_>) -> Result<Self, Error> {
        Ok(Self {
            required: options.flag(REQUIRED.name)?,
            quiet: options.flag(QUIET.name)?,
            held: String::new(),
        })
    }

    /// Keeps text that is wanted only if there is no match. When a match is
    /// required nothing is kept: there is no use for it.
    pub(super) fn hold(&mut self, text: &str) {
        if !self.required {
            self.held.push_str(text);
        }
    }

    /// A match was found; the text before it is not wanted.
    pub(super) fn release(&mut self) {
        self.held = String::new();
    }

    /// The outcome without a match; `missing` says what was not found.
    pub(super) fn outcome(&mut self, missing: &str) -> Result<Outcome, Error> {
        if self.required {
            return Err(Error::Rejected(format!("{missing} in the answer")));
        }
        let warning = format!("{missing} in the answer: it is passed on whole");
        Ok(Outcome {
            tail: std::mem::take(&mut self.held),
            warnings: if self.quiet { vec![] } else { vec![warning] },
        })
    }
}
