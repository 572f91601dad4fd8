//! Stderr: status, warnings, errors, hints. What a pack or a model says is
//! shown as cautiously as an answer.

use std::io::Write;

use super::visible;

/// The channel for everything that is not the answer. A stderr that cannot be
/// written is no reason to stop.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    quiet: bool,
    terminal: bool,
    colour: bool,
}

impl Messages {
    /// `quiet` leaves only errors; colours are for terminals.
    #[must_use]
    pub fn new(quiet: bool, terminal: bool, colour: bool) -> Self {
        Self {
            quiet,
            terminal,
            colour: colour && terminal,
        }
    }

    /// What is going on; names of models and what servers say may be in it.
    pub fn status(&self, text: &str) {
        if !self.quiet {
            self.line(&self.shown(text));
        }
    }

    /// A text that was asked for; also with `-q`. Whoever made it made its
    /// controls visible.
    pub fn text(&self, text: &str) {
        self.line(text);
    }

    /// What the user should know, and that does not stop the work.
    pub fn warning(&self, text: &str) {
        if !self.quiet {
            self.line(&format!(
                "{} {}",
                self.paint("33", "warning:"),
                self.shown(text)
            ));
        }
    }

    /// What went wrong.
    pub fn error(&self, text: &str) {
        self.line(&format!(
            "{} {}",
            self.paint("31", "error:"),
            self.shown(text)
        ));
    }

    /// What to type next.
    pub fn hint(&self, text: &str) {
        self.line(&format!(
            "{} {}",
            self.paint("36", "hint:"),
            self.shown(text)
        ));
    }

    fn shown(&self, text: &str) -> String {
        if self.terminal {
            visible(text)
        } else {
            text.to_owned()
        }
    }

    fn paint(&self, colour: &str, word: &str) -> String {
        if self.colour {
            format!("\x1b[1;{colour}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    }

    fn line(&self, text: &str) {
        let _unwritable = writeln!(std::io::stderr().lock(), "{text}");
    }
}
