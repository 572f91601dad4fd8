//! Notices while a job is prepared: a variable that is not set, a pack that is compiled,
//! a registry that cannot be read. None of them stops the job.

use std::sync::Arc;

/// A notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// A step that takes time, or that was completed.
    Status(&'a str),
    /// A warning for the user.
    Warning(&'a str),
}

/// A receiver of notices.
#[derive(Clone)]
pub struct Notices(Arc<dyn Fn(Notice<'_>) + Send + Sync>);

impl Notices {
    /// Creates a receiver that passes notices to a function.
    pub fn new(receive: impl Fn(Notice<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Creates a receiver that drops all notices.
    #[must_use]
    pub fn ignore() -> Self {
        Self::new(|_| {})
    }

    pub fn status(&self, text: &str) {
        (self.0)(Notice::Status(text));
    }

    pub fn warning(&self, text: &str) {
        (self.0)(Notice::Warning(text));
    }
}
