//! The part of Jinja that a prompt file can express: variables, texts in quotes, comments.

use crate::log::Skip;
use crate::syntax::{is_dotted_name, unquoted_find};
use crate::template::Piece;

/// A text or a variable, and the line on which it begins.
pub(crate) type Token = (usize, Piece);

/// Words that are not variables.
const KEYWORDS: [&str; 14] = [
    "true", "false", "none", "null", "True", "False", "None", "not", "and", "or", "in", "is", "if",
    "else",
];

/// Splits a template. The first line has the number `line`.
///
/// # Errors
/// Returns the reason to skip the prompt for a statement, an expression other than a variable,
/// or a tag that is not closed.
pub(crate) fn scan(text: &str, mut line: usize) -> Result<Vec<Token>, Skip> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text;
    let mut strips_next = false;
    loop {
        let opening = find_opening(rest);
        let (before, tag) = rest.split_at(opening.unwrap_or(rest.len()));
        let mut literal = before;
        if strips_next {
            literal = literal.trim_start();
        }
        let inside = tag.get(2..).unwrap_or_default();
        if inside.starts_with('-') {
            literal = literal.trim_end();
        }
        // The newlines that are stripped at the start do not shift the lines of the text.
        let stripped = before.len() - before.trim_start().len();
        let stripped = if strips_next { stripped } else { 0 };
        let newlines = |text: Option<&str>| text.unwrap_or_default().matches('\n').count();
        let literal_line = line + newlines(before.get(..stripped));
        push(&mut tokens, (literal_line, Piece::Text(literal.to_owned())));
        line += newlines(Some(before));
        if tag.is_empty() {
            return Ok(tokens);
        }
        let closing = match tag.get(..2) {
            Some("{{") => "}}",
            Some("{%") => "%}",
            _ => "#}",
        };
        let end = match closing {
            "#}" => inside.find(closing),
            _ => unquoted_find(inside, closing),
        };
        let Some(end) = end else {
            return Err(Skip::new(Some(line), "a tag that is not closed"));
        };
        let content = inside.get(..end).unwrap_or_default();
        let source = tag.get(..2 + end + 2).unwrap_or_default();
        strips_next = content.len() > 1 && content.ends_with('-');
        let content = content.strip_prefix(['-', '+']).unwrap_or(content);
        let content = content.strip_suffix(['-', '+']).unwrap_or(content).trim();
        match closing {
            "}}" => push(&mut tokens, (line, expression(content, source, line)?)),
            "%}" => {
                let reason = format!("`{source}` is template logic");
                return Err(Skip::new(Some(line), reason));
            }
            _ => {}
        }
        line += newlines(Some(source));
        rest = tag.get(source.len()..).unwrap_or_default();
    }
}

fn push(tokens: &mut Vec<Token>, token: Token) {
    if token.1 != Piece::Text(String::new()) {
        tokens.push(token);
    }
}

fn find_opening(text: &str) -> Option<usize> {
    let mut braces = text.match_indices('{').map(|(at, _)| at);
    braces.find(|at| {
        let after = text.get(at + 1..).unwrap_or_default();
        after.starts_with(['{', '%', '#'])
    })
}

fn expression(content: &str, source: &str, line: usize) -> Result<Piece, Skip> {
    if let Some(text) = string_literal(content) {
        return Ok(Piece::Text(text.to_owned()));
    }
    if is_variable(content) {
        return Ok(Piece::Param(content.to_owned()));
    }
    let reason = match content.contains('|') {
        true => format!("`{source}` contains a filter"),
        false => format!("`{source}` is more than a variable"),
    };
    Err(Skip::new(Some(line), reason))
}

fn string_literal(content: &str) -> Option<&str> {
    let quote = content.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let text = content.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(text).filter(|text| !text.contains([quote, '\\']))
}

/// Returns true for a name that is not a keyword, or several that are joined by dots.
pub(crate) fn is_variable(text: &str) -> bool {
    let is_first = |c: char| c.is_alphabetic() || c == '_';
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    is_dotted_name(text, is_first, is_part) && !KEYWORDS.contains(&text)
}
