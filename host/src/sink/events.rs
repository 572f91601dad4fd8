//! `--events`: every event as a line of JSON, as it happens.

use std::io::Write;

use serde_json::{Value, json};

use super::{Error, Sink, stdout::failed, visible_json};
use crate::inference::Event;

/// Lines of JSON with a `kind`.
pub struct Events<W: Write> {
    out: W,
    terminal: bool,
}

impl<W: Write> Events<W> {
    /// `terminal` writes characters that act as escapes.
    pub fn new(out: W, terminal: bool) -> Self {
        Self { out, terminal }
    }

    /// The last line of an answer that failed, instead of `finished`.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn failed(&mut self, exit: u8, message: &str) -> Result<(), Error> {
        self.line(&json!({ "kind": "failed", "exit": exit, "message": message }))
    }

    fn line(&mut self, value: &Value) -> Result<(), Error> {
        let text = value.to_string();
        let text = if self.terminal {
            visible_json(&text)
        } else {
            text
        };
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(failed)
    }
}

impl<W: Write> Sink for Events<W> {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let value = match event {
            Event::Loading(progress) => json!({ "kind": "loading", "progress": progress }),
            Event::Prefill { progress, tokens } => {
                json!({ "kind": "prefill", "progress": progress, "tokens": tokens })
            }
            Event::Reasoning(text) => json!({ "kind": "reasoning", "text": text }),
            Event::Usage(usage) => json!({
                "kind": "usage",
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }),
            Event::Warning(message) => json!({ "kind": "warning", "message": message }),
            Event::Finished(reason) => json!({ "kind": "finished", "reason": reason }),
            // The user's text comes through `text`, after the processors.
            Event::Text(_) => return Ok(()),
        };
        self.line(&value)
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        self.line(&json!({ "kind": "text", "text": text }))
    }
}
