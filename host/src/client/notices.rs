//! Remarks on the way to a job: a variable that is not set, a pack that is compiled, a
//! registry that cannot be read. They stop nothing, so they are no errors.

use std::sync::Arc;

/// A remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice<'a> {
    /// What takes time, or what was done.
    Status(&'a str),
    /// What the user should correct or know.
    Warning(&'a str),
}

/// Receives remarks.
#[derive(Clone)]
pub(crate) struct Notices(Arc<dyn Fn(Notice<'_>) + Send + Sync>);

impl Notices {
    /// Passes remarks to a function.
    pub(crate) fn new(receive: impl Fn(Notice<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Drops all remarks.
    #[must_use]
    pub(crate) fn ignore() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn status(&self, text: &str) {
        (self.0)(Notice::Status(text));
    }

    pub(crate) fn warning(&self, text: &str) {
        (self.0)(Notice::Warning(text));
    }
}
