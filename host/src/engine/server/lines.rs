//! Lines out of bytes that come in any pieces.

/// The longest line, and the most data of one frame. An answer's longest piece
/// is far below it; a stream without line ends must not fill the memory.
pub(super) const BYTES_MAX: usize = 16 << 20;

/// A line without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {} MiB", BYTES_MAX >> 20)]
pub(super) struct TooLong;

/// Cuts at LF, CRLF and lone CR.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// A CR came last: an LF right after it belongs to it.
    after_return: bool,
}

impl Lines {
    /// Gives each line that is complete. What is no UTF-8 becomes U+FFFD; lines
    /// are decoded when they are complete, so that a character may be cut.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut give: impl FnMut(&str) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|it| matches!(it, b'\n' | b'\r'));
            let (part, left) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + part.len() > BYTES_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_some() {
                self.after_return = left.first() == Some(&b'\r');
                rest = left.get(1..).unwrap_or_default();
                let line = std::mem::take(&mut self.line);
                give(&String::from_utf8_lossy(&line))?;
            } else {
                rest = left;
            }
        }
        Ok(())
    }

    /// What came after the last line end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}
