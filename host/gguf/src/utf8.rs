//! Decodes UTF-8 from pieces of bytes, since tokens of byte-level models may end in the
//! middle of a character.

/// A streaming UTF-8 decoder that buffers the bytes of an incomplete character.
#[derive(Debug, Default)]
pub(super) struct Utf8Decoder {
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// Appends the complete characters to `text`. Invalid bytes become the replacement
    /// character.
    pub(super) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while done < self.pending.len() {
            match std::str::from_utf8(&self.pending[done..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.pending.len();
                }
                Err(error) => {
                    let valid = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[done..valid]));
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
        self.pending.drain(..done);
    }

    /// Appends the replacement character if an incomplete character is left.
    pub(super) fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_characters_are_decoded() {
        let expected = "aé語🦀\u{301}z";
        for first in 0..=expected.len() {
            for second in first..=expected.len() {
                let (mut utf8, mut text) = (Utf8Decoder::default(), String::new());
                let bytes = expected.as_bytes();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    utf8.push(piece, &mut text);
                    assert!(expected.starts_with(&text));
                }
                utf8.finish(&mut text);
                assert_eq!(text, expected);
            }
        }
    }

    #[test]
    fn invalid_bytes_are_replaced() {
        let (mut utf8, mut text) = (Utf8Decoder::default(), String::new());
        utf8.push(b"a\xff\xf0\x9fb", &mut text);
        utf8.push(b"\xf0\x9f", &mut text);
        assert_eq!(text, "a\u{fffd}\u{fffd}b");
        utf8.finish(&mut text);
        assert_eq!(text, "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
