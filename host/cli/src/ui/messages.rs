//! Messages on stderr: status, warnings, errors and hints. They can contain text of packs,
//! servers and models: control characters are made visible, and further lines are indented, so
//! that no text passes for another message.

use std::io::Write;

use lmstrix::sink::escape_controls;

/// Prints messages on stderr. Failures to write are ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages {
    quiet: bool,
    is_terminal: bool,
    colour: bool,
}

impl Messages {
    /// Creates the printer. `quiet` suppresses status and warnings; `colour` has
    /// an effect on a terminal only.
    #[must_use]
    pub(crate) fn new(quiet: bool, is_terminal: bool, colour: bool) -> Self {
        Self {
            quiet,
            is_terminal,
            colour: colour && is_terminal,
        }
    }

    /// Returns true if status and warnings are suppressed.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns true if stderr is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Prints a status message unless `quiet`.
    pub(crate) fn status(&self, text: &str) {
        if !self.quiet {
            self.line(&escaped(text));
        }
    }

    /// Prints a text that was requested by a flag, also with `quiet`. The caller
    /// must have made control characters visible.
    pub(crate) fn print(&self, text: &str) {
        self.line(text);
    }

    /// Prints a warning unless `quiet`.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            self.line(&format!(
                "{} {}",
                self.paint("33", "warning:"),
                escaped(text)
            ));
        }
    }

    /// Prints an error.
    pub(crate) fn error(&self, text: &str) {
        self.line(&format!("{} {}", self.paint("31", "error:"), escaped(text)));
    }

    /// Prints a hint.
    pub(crate) fn hint(&self, text: &str) {
        self.line(&format!("{} {}", self.paint("36", "hint:"), escaped(text)));
    }

    fn paint(&self, colour: &str, word: &str) -> String {
        if self.colour {
            format!("\x1b[1;{colour}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    }

    fn line(&self, text: &str) {
        let _ignored = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Returns a text with visible control characters and indented further lines.
fn escaped(text: &str) -> String {
    escape_controls(text).replace('\n', "\n  ")
}
