//! Warnings, on stderr, as they come: whoever waits for a busy server wants to
//! know now. Once the answer has begun they wait for its end, so that they do
//! not stand in the middle of it.

use super::{Error, Messages, Sink};
use crate::inference::Event;

/// Shows the warnings of a run.
#[derive(Debug)]
pub struct Warnings {
    messages: Messages,
    has_begun: bool,
    held: Vec<String>,
}

impl Warnings {
    /// Shows them by `messages`.
    #[must_use]
    pub fn new(messages: Messages) -> Self {
        Self {
            messages,
            has_begun: false,
            held: Vec::new(),
        }
    }
}

impl Sink for Warnings {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Warning(warning) if self.has_begun => self.held.push(warning.clone()),
            Event::Warning(warning) => self.messages.warning(warning),
            Event::Reasoning(_) => self.has_begun = true,
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.has_begun |= !text.is_empty();
        Ok(())
    }

    fn wants_answer(&self) -> bool {
        false
    }

    fn end(&mut self) -> Result<(), Error> {
        for warning in self.held.drain(..) {
            self.messages.warning(&warning);
        }
        Ok(())
    }
}
