//! Splits the text of a prompt at its placeholders.
//!
//! A placeholder is `{{name}}`, where the name contains no braces; whitespace around the
//! name is ignored. Everything else is literal text, including `{x}`, `{{}}` and the outer
//! braces of `{{{x}}}`.

/// A literal or a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplatePiece<'a> {
    /// Literal text.
    Literal(&'a str),
    /// The name of a placeholder, without braces and surrounding whitespace.
    Placeholder(&'a str),
}

/// Returns an iterator over the pieces of `text`. Takes linear time.
pub fn pieces(text: &str) -> TemplatePieces<'_> {
    TemplatePieces {
        text,
        placeholder: None,
    }
}

/// The iterator returned by [`pieces`].
#[derive(Clone, Debug)]
pub struct TemplatePieces<'a> {
    text: &'a str,
    placeholder: Option<&'a str>,
}

impl<'a> Iterator for TemplatePieces<'a> {
    type Item = TemplatePiece<'a>;

    fn next(&mut self) -> Option<TemplatePiece<'a>> {
        if let Some(name) = self.placeholder.take() {
            return Some(TemplatePiece::Placeholder(name));
        }
        if self.text.is_empty() {
            return None;
        }
        let Some((start, end)) = first_placeholder(self.text) else {
            return Some(TemplatePiece::Literal(std::mem::take(&mut self.text)));
        };
        let literal = &self.text[..start];
        let name = self.text[start + 2..end - 2].trim();
        self.text = &self.text[end..];
        if literal.is_empty() {
            return Some(TemplatePiece::Placeholder(name));
        }
        self.placeholder = Some(name);
        Some(TemplatePiece::Literal(literal))
    }
}

/// Returns the byte range of the first placeholder, including its braces.
fn first_placeholder(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("{{")?;
        let inside = start + 2;
        let stop = inside + text[inside..].find(['{', '}'])?;
        if text[stop..].starts_with("}}") && !text[inside..stop].trim().is_empty() {
            return Some((start, stop + 2));
        }
        // The innermost braces delimit the placeholder: in `{{{x}}}` the second and third.
        // The search never goes back before `stop`, which keeps it linear.
        from = if stop == inside { start + 1 } else { stop };
    }
}

#[cfg(test)]
mod tests {
    use super::{TemplatePiece, pieces};

    /// Compares the pieces with `expected`, which has placeholder names in brackets.
    fn check(text: &str, expected: &str) {
        let formatted: String = pieces(text)
            .map(|piece| match piece {
                TemplatePiece::Literal(literal) => literal.to_owned(),
                TemplatePiece::Placeholder(name) => format!("[{name}]"),
            })
            .collect();
        assert_eq!(formatted, expected, "{text:?}");
    }

    #[test]
    fn splits_text_at_placeholders() {
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
    fn unclosed_braces_take_linear_time() {
        let braces = "{".repeat(2_000_000);
        assert_eq!(pieces(&braces).count(), 1);
        assert_eq!(pieces(&"{{a".repeat(500_000)).count(), 1);
    }
}
