//! Shows where in a text file something is wrong: the line, and a caret.

/// A place in a text; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// The place of a byte offset.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

/// How much of a long line is shown on either side of the caret, in characters.
const AROUND: usize = 60;

/// The line with its number, and a caret under the column. Empty when the text
/// has no such line.
pub(crate) fn excerpt(text: &str, place: Place) -> String {
    let Some(line) = text.lines().nth(place.line.saturating_sub(1)) else {
        return String::new();
    };
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let characters: Vec<char> = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let at = place.column.saturating_sub(1).min(characters.len());
    let from = at.saturating_sub(AROUND);
    let to = (at + AROUND).min(characters.len());
    let (cut_left, cut_right) = (from > 0, to < characters.len());
    let shown: String = characters[from..to].iter().collect();
    let left = if cut_left { "…" } else { "" };
    let right = if cut_right { "…" } else { "" };
    let indent = " ".repeat(at - from + left.chars().count());
    format!("{margin} |\n{number} | {left}{shown}{right}\n{margin} | {indent}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns_in_characters() {
        let text = "a = 1\nüb = ?\r\nlast";
        for (offset, line, column) in [
            (0, 1, 1),
            (5, 1, 6),
            (6, 2, 1),
            (8, 2, 2),
            (16, 3, 2),
            (99, 3, 5),
        ] {
            assert_eq!(Place::of(text, offset), Place { line, column }, "{offset}");
        }
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        assert_eq!(
            excerpt("x = 1\ny = = 2\n", Place { line: 2, column: 5 }),
            "  |\n2 | y = = 2\n  |     ^"
        );
        let long = "x".repeat(500);
        let shown = excerpt(
            &long,
            Place {
                line: 1,
                column: 250,
            },
        );
        let [_, line, caret] = shown.lines().collect::<Vec<_>>()[..] else {
            panic!("{shown}")
        };
        assert!(line.chars().count() < 130);
        assert_eq!(line.chars().nth(caret.chars().count() - 1), Some('x'));
        assert_eq!(excerpt("a", Place { line: 9, column: 1 }), "");
    }
}
