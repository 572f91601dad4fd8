//! Looking for the first of a few short texts in a stream, letter case aside.

/// The most bytes of a text looked for: what is held back is at most as long.
pub(super) const NEEDLE_BYTES_MAX: usize = 256;

/// What a look at the text so far gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The needle of that index stands here.
    Found {
        /// Byte offset of its first byte.
        start: usize,
        /// Byte offset after its last byte.
        end: usize,
        /// Which needle it is.
        index: usize,
    },
    /// No needle; from this offset on, the text may still become one.
    Open(usize),
}

/// Finds the first needle. Of two that begin at the same place the shorter
/// counts, because it is complete first however the text is cut.
pub(super) fn scan(text: &str, needles: &[String]) -> Scan {
    let bytes = text.as_bytes();
    for start in 0..bytes.len() {
        let rest = &bytes[start..];
        let mut found: Option<(usize, usize)> = None;
        let mut open = false;
        for (index, needle) in needles.iter().enumerate() {
            let needle = needle.as_bytes();
            let common = rest.len().min(needle.len());
            if !rest[..common].eq_ignore_ascii_case(&needle[..common]) {
                continue;
            }
            if common < needle.len() {
                open = true;
            } else if found.is_none_or(|(end, _)| start + common < end) {
                found = Some((start + common, index));
            }
        }
        if let Some((end, index)) = found {
            return Scan::Found { start, end, index };
        }
        if open {
            return Scan::Open(start);
        }
    }
    Scan::Open(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::{Scan, scan};

    #[test]
    fn finds_the_first() {
        let needles = ["<a>".to_owned(), "</a>".to_owned()];
        let found = |start, end, index| Scan::Found { start, end, index };
        for (text, expected) in [
            ("", Scan::Open(0)),
            ("abc", Scan::Open(3)),
            ("x<a>y", found(1, 4, 0)),
            ("x</A><a>", found(1, 5, 1)),
            ("x<", Scan::Open(1)),
            ("x<<a", Scan::Open(2)),
            ("é<a", Scan::Open(2)),
            ("<b><a>", found(3, 6, 0)),
        ] {
            assert_eq!(scan(text, &needles), expected, "{text}");
        }
    }
}
