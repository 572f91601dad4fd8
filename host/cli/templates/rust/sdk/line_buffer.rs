//! Collects chunks to lines.

/// Collects the chunks of an answer to lines, and holds back the text of a line until its end.
#[derive(Debug, Default)]
pub struct LineBuffer {
    held: String,
}

impl LineBuffer {
    /// Adds a chunk. Returns the lines that it completes, each with its newline.
    pub fn push(&mut self, chunk: &str) -> Vec<String> {
        self.held.push_str(chunk);
        let end = self.held.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.held.split_off(end);
        let complete = std::mem::replace(&mut self.held, rest);
        complete.split_inclusive('\n').map(str::to_owned).collect()
    }

    /// Returns the text after the last newline, which may be empty.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
