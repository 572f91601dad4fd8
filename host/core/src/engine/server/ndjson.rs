//! Decodes newline-delimited JSON, the format of Ollama's streams.

use super::line_decoder::{LineDecoder, LineTooLong};

/// Splits a byte stream into lines without the blank ones, independent of its
/// chunks.
#[derive(Debug, Default)]
pub(super) struct NdjsonDecoder {
    lines: LineDecoder,
}

impl NdjsonDecoder {
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        lines: &mut Vec<String>,
    ) -> Result<(), LineTooLong> {
        self.lines.push(bytes, |line| {
            if !line.trim().is_empty() {
                lines.push(line.to_owned());
            }
            Ok(())
        })
    }

    /// Ends the stream. The last line may lack its line end.
    pub(super) fn finish(&mut self, lines: &mut Vec<String>) {
        lines.extend(
            self.lines
                .take_rest()
                .filter(|line| !line.trim().is_empty()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let (mut decoder, mut lines) = (NdjsonDecoder::default(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk, &mut lines).unwrap();
        }
        decoder.finish(&mut lines);
        lines
    }

    #[test]
    fn lines_do_not_depend_on_chunk_boundaries() {
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
                    "split at {at}"
                );
            }
            let single_bytes: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(decode(&single_bytes), expected);
        }
    }
}
