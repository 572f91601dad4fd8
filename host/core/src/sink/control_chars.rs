//! Makes control characters visible on terminals: a model's answer must not
//! move the cursor, rename the window, set the clipboard or change the writing
//! direction. Files and pipes receive the text unchanged.

use std::borrow::Cow;
use std::fmt::Write;

/// Makes control characters in a stream of text visible.
#[derive(Debug, Default)]
pub struct ControlEscaper {
    /// The last character was a carriage return. It is part of a line end if a
    /// line feed follows.
    pending_cr: bool,
}

/// Replaces a carriage return that is not part of a line end.
const VISIBLE_CR: char = '␍';

impl ControlEscaper {
    /// Returns the next piece with visible control characters.
    pub fn push<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        if !self.pending_cr && !text.chars().any(|c| c == '\r' || is_control(c)) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if std::mem::take(&mut self.pending_cr) {
                escaped.push(if c == '\n' { '\r' } else { VISIBLE_CR });
            }
            match c {
                '\r' => self.pending_cr = true,
                c if !is_control(c) => escaped.push(c),
                // U+2400 begins the symbols for C0 control characters.
                '\0'..='\x1f' => escaped.extend(char::from_u32(0x2400 + c as u32)),
                '\x7f' => escaped.push('␡'),
                other => {
                    let _infallible = write!(escaped, "<U+{:04X}>", other as u32);
                }
            }
        }
        Cow::Owned(escaped)
    }

    /// Returns the pending output at the end of the text.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending_cr) {
            "␍"
        } else {
            ""
        }
    }
}

/// Returns `text` with visible control characters.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    let mut escaper = ControlEscaper::default();
    let escaped = escaper.push(text).into_owned();
    escaped + escaper.finish()
}

/// Returns `json` with control characters as JSON escapes. The value stays the
/// same.
#[must_use]
pub fn escape_controls_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_control(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _infallible = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Returns true if a character affects a terminal: C0 controls other than line
/// feed, tab and carriage return; C1 controls; and format characters that change
/// the writing direction or hide text.
pub fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' | '\r' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "a": "x\u{9b}\u{202e}y\u{e0041}ä\n" });
        let text = value.to_string();
        let escaped = escape_controls_json(&text);
        assert!(!escaped.chars().any(is_control), "{escaped}");
        assert!(escaped.contains('ä'), "{escaped}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
            value
        );
    }

    #[test]
    fn control_sequences_are_visible_wherever_the_text_is_split() {
        for (text, escaped) in [
            ("plain äöü 漢字 🙂\tx\n", "plain äöü 漢字 🙂\tx\n"),
            ("\x1b]52;c;cm0gLXJm\x07", "␛]52;c;cm0gLXJm␇"),
            ("\x1b[2Jgone", "␛[2Jgone"),
            ("good\rbad", "good␍bad"),
            ("dos\r\nline", "dos\r\nline"),
            ("\r\r\n", "␍\r\n"),
            ("end\r", "end␍"),
            ("\u{9b}2J", "<U+009B>2J"),
            ("\u{202e}txt.exe", "<U+202E>txt.exe"),
            ("\0\x08\x7f", "␀␈␡"),
            ("tag\u{e0041}", "tag<U+E0041>"),
        ] {
            assert_eq!(escape_controls(text), escaped);
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let mut escaper = ControlEscaper::default();
                let mut out = escaper.push(&text[..at]).into_owned();
                out += &escaper.push(&text[at..]);
                out += escaper.finish();
                assert_eq!(out, escaped, "{text:?} split at {at}");
            }
        }
    }
}
