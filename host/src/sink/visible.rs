//! Makes control characters visible, for terminals only: a model's answer must
//! not move the cursor, rename the window, fill the clipboard or turn the
//! direction of writing around. Files and pipes get the bytes.

use std::borrow::Cow;
use std::fmt::Write;

/// Carries over what the end of one piece leaves open.
#[derive(Debug, Default)]
pub struct Visible {
    /// A carriage return came last; whether it is harmless shows with the next
    /// character.
    carriage_return: bool,
}

/// How a carriage return that is not part of a line end is shown.
const CARRIAGE_RETURN: char = '␍';

impl Visible {
    /// The next piece, made harmless.
    pub fn push<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        if !self.carriage_return && !text.chars().any(|c| c == '\r' || is_control(c)) {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if std::mem::take(&mut self.carriage_return) {
                shown.push(if c == '\n' { '\r' } else { CARRIAGE_RETURN });
            }
            match c {
                '\r' => self.carriage_return = true,
                c if !is_control(c) => shown.push(c),
                // Unicode has a picture for each of the C0 controls.
                '\0'..='\x1f' => shown.extend(char::from_u32(0x2400 + c as u32)),
                '\x7f' => shown.push('␡'),
                other => {
                    let _infallible = write!(shown, "<U+{:04X}>", other as u32);
                }
            }
        }
        Cow::Owned(shown)
    }

    /// What is left when the text has ended.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.carriage_return) {
            "␍"
        } else {
            ""
        }
    }
}

/// A whole text at once.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut state = Visible::default();
    let shown = state.push(text).into_owned();
    shown + state.finish()
}

/// JSON for a terminal: characters that act are written as escapes, which mean
/// the same to whoever parses it.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_control(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _infallible = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character acts on a terminal: controls other than line end, tab and
/// carriage return; C1; and the marks
/// that change the direction of writing or hide text.
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
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a": "x\u{9b}\u{202e}y\u{e0041}ä\n" });
        let text = value.to_string();
        let shown = visible_json(&text);
        assert!(!shown.chars().any(is_control), "{shown}");
        assert!(shown.contains('ä'), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn attacks_are_shown_and_not_done_wherever_the_text_is_cut() {
        for (text, shown) in [
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
            assert_eq!(visible(text), shown);
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let mut state = Visible::default();
                let mut out = state.push(&text[..at]).into_owned();
                out += &state.push(&text[at..]);
                out += state.finish();
                assert_eq!(out, shown, "{text:?} cut at {at}");
            }
        }
    }
}
