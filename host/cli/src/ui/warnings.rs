//! Prints warnings on stderr. Warnings before the answer appear at once, for
//! example that a server is busy. Later ones are held until the end, so that
//! they do not interrupt the answer.

use lmstrix::sink::{Error, Sink};
use lmstrix_inference::Event;

use super::Messages;

/// Prints the warnings of a run.
#[derive(Debug)]
pub(crate) struct Warnings {
    messages: Messages,
    answer_started: bool,
    held: Vec<String>,
}

impl Warnings {
    /// Creates a sink that prints with `messages`.
    #[must_use]
    pub(crate) fn new(messages: Messages) -> Self {
        Self {
            messages,
            answer_started: false,
            held: Vec::new(),
        }
    }
}

impl Sink for Warnings {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Warning(warning) if self.answer_started => self.held.push(warning.clone()),
            Event::Warning(warning) => self.messages.warning(warning),
            Event::Reasoning(_) => self.answer_started = true,
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.answer_started |= !text.is_empty();
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
