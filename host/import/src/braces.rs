//! The tags of Handlebars and Mustache. Tags with logic are found, not interpreted.

use crate::log::Skip;
use crate::syntax::unquoted_find;

/// A template language with tags in double braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Handlebars,
    Mustache,
}

/// A text or a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The line on which it begins.
    pub(crate) line: usize,
    pub(crate) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Text(String),
    /// `{{x}}`, `{{{x}}}` or `{{&x}}`, by its content.
    Value(String),
    /// `{{> name}}`, by its content, and the indentation of a tag that is alone on its line.
    Partial {
        content: String,
        indent: String,
    },
    Comment,
}

/// A token, and the side on which its tag removes whitespace.
struct Scanned {
    token: Token,
    strips_left: bool,
    strips_right: bool,
}

/// Splits a template. The first line has the number `line`.
///
/// # Errors
/// Returns the reason to skip the prompt for a block, another tag with logic, or a tag that is
/// not closed.
pub(crate) fn scan(text: &str, line: usize, language: Language) -> Result<Vec<Token>, Skip> {
    let mut scanner = Scanner {
        text,
        at: 0,
        line,
        language,
        found: Vec::new(),
    };
    scanner.run()?;
    let mut found = scanner.found;
    strip_standalone_lines(&mut found);
    strip_marked_whitespace(&mut found);
    Ok(found.into_iter().map(|scanned| scanned.token).collect())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    language: Language,
    found: Vec<Scanned>,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn run(&mut self) -> Result<(), Skip> {
        while let Some(opening) = self.rest().find("{{") {
            let before = self.rest().get(..opening).unwrap_or_default();
            match self.backslashes(before) {
                0 => {
                    self.push_text(before);
                    self.at += opening;
                    self.tag()?;
                }
                1 => {
                    // `\{{x}}` is text up to the next tag.
                    self.push_text(before.strip_suffix('\\').unwrap_or(before));
                    self.at += opening;
                    let after = self.rest().get(2..).unwrap_or_default();
                    let end = after.find("{{").map_or(self.rest().len(), |next| {
                        let between = after.get(..next).unwrap_or_default();
                        2 + next - self.backslashes(between)
                    });
                    let literal = self.rest().get(..end).unwrap_or_default();
                    self.push_text(literal);
                    self.at += end;
                }
                _ => {
                    self.push_text(before.strip_suffix('\\').unwrap_or(before));
                    self.at += opening;
                    self.tag()?;
                }
            }
        }
        let rest = self.rest();
        self.push_text(rest);
        Ok(())
    }

    /// Returns the number of backslashes at the end of a text that escape a tag, at most two.
    fn backslashes(&self, text: &str) -> usize {
        match self.language {
            Language::Handlebars if text.ends_with("\\\\") => 2,
            Language::Handlebars if text.ends_with('\\') => 1,
            _ => 0,
        }
    }

    fn push_text(&mut self, text: &str) {
        if let Some(Scanned {
            token:
                Token {
                    kind: TokenKind::Text(last),
                    ..
                },
            ..
        }) = self.found.last_mut()
        {
            last.push_str(text);
        } else if !text.is_empty() {
            self.push(TokenKind::Text(text.to_owned()), false, false);
        }
        self.line += text.matches('\n').count();
    }

    fn push(&mut self, kind: TokenKind, strips_left: bool, strips_right: bool) {
        let token = Token {
            line: self.line,
            kind,
        };
        self.found.push(Scanned {
            token,
            strips_left,
            strips_right,
        });
    }

    /// Reads the tag at the current position.
    fn tag(&mut self) -> Result<(), Skip> {
        let rest = self.rest();
        let is_handlebars = self.language == Language::Handlebars;
        if is_handlebars && rest.starts_with("{{{{") {
            return Err(self.skip("a raw block `{{{{…}}}}`"));
        }
        let is_triple = rest.starts_with("{{{");
        let inside = rest
            .get(if is_triple { 3 } else { 2 }..)
            .unwrap_or_default();
        let strips_left = is_handlebars && inside.starts_with('~');
        let is_comment = inside.trim_start_matches('~').starts_with('!');
        let closing = if is_triple { "}}}" } else { "}}" };
        let end = match is_comment {
            true => self.comment_end(inside),
            false if is_handlebars => unquoted_find(inside, closing),
            false => inside.find(closing),
        };
        let Some(content) = end.and_then(|end| inside.get(..end)) else {
            return Err(self.skip("a tag that is not closed"));
        };
        let strips_right = is_handlebars && content.ends_with('~');
        let source_length = rest.len() - inside.len() + content.len() + closing.len();
        let source = rest.get(..source_length).unwrap_or_default();
        let content = match is_handlebars {
            true => content.strip_prefix('~').unwrap_or(content),
            false => content,
        };
        let content = match strips_right {
            true => content.strip_suffix('~').unwrap_or(content),
            false => content,
        };
        let kind = self.kind(content.trim(), source)?;
        self.push(kind, strips_left, strips_right);
        self.line += source.matches('\n').count();
        self.at += source_length;
        Ok(())
    }

    /// Returns the position of the `}}` that closes a comment. A long one ends with `--` or
    /// `--~` before them. Stops at the first, since a file can contain many comments.
    fn comment_end(&self, inside: &str) -> Option<usize> {
        let is_long = self.language == Language::Handlebars
            && inside.trim_start_matches('~').starts_with("!--");
        let mut ends = inside.match_indices("}}").map(|(end, _)| end);
        ends.find(|end| {
            let content = inside.get(..*end).unwrap_or_default();
            !is_long || content.ends_with("--") || content.ends_with("--~")
        })
    }

    fn kind(&self, content: &str, source: &str) -> Result<TokenKind, Skip> {
        let after_first = content.get(1..).unwrap_or_default().trim();
        match content.chars().next() {
            None => Err(self.skip(&format!("`{source}` is empty"))),
            Some('!') => Ok(TokenKind::Comment),
            Some('&') => Ok(TokenKind::Value(after_first.to_owned())),
            Some('>') => Ok(TokenKind::Partial {
                content: after_first.to_owned(),
                indent: String::new(),
            }),
            Some('#' | '^' | '/' | '*' | '=') => {
                Err(self.skip(&format!("`{source}` is template logic")))
            }
            Some(_) => Ok(TokenKind::Value(content.to_owned())),
        }
    }

    fn skip(&self, reason: &str) -> Skip {
        Skip::new(Some(self.line), reason)
    }
}

