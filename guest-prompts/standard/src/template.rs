//! The text of a prompt, cut at its placeholders.
//!
//! A placeholder is `{{name}}`, where the name holds no braces; blanks and line
//! ends around it do not count. All else is literal, also `{x}`, `{{}}`, and
//! the outer braces of `{{{x}}}`.

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Goes out as it stands.
    Literal(&'a str),
    /// The name of a placeholder, without braces and blanks.
    Name(&'a str),
}

/// Cuts a text into its pieces, in one pass.
pub fn pieces(text: &str) -> Pieces<'_> {
    Pieces {
        text,
        placeholder: None,
    }
}

/// The iterator that [`pieces`] returns.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    text: &'a str,
    placeholder: Option<&'a str>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some(name) = self.placeholder.take() {
            return Some(Piece::Name(name));
        }
        if self.text.is_empty() {
            return None;
        }
        let Some((start, end)) = first_placeholder(self.text) else {
            return Some(Piece::Literal(std::mem::take(&mut self.text)));
        };
        let literal = &self.text[..start];
        let name = self.text[start + 2..end - 2].trim();
        self.text = &self.text[end..];
        if literal.is_empty() {
            return Some(Piece::Name(name));
        }
        self.placeholder = Some(name);
        Some(Piece::Literal(literal))
    }
}

/// Where the first placeholder begins and ends, braces included.
fn first_placeholder(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("{{")?;
        let inside = start + 2;
        let stop = inside + text[inside..].find(['{', '}'])?;
        if text[stop..].starts_with("}}") && !text[inside..stop].trim().is_empty() {
            return Some((start, stop + 2));
        }
        // The innermost pair of braces counts: in `{{{x}}}` the second one.
        // Never going back before `stop` keeps this linear.
        from = if stop == inside { start + 1 } else { stop };
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, pieces};

    /// Names in brackets, literals as they are.
    fn check(text: &str, expected: &str) {
        let shown: String = pieces(text)
            .map(|piece| match piece {
                Piece::Literal(literal) => literal.to_owned(),
                Piece::Name(name) => format!("[{name}]"),
            })
            .collect();
        assert_eq!(shown, expected, "{text:?}");
    }

    #[test]
    fn finds_placeholders() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{{a}}", "[a]"),
            ("x{{a}}y{{b.c}}z", "x[a]y[b.c]z"),
            ("{{ a }}{{\n b\t}}", "[a][b]"),
            ("{{{a}}}", "{[a]}"),
            ("{{{{a}}}}", "{{[a]}}"),
            ("{{}} {{ }} {a} {a!r}", "{{}} {{ }} {a} {a!r}"),
            ("{{a", "{{a"),
            ("{{a}", "{{a}"),
            ("{{a}b}}", "{{a}b}}"),
            ("{{a{b}}", "{{a{b}}"),
            ("{{a{{b}}", "{{a[b]"),
            ("{{a}}}", "[a]}"),
            ("{{{}}}", "{{{}}}"),
            ("{{über}}", "[über]"),
            ("{", "{"),
            ("}}{{", "}}{{"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn is_linear_in_braces() {
        let braces = "{".repeat(2_000_000);
        assert_eq!(pieces(&braces).count(), 1);
        assert_eq!(pieces(&"{{a".repeat(500_000)).count(), 1);
    }
}
