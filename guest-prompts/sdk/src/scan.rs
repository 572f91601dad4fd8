//! Finds the first of several short strings (needles) in a stream, ignoring ASCII case.

/// The result of [`find_first`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanResult {
    /// A needle was found.
    Found {
        /// Byte offset of its first byte.
        start: usize,
        /// Byte offset after its last byte.
        end: usize,
        /// Index of the needle.
        index: usize,
    },
    /// No needle was found. The text from this byte offset to the end may be the beginning
    /// of one; it may be empty.
    Partial(usize),
}

/// Finds the first needle in `text`. If two match at the same offset, returns the shorter
/// one, which is complete first however the text is split into chunks. Empty needles are never
/// found.
pub fn find_first(text: &str, needles: &[impl AsRef<str>]) -> ScanResult {
    let bytes = text.as_bytes();
    for start in 0..bytes.len() {
        let rest = &bytes[start..];
        let mut found: Option<(usize, usize)> = None;
        let mut open = false;
        for (index, needle) in needles.iter().enumerate() {
            let needle = needle.as_ref().as_bytes();
            let common = rest.len().min(needle.len());
            if needle.is_empty() || !rest[..common].eq_ignore_ascii_case(&needle[..common]) {
                continue;
            }
            if common < needle.len() {
                open = true;
            } else if found.is_none_or(|(end, _)| start + common < end) {
                found = Some((start + common, index));
            }
        }
        if let Some((end, index)) = found {
            return ScanResult::Found { start, end, index };
        }
        if open {
            return ScanResult::Partial(start);
        }
    }
    ScanResult::Partial(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::{ScanResult, find_first};

    #[test]
    fn finds_the_first_needle() {
        let needles = ["<a>", "", "</a>"];
        let found = |start, end, index| ScanResult::Found { start, end, index };
        for (text, expected) in [
            ("", ScanResult::Partial(0)),
            ("abc", ScanResult::Partial(3)),
            ("x<a>y", found(1, 4, 0)),
            ("x</A><a>", found(1, 5, 2)),
            ("x<", ScanResult::Partial(1)),
            ("x<<a", ScanResult::Partial(2)),
            ("é<a", ScanResult::Partial(2)),
            ("<b><a>", found(3, 6, 0)),
        ] {
            assert_eq!(find_first(text, &needles), expected, "{text}");
        }
    }
}
