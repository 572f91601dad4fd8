//! Splits a file into the YAML between its `---` lines and the body after them.

use crate::log::{Log, Skip};
use crate::yaml::{self, Entry, Node, Schema, Value, YamlError};

/// A file with front matter.
pub(crate) struct FrontMatter<'a> {
    /// The front matter: a map, or null if it is empty.
    pub(crate) head: Node,
    /// The text after the front matter.
    pub(crate) body: &'a str,
    /// The line on which the body begins, starting at 1.
    pub(crate) body_line: usize,
}

/// Splits a file. Blank lines and comments (`#`) before the front matter are ignored. Returns
/// `None` if the file does not begin with a `---` line.
///
/// # Errors
/// Returns the reason to skip the prompt if the front matter is not closed or not a map.
pub(crate) fn split(text: &str, schema: Schema) -> Result<Option<FrontMatter<'_>>, Skip> {
    let mut lines = Lines::new(text);
    let opening = lines.find(|line| {
        let text = line.text.trim_start();
        !text.is_empty() && !text.starts_with('#')
    });
    let Some(opening) = opening.filter(|line| line.text.trim_end() == "---") else {
        return Ok(None);
    };
    let Some(closing) = lines.find(|line| line.text.trim_end() == "---") else {
        let reason = "the front matter is not closed by a line `---`";
        return Err(Skip::new(Some(opening.number), reason));
    };
    let yaml_text = text.get(opening.end..closing.start).unwrap_or_default();
    let mut head = yaml::parse(yaml_text, schema).map_err(|error| skip(error, opening.number))?;
    shift_lines(&mut head, opening.number);
    match head.value {
        Value::Map(_) | Value::Null => Ok(Some(FrontMatter {
            head,
            body: text.get(closing.end..).unwrap_or_default(),
            body_line: closing.number + 1,
        })),
        _ => {
            let reason = format!("the front matter must be a map, not {}", head.type_name());
            Err(Skip::new(Some(head.line), reason))
        }
    }
}

/// Returns the reason to skip a prompt with invalid YAML that begins after `lines_before`.
pub(crate) fn skip(error: YamlError, lines_before: usize) -> Skip {
    let line = error.line + lines_before;
    let YamlError {
        column, message, ..
    } = error;
    let reason = format!("invalid YAML at line {line}, column {column}: {message}");
    Skip::new(Some(line), reason)
}

/// Returns a description on one line.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(words.join(" ")).filter(|line| !line.is_empty())
}

/// Notes the keys that have an effect in the source program and none here.
pub(crate) fn note_left_out(head: &Node, keys: &[(&str, &str)], log: &mut Log) {
    for entry in head.entries() {
        let known = keys.iter().find(|(key, _)| *key == entry.key);
        if let Some((key, advice)) = known
            && entry.node.value != Value::Null
        {
            log.left_out(Some(entry.line), format!("`{key}` is left out; {advice}"));
        }
    }
}

/// Returns the entries of the value of `key`. Notes a value that is not a map.
pub(crate) fn map_entries<'a>(node: &'a Node, key: &str, log: &mut Log) -> &'a [Entry] {
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        let message = format!(
            "`{key}` is left out; it must be a map, not {}",
            node.type_name()
        );
        log.left_out(Some(node.line), message);
    }
    node.entries()
}

/// Notes the keys that `is_known` does not accept.
pub(crate) fn note_unknown(head: &Node, is_known: impl Fn(&str) -> bool, log: &mut Log) {
    for entry in head.entries() {
        if !is_known(&entry.key) {
            log.left_out(
                Some(entry.line),
                format!("the unknown key `{}` is left out", entry.key),
            );
        }
    }
}

fn shift_lines(node: &mut Node, lines: usize) {
    node.line += lines;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift_lines(item, lines)),
        Value::Map(entries) => {
            for entry in entries {
                entry.line += lines;
                shift_lines(&mut entry.node, lines);
            }
        }
        _ => {}
    }
}

/// A line with its byte range, which includes the newline, and its number.
struct Line<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    number: usize,
}

struct Lines<'a> {
    text: &'a str,
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            number: 0,
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.at..)?;
        let line = rest.split_inclusive('\n').next()?;
        let start = self.at;
        self.at += line.len();
        self.number += 1;
        Some(Line {
            text: line.strip_suffix('\n').unwrap_or(line),
            start,
            end: self.at,
            number: self.number,
        })
    }
}
