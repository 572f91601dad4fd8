//! Stdout: the answer and nothing else.

use std::io::{ErrorKind, Write};

use super::{Error, Sink, Visible};
use crate::inference::Event;

/// The answer as it comes, flushed at every piece.
pub struct Stdout<W: Write> {
    out: W,
    visible: Option<Visible>,
    last: Option<char>,
    /// What was printed of the model's thinking; `None` prints none.
    reasoning: Option<Shown>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Thinking,
    Answer,
}

impl<W: Write> Stdout<W> {
    /// `terminal` makes control characters visible; a pipe gets the bytes.
    pub fn new(out: W, terminal: bool) -> Self {
        Self {
            out,
            visible: terminal.then(Visible::default),
            last: None,
            reasoning: None,
        }
    }

    /// Prints the model's thinking before its answer, with a blank line
    /// between them.
    #[must_use]
    pub fn with_reasoning(mut self) -> Self {
        self.reasoning = Some(Shown::Nothing);
        self
    }

    fn print(&mut self, text: &str) -> Result<(), Error> {
        self.last = text.chars().next_back();
        match &mut self.visible {
            Some(visible) => {
                let shown = visible.push(text).into_owned();
                self.write(&shown)
            }
            None => self.write(text),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(failed)
    }
}

/// Sorts a reader that left from a disk that is full.
pub(super) fn failed(error: std::io::Error) -> Error {
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
        if self.reasoning == Some(Shown::Thinking) {
            self.print("\n\n")?;
        }
        if self.reasoning.is_some() {
            self.reasoning = Some(Shown::Answer);
        }
        self.print(text)
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            // Thinking between two parts of an answer would be taken for one.
            Event::Reasoning(text)
                if matches!(self.reasoning, Some(Shown::Nothing | Shown::Thinking)) =>
            {
                self.reasoning = Some(Shown::Thinking);
                self.print(text)
            }
            _ => Ok(()),
        }
    }

    /// An answer on stdout ends with a line end, as people and shells expect;
    /// one that has it gets no second.
    fn end(&mut self) -> Result<(), Error> {
        let left = self.visible.as_mut().map_or("", Visible::finish);
        let line_end = if self.last.is_some_and(|c| c != '\n') {
            "\n"
        } else {
            ""
        };
        self.write(&format!("{left}{line_end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_the_bytes_and_one_line_end() {
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
    fn a_terminal_gets_nothing_that_acts() {
        let mut bytes = Vec::new();
        let mut sink = Stdout::new(&mut bytes, true);
        sink.text("a\x1b").unwrap();
        sink.text("[0m\r").unwrap();
        sink.end().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a␛[0m␍\n");
    }
}
