//! The text of values inside identities and shard assignments. It is a written format:
//! a change would make every finished job of an old folder another job.

use std::fmt::Write;

/// Returns a text in quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\'' => quoted.push('\''),
            character => {
                let _infallible = write!(quoted, "{}", character.escape_debug());
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Returns an optional text.
pub(super) fn optional(text: Option<&str>) -> String {
    match text {
        Some(text) => format!("Some({})", quoted(text)),
        None => "None".to_owned(),
    }
}

/// Returns a list of names and values.
pub(super) fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("({}, {})", quoted(name), quoted(value)))
        .collect();
    format!("[{}]", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first version wrote Rust's own debug output.
    #[test]
    fn texts_are_as_the_first_version_wrote_them() {
        for text in [
            "",
            "a b",
            "\"q\"",
            "it's",
            "\\",
            "a\nb\t\r\0",
            "ü漢🙂",
            "\u{1}\u{7f}",
        ] {
            assert_eq!(quoted(text), format!("{text:?}"));
            assert_eq!(optional(Some(text)), format!("{:?}", Some(text)));
        }
        assert_eq!(optional(None), "None");
        let list = [
            ("a".to_owned(), "1\n".to_owned()),
            ("b".to_owned(), String::new()),
        ];
        assert_eq!(pairs(&list), format!("{list:?}"));
        assert_eq!(pairs(&[]), "[]");
    }
}
