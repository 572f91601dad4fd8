//! Splits a byte stream into lines, independent of its chunks.

/// Maximum size of a line in bytes, and of the data of one frame. Real chunks
/// of an answer are far smaller; the limit keeps a stream without line ends
/// from filling the memory.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

/// A line exceeds `MAX_LINE_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {} MiB", MAX_LINE_BYTES >> 20)]
pub(super) struct LineTooLong;

/// Splits at LF, CRLF and lone CR.
#[derive(Debug, Default)]
pub(super) struct LineDecoder {
    line: Vec<u8>,
    /// The last byte was a CR, so that an LF right after it belongs to it.
    after_cr: bool,
}

impl LineDecoder {
    /// Adds a chunk of bytes and calls `on_line` for each completed line.
    /// Invalid UTF-8 becomes U+FFFD. Lines are decoded once they are complete,
    /// so that chunks may split a character.
    ///
    /// # Errors
    /// Returns an error if a line is too long, or an error of `on_line`.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut on_line: impl FnMut(&str) -> Result<(), LineTooLong>,
    ) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, tail) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err(LineTooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_some() {
                self.after_cr = tail.first() == Some(&b'\r');
                rest = tail.get(1..).unwrap_or_default();
                let line = std::mem::take(&mut self.line);
                on_line(&String::from_utf8_lossy(&line))?;
            } else {
                rest = tail;
            }
        }
        Ok(())
    }

    /// Takes the text after the last line end; `None` if there is none.
    pub(super) fn take_rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}
