//! Handles answers without a match, for processors that extract a part of the answer: the
//! whole answer with a warning, or a rejection.

use lmstrix_pack::{Error, Outcome};

use super::{OptionInfo, ProcessorOptions};

/// The option that rejects an answer without a match.
pub(super) const REQUIRED: OptionInfo =
    OptionInfo::new("required", "reject an answer without a match").with_default("false");
/// The option that suppresses the warning about an answer without a match.
pub(super) const QUIET: OptionInfo =
    OptionInfo::new("quiet", "suppress the warning if there is no match").with_default("false");

/// The text so far, until a match is found.
#[derive(Debug)]
pub(super) struct Fallback {
    required: bool,
    quiet: bool,
    held: String,
}

impl Fallback {
    pub(super) fn new(options: &ProcessorOptions<'_>) -> Result<Self, Error> {
        Ok(Self {
            required: options.flag(REQUIRED.name)?,
            quiet: options.flag(QUIET.name)?,
            held: String::new(),
        })
    }

    /// Keeps text that becomes output if there is no match. If a match is required, the
    /// text is not needed and is dropped.
    pub(super) fn hold(&mut self, text: &str) {
        if !self.required {
            self.held.push_str(text);
        }
    }

    /// Drops the text, because a match was found.
    pub(super) fn clear(&mut self) {
        self.held = String::new();
    }

    /// Returns the output of an answer without a match. `problem` names what is missing,
    /// such as `no code block`.
    ///
    /// # Errors
    /// Returns a rejection if a match is required.
    pub(super) fn finish(&mut self, problem: &str) -> Result<Outcome, Error> {
        if self.required {
            return Err(Error::Rejected(format!("{problem} in the answer")));
        }
        let outcome = Outcome::tail(std::mem::take(&mut self.held));
        let warning = format!("{problem} in the answer; it is passed through unchanged");
        Ok(if self.quiet {
            outcome
        } else {
            outcome.warning(warning)
        })
    }
}
