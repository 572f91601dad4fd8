//! Formats a line of a text file with a caret below the position of an error.

/// A position in a text. Both numbers start at 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// Returns the position of a byte offset, or the end of `text` if the offset
    /// is not on a character boundary.
    pub(crate) fn from_offset(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The number of characters shown on each side of the caret.
const CONTEXT_CHARS: usize = 60;

/// Returns the line with its number, and a caret below the column. Returns an
/// empty string if the text has no such line.
pub(crate) fn source_snippet(text: &str, position: Position) -> String {
    let Some(line) = text.lines().nth(position.line.saturating_sub(1)) else {
        return String::new();
    };
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let characters: Vec<char> = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let column = position.column.saturating_sub(1).min(characters.len());
    let from = column.saturating_sub(CONTEXT_CHARS);
    let to = (column + CONTEXT_CHARS).min(characters.len());
    let shown: String = characters[from..to].iter().collect();
    let left = if from > 0 { "…" } else { "" };
    let right = if to < characters.len() { "…" } else { "" };
    let indent = " ".repeat(column - from + left.chars().count());
    format!("{margin} |\n{number} | {left}{shown}{right}\n{margin} | {indent}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_character_columns() {
        let text = "a = 1\nüb = ?\r\nlast";
        for (offset, line, column) in [
            (0, 1, 1),
            (5, 1, 6),
            (6, 2, 1),
            (8, 2, 2),
            (16, 3, 2),
            (99, 3, 5),
        ] {
            assert_eq!(
                Position::from_offset(text, offset),
                Position { line, column },
                "{offset}"
            );
        }
    }

    #[test]
    fn the_caret_is_below_the_column() {
        assert_eq!(
            source_snippet("x = 1\ny = = 2\n", Position { line: 2, column: 5 }),
            "  |\n2 | y = = 2\n  |     ^"
        );
        let long = "x".repeat(500);
        let shown = source_snippet(
            &long,
            Position {
                line: 1,
                column: 250,
            },
        );
        let [_, line, caret] = shown.lines().collect::<Vec<_>>()[..] else {
            panic!("{shown}")
        };
        assert!(line.chars().count() < 130);
        assert_eq!(line.chars().nth(caret.chars().count() - 1), Some('x'));
        assert_eq!(source_snippet("a", Position { line: 9, column: 1 }), "");
    }
}
