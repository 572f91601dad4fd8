//! Prints the answer on stdout.

use std::io::{ErrorKind, Write};

use lmstrix_inference::Event;

use super::{ControlEscaper, Error, Sink};

/// Prints the answer as it arrives and flushes after each piece.
pub struct Stdout<W: Write> {
    out: W,
    escaper: Option<ControlEscaper>,
    last_char: Option<char>,
    /// The state of printing reasoning; `None` prints no reasoning.
    reasoning: Option<ReasoningState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReasoningState {
    Nothing,
    Reasoning,
    Answer,
}

impl<W: Write> Stdout<W> {
    /// Creates the sink. On a terminal, control characters are made visible;
    /// otherwise the text is written unchanged.
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self {
            out,
            escaper: is_terminal.then(ControlEscaper::default),
            last_char: None,
            reasoning: None,
        }
    }

    /// Also prints the model's reasoning before the answer, separated by a blank
    /// line.
    #[must_use]
    pub fn with_reasoning(mut self) -> Self {
        self.reasoning = Some(ReasoningState::Nothing);
        self
    }

    fn print(&mut self, text: &str) -> Result<(), Error> {
        self.last_char = text.chars().next_back();
        match &mut self.escaper {
            Some(escaper) => {
                let escaped = escaper.push(text).into_owned();
                self.write(&escaped)
            }
            None => self.write(text),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(stdout_error)
    }
}

/// Converts an I/O error and distinguishes a closed pipe from other failures.
pub(super) fn stdout_error(error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe {
        Error::BrokenPipe
    } else {
        Error::Stdout(error)
    }
}

impl<W: Write> Sink for Stdout<W> {
    fn text(&mut self, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        if self.reasoning == Some(ReasoningState::Reasoning) {
            self.print("\n\n")?;
        }
        if self.reasoning.is_some() {
            self.reasoning = Some(ReasoningState::Answer);
        }
        self.print(text)
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            // Reasoning between two parts of the answer would look like a part
            // of it, so it is not printed.
            Event::Reasoning(text)
                if matches!(
                    self.reasoning,
                    Some(ReasoningState::Nothing | ReasoningState::Reasoning)
                ) =>
            {
                self.reasoning = Some(ReasoningState::Reasoning);
                self.print(text)
            }
            _ => Ok(()),
        }
    }

    fn restart(&mut self) -> Result<bool, Error> {
        Ok(self.last_char.is_none())
    }

    /// Ends the answer with a line end unless it already has one.
    fn end(&mut self) -> Result<(), Error> {
        let pending = self.escaper.as_mut().map_or("", ControlEscaper::finish);
        let line_end = if self.last_char.is_some_and(|c| c != '\n') {
            "\n"
        } else {
            ""
        };
        self.write(&format!("{pending}{line_end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_unchanged_text_and_one_line_end() {
        for (pieces, written) in [
            (vec!["a\x1b", "[0m"], "a\x1b[0m\n"),
            (vec!["a\n"], "a\n"),
            (vec!["a\n", ""], "a\n"),
            (vec![], ""),
        ] {
            let mut bytes = Vec::new();
            let mut sink = Stdout::new(&mut bytes, false);
            for piece in pieces {
                sink.text(piece).unwrap();
            }
            sink.end().unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), written);
        }
    }

    #[test]
    fn a_terminal_gets_visible_control_characters() {
        let mut bytes = Vec::new();
        let mut sink = Stdout::new(&mut bytes, true);
        sink.text("a\x1b").unwrap();
        sink.text("[0m\r").unwrap();
        sink.end().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a␛[0m␍\n");
    }
}