/// Removes the lines that contain only a comment or a partial.
fn strip_standalone_lines(found: &mut [Scanned]) {
    let standalone: Vec<bool> = (0..found.len())
        .map(|at| is_standalone(found, at))
        .collect();
    for at in standalone
        .into_iter()
        .enumerate()
        .filter_map(|(at, is_standalone)| is_standalone.then_some(at))
    {
        let mut removed = String::new();
        if let Some(before) = at.checked_sub(1).and_then(|at| text_mut(found, at)) {
            let kept = before.trim_end_matches([' ', '\t']).len();
            removed = before.split_off(kept);
        }
        if let Some(after) = text_mut(found, at + 1) {
            let unindented = after.trim_start_matches([' ', '\t']);
            *after = unindented
                .strip_prefix('\n')
                .unwrap_or(unindented)
                .to_owned();
        }
        if let Some(Scanned {
            token:
                Token {
                    kind: TokenKind::Partial { indent, .. },
                    ..
                },
            ..
        }) = found.get_mut(at)
        {
            *indent = removed;
        }
    }
}

fn is_standalone(found: &[Scanned], at: usize) -> bool {
    let kind = |at: usize| found.get(at).map(|scanned| &scanned.token.kind);
    if !matches!(
        kind(at),
        Some(TokenKind::Comment | TokenKind::Partial { .. })
    ) {
        return false;
    }
    let is_blank = |text: &str| text.trim_matches([' ', '\t']).is_empty();
    let starts_line = match at.checked_sub(1) {
        None => true,
        Some(before) => match kind(before) {
            Some(TokenKind::Text(text)) => match text.rsplit_once('\n') {
                Some((_, last)) => is_blank(last),
                None => before == 0 && is_blank(text),
            },
            _ => false,
        },
    };
    let ends_line = match kind(at + 1) {
        None => true,
        Some(TokenKind::Text(text)) => match text.split_once('\n') {
            Some((first, _)) => is_blank(first),
            None => at + 2 == found.len() && is_blank(text),
        },
        Some(_) => false,
    };
    starts_line && ends_line
}

/// Removes the whitespace beside tags with `~`.
fn strip_marked_whitespace(found: &mut [Scanned]) {
    for at in 0..found.len() {
        let Some((strips_left, strips_right)) = found
            .get(at)
            .map(|scanned| (scanned.strips_left, scanned.strips_right))
        else {
            continue;
        };
        if strips_left && let Some(before) = at.checked_sub(1).and_then(|at| text_mut(found, at)) {
            before.truncate(before.trim_end().len());
        }
        if strips_right && let Some(after) = text_mut(found, at + 1) {
            *after = after.trim_start().to_owned();
        }
    }
}

fn text_mut(found: &mut [Scanned], at: usize) -> Option<&mut String> {
    match &mut found.get_mut(at)?.token.kind {
        TokenKind::Text(text) => Some(text),
        _ => None,
    }
}
