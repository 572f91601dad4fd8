//! What the text before a tag makes of it.

/// Tracks the position of the next character of the answer: in a code block, at the start of
/// a line, after a quotation mark.
#[derive(Debug)]
pub(super) struct CodeTracker {
    pub(super) in_block: bool,
    /// Only whitespace since the last line end.
    is_blank_line: bool,
    /// Length of the run of backticks at the end, if it began a line.
    fence: usize,
    last: Option<char>,
}

impl Default for CodeTracker {
    fn default() -> Self {
        Self {
            in_block: false,
            is_blank_line: true,
            fence: 0,
            last: None,
        }
    }
}

impl CodeTracker {
    pub(super) fn push(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '`' if self.is_blank_line || self.fence > 0 => self.fence += 1,
                _ => {
                    self.in_block ^= self.fence >= 3;
                    self.fence = 0;
                }
            }
            self.is_blank_line = c == '\n' || self.is_blank_line && c.is_whitespace();
            self.last = Some(c);
        }
    }

    pub(super) fn is_line_start(&self) -> bool {
        self.is_blank_line
    }

    /// Returns the mark that ends the quotation of the next character, if one begins there.
    pub(super) fn closing_quote(&self) -> Option<char> {
        match self.last? {
            quote @ ('`' | '"' | '\'') => Some(quote),
            '“' | '„' => Some('”'),
            '‘' => Some('’'),
            '«' => Some('»'),
            _ => None,
        }
    }
}
