//! Lines of JSON, as Ollama streams them.

use super::lines::{Lines, TooLong};

/// Takes bytes in any pieces and gives lines that are not blank.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    lines: Lines,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8], lines: &mut Vec<String>) -> Result<(), TooLong> {
        self.lines.push(bytes, |line| {
            if !line.trim().is_empty() {
                lines.push(line.to_owned());
            }
            Ok(())
        })
    }

    /// The body has ended; a last line may lack its end.
    pub(super) fn finish(&mut self, lines: &mut Vec<String>) {
        lines.extend(self.lines.rest().filter(|it| !it.trim().is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let (mut decoder, mut lines) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut lines).unwrap();
        }
        decoder.finish(&mut lines);
        lines
    }

    #[test]
    fn the_cut_does_not_matter() {
        for (body, expected) in [
            (
                "{\"a\":1}\n{\"b\":\"ä\"}\n",
                &["{\"a\":1}", "{\"b\":\"ä\"}"][..],
            ),
            (
                "{\"a\":1}\r\n\r\n{\"b\":\"🙂\"}",
                &["{\"a\":1}", "{\"b\":\"🙂\"}"],
            ),
            ("\n \n", &[]),
            ("", &[]),
        ] {
            let bytes = body.as_bytes();
            assert_eq!(decode(&[bytes]), expected);
            for at in 0..=bytes.len() {
                assert_eq!(
                    decode(&[&bytes[..at], &bytes[at..]]),
                    expected,
                    "cut at {at}"
                );
            }
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(decode(&each), expected);
        }
    }
}
