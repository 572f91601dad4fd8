//! Whole UTF-8 from bytes that come in pieces: tokens of byte-level models
//! end in the middle of a character.

/// Holds back the bytes of a character that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    held: Vec<u8>,
}

impl Utf8 {
    /// Appends to `text` what is complete now. Bytes that cannot become a
    /// character are the replacement character.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.held.extend_from_slice(bytes);
        let mut done = 0;
        while done < self.held.len() {
            match std::str::from_utf8(&self.held[done..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.held.len();
                }
                Err(error) => {
                    let valid = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[done..valid]));
                    done = valid;
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            done += length;
                        }
                        None => break,
                    }
                }
            }
        }
        self.held.drain(..done);
    }

    /// Appends what can no longer become complete.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_whole_wherever_the_bytes_are_cut() {
        let whole = "aé語🦀\u{301}z";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let (mut utf8, mut text) = (Utf8::default(), String::new());
                let bytes = whole.as_bytes();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    utf8.push(piece, &mut text);
                    assert!(whole.starts_with(&text));
                }
                utf8.finish(&mut text);
                assert_eq!(text, whole);
            }
        }
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        let (mut utf8, mut text) = (Utf8::default(), String::new());
        utf8.push(b"a\xff\xf0\x9fb", &mut text);
        utf8.push(b"\xf0\x9f", &mut text);
        assert_eq!(text, "a\u{fffd}\u{fffd}b");
        utf8.finish(&mut text);
        assert_eq!(text, "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
