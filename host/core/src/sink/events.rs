//! `--events`: events as JSON lines.

use std::io::Write;

use lmstrix_inference::Event;
use serde_json::{Value, json};

use super::{Error, Sink, escape_controls_json, stdout::stdout_error};

/// Writes each event as one line of JSON with a `kind`.
pub struct Events<W: Write> {
    out: W,
    is_terminal: bool,
}

impl<W: Write> Events<W> {
    /// Creates the sink. On a terminal, control characters are written as JSON
    /// escapes.
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self { out, is_terminal }
    }

    /// Writes the last line of a failed answer, in place of `finished`.
    ///
    /// # Errors
    /// Returns an error if stdout cannot be written.
    pub fn failed(&mut self, exit: u8, message: &str) -> Result<(), Error> {
        self.line(&json!({ "kind": "failed", "exit": exit, "message": message }))
    }

    fn line(&mut self, value: &Value) -> Result<(), Error> {
        let text = value.to_string();
        let text = if self.is_terminal {
            escape_controls_json(&text)
        } else {
            text
        };
        writeln!(self.out, "{text}")
            .and_then(|()| self.out.flush())
            .map_err(stdout_error)
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
            Event::TextWasReasoning => json!({ "kind": "text-was-reasoning" }),
            Event::Usage(usage) => json!({
                "kind": "usage",
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }),
            Event::Warning(message) => json!({ "kind": "warning", "message": message }),
            Event::PackOutput { from, text } => {
                json!({ "kind": "pack-output", "from": from, "text": text })
            }
            Event::Finished(reason) => json!({ "kind": "finished", "reason": reason }),
            // `text` writes the text after processing.
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
