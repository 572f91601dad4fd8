//! The `post` property: the processors of a prompt.
//!
//! An item is a table `{ name = "…", options = { … } }` or a string
//! `name:key=value,key=value`. In the string, `\,` `\:` `\=` and `\\` are escapes for the
//! character after the backslash.

use crate::document::Document;
use crate::processor;
use crate::value::{Node, Table, Value};
use lmstrix_pack::{Entry, Error, ProcessorRef};

/// Reads the `post` property. Adds a warning for each unknown key.
///
/// # Errors
/// Returns an error if an item is invalid or if a processor of this pack rejects its
/// options.
pub fn read(
    document: &Document,
    node: &Node,
    warnings: &mut Vec<String>,
) -> Result<Vec<ProcessorRef>, Error> {
    let nodes = match &node.value {
        Value::Array(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut processors = Vec::new();
    for node in nodes {
        let processor = match &node.value {
            Value::String(text) => {
                parse_string(text).map_err(|message| document.error(node.offset, message))?
            }
            Value::Table(table) => read_table(document, node, table, warnings)?,
            other => {
                let found = other.type_name();
                let message =
                    format!("`post` must be a processor or an array of processors, not {found}");
                return Err(document.error(node.offset, message));
            }
        };
        check_opens(document, node, &processor)?;
        processors.push(processor);
    }
    Ok(processors)
}

/// Parses the string form.
///
/// # Errors
/// Returns a message if the name is empty or an option is not `key=value`.
pub fn parse_string(text: &str) -> Result<ProcessorRef, String> {
    let (name, options) = match split_once(text, ':') {
        Some((name, options)) => (name, Some(options)),
        None => (text, None),
    };
    let name = unescape(name.trim());
    if name.is_empty() {
        return Err(format!("`{text}` does not start with a processor name"));
    }
    let mut entries = Vec::new();
    let mut rest = options.filter(|options| !options.trim().is_empty());
    while let Some(options) = rest {
        let (option, after) = match split_once(options, ',') {
            Some((option, after)) => (option, Some(after)),
            None => (options, None),
        };
        let Some((key, value)) = split_once(option, '=') else {
            return Err(format!("`{option}` in `{text}` is not `key=value`"));
        };
        entries.push(Entry::new(unescape(key.trim()), unescape(value)));
        rest = after;
    }
    Ok(ProcessorRef {
        name,
        options: entries,
    })
}

/// Splits at the first separator that is not escaped by a backslash.
fn split_once(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            return Some((&text[..at], &text[at + c.len_utf8()..]));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Removes the backslash of each escape. A backslash before any other character is kept.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next @ (',' | ':' | '=' | '\\')) if c == '\\' => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

fn read_table(
    document: &Document,
    node: &Node,
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<ProcessorRef, Error> {
    let name = match table.get("name").map(|name| &name.value) {
        Some(Value::String(name)) if !name.is_empty() => name.clone(),
        _ => return Err(document.error(node.offset, "a processor in `post` has no `name`")),
    };
    let mut options = Vec::new();
    match table.get("options").map(|options| &options.value) {
        None => {}
        Some(Value::Table(table)) => {
            for (key, node) in table {
                match &node.value {
                    Value::Array(_) | Value::Table(_) => {
                        let found = node.value.type_name();
                        let message = format!("option `{key}` must be a scalar, not {found}");
                        return Err(document.error(node.offset, message));
                    }
                    value => options.push(Entry::new(key, value.to_text().unwrap_or_default())),
                }
            }
        }
        Some(_) => return Err(document.error(node.offset, "`options` must be a table")),
    }
    for (key, node) in table {
        if !["name", "options"].contains(&key.as_str()) {
            let location = document.location(node.key_offset);
            warnings.push(format!("{location}: unknown key `{key}` in `post`"));
        }
    }
    Ok(ProcessorRef { name, options })
}

/// Opens a processor of this pack to report invalid options before the model runs.
/// Processors of other packs (`pack/name`) are checked by the host.
fn check_opens(document: &Document, node: &Node, processor: &ProcessorRef) -> Result<(), Error> {
    if processor.name.contains('/') {
        return Ok(());
    }
    let name = &processor.name;
    let message = match processor::open(name, &processor.options) {
        Ok(_) => return Ok(()),
        Err(Error::UnknownProcessor(similar)) if similar.is_empty() => {
            format!("unknown processor `{name}`")
        }
        Err(Error::UnknownProcessor(similar)) => {
            format!(
                "unknown processor `{name}`; did you mean {}?",
                quoted(&similar)
            )
        }
        Err(Error::InvalidParam((option, message))) => {
            format!("invalid option `{option}` of `{name}`: {message}")
        }
        Err(other) => return Err(other),
    };
    Err(document.error(node.offset, message))
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::parse_string;

    fn check(text: &str, expected: &str) {
        let formatted = match parse_string(text) {
            Ok(processor) => processor
                .options
                .iter()
                .fold(processor.name, |line, option| {
                    format!("{line} [{}]=[{}]", option.key, option.value)
                }),
            Err(message) => format!("error: {message}"),
        };
        assert_eq!(formatted, expected, "{text}");
    }

    #[test]
    fn parses_the_string_form() {
        check("trim", "trim");
        check("trim:", "trim");
        check("fence:lang=rust", "fence [lang]=[rust]");
        check("a/b:x=1, y = 2", "a/b [x]=[1] [y]=[ 2]");
        check(
            "replace:from=a\\,b,to=c\\=d",
            "replace [from]=[a,b] [to]=[c=d]",
        );
        check("replace:from=a:b,to=c=d", "replace [from]=[a:b] [to]=[c=d]");
        check("replace:from=\\\\,to=\\n", "replace [from]=[\\] [to]=[\\n]");
        check("a\\:b:x=", "a:b [x]=[]");
        check("", "error: `` does not start with a processor name");
        check(":x=1", "error: `:x=1` does not start with a processor name");
        check(
            "tag:quiet",
            "error: `quiet` in `tag:quiet` is not `key=value`",
        );
        check("tag:a=1,", "error: `` in `tag:a=1,` is not `key=value`");
    }
}
