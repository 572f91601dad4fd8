//! Prints warnings on stderr, and with `--show-pack-output` what packs wrote. Those before the
//! answer appear at once, for example that a server is busy. Later ones are held until the end,
//! so that they do not interrupt the answer.

use lmstrix::sink::{Error, Sink, escape_controls};
use lmstrix_inference::Event;

use super::Messages;

/// Prints the warnings of a run.
#[derive(Debug)]
pub(crate) struct Warnings {
    messages: Messages,
    shows_pack_output: bool,
    answer_started: bool,
    held: Vec<Event>,
}

impl Warnings {
    /// Creates a sink that prints with `messages`.
    #[must_use]
    pub(crate) fn new(messages: Messages, shows_pack_output: bool) -> Self {
        Self {
            messages,
            shows_pack_output,
            answer_started: false,
            held: Vec::new(),
        }
    }

    fn print(&self, event: &Event) {
        match event {
            Event::Warning(warning) => self.messages.warning(warning),
            Event::PackOutput { from, text } if self.shows_pack_output => {
                print_pack_output(self.messages, from, text);
            }
            _ => {}
        }
    }
}

/// Prints the output of a pack.
pub(crate) fn print_pack_output(messages: Messages, from: &str, text: &str) {
    let shown = escape_controls(&format!("{from} wrote:\n{text}"));
    messages.print(&shown.replace('\n', "\n  "));
}

impl Sink for Warnings {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Warning(_) | Event::PackOutput { .. } if self.answer_started => {
                self.held.push(event.clone());
            }
            Event::Warning(_) | Event::PackOutput { .. } => self.print(event),
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
        for event in std::mem::take(&mut self.held) {
            self.print(&event);
        }
        Ok(())
    }
}
