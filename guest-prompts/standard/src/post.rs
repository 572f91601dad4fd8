//! The `post` property: which processors the answer runs through.
//!
//! An item is a table `{ name = "…", options = { … } }`, or a short form in one
//! string, `name:key=value,key=value`, in which `\,` `\:` `\=` and `\\` stand
//! for themselves.

use crate::document::Document;
use crate::processor;
use crate::types::{Entry, Error, ProcessorRef};
use crate::value::{Node, Table, Value};

/// Reads `post`; unknown keys become warnings.
pub fn read(
    document: &Document,
    node: &Node,
    warnings: &mut Vec<String>,
) -> Result<Vec<ProcessorRef>, Error> {
    let nodes = match &node.value {
        Value::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut processors = Vec::new();
    for node in nodes {
        let processor = match &node.value {
            Value::Text(text) => {
                parse_short(text).map_err(|message| document.error(node.at, message))?
            }
            Value::Table(table) => read_table(document, node, table, warnings)?,
            other => {
                let found = other.type_name();
                let message = format!("`post` must name processors, not {found}");
                return Err(document.error(node.at, message));
            }
        };
        check(document, node, &processor)?;
        processors.push(processor);
    }
    Ok(processors)
}

/// Parses the short form.
pub fn parse_short(text: &str) -> Result<ProcessorRef, String> {
    let (name, options) = match split_once(text, ':') {
        Some((name, options)) => (name, Some(options)),
        None => (text, None),
    };
    let name = unescape(name.trim());
    if name.is_empty() {
        return Err(format!("`{text}` does not begin with a processor's name"));
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

/// At the first separator that no backslash escapes.
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

/// A backslash before anything else than a separator stays.
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
        Some(Value::Text(name)) if !name.is_empty() => name.clone(),
        _ => return Err(document.error(node.at, "a processor in `post` needs a `name`")),
    };
    let mut options = Vec::new();
    match table.get("options").map(|options| &options.value) {
        None => {}
        Some(Value::Table(table)) => {
            for (key, node) in table {
                match &node.value {
                    Value::List(_) | Value::Table(_) => {
                        let found = node.value.type_name();
                        let message = format!("the option `{key}` must be a text, not {found}");
                        return Err(document.error(node.at, message));
                    }
                    value => options.push(Entry::new(key, value.to_text().unwrap_or_default())),
                }
            }
        }
        Some(_) => return Err(document.error(node.at, "`options` must be a table")),
    }
    for (key, node) in table {
        if !["name", "options"].contains(&key.as_str()) {
            let place = document.place(node.key_at);
            warnings.push(format!("{place}: unknown key `{key}` in `post`"));
        }
    }
    Ok(ProcessorRef { name, options })
}

/// A processor of this pack that could not be opened is better found before the
/// model has worked. Those of other packs (`pack/name`) only the host knows.
fn check(document: &Document, node: &Node, processor: &ProcessorRef) -> Result<(), Error> {
    if processor.name.contains('/') {
        return Ok(());
    }
    let name = &processor.name;
    let message = match processor::open(name, &processor.options) {
        Ok(_) => return Ok(()),
        Err(Error::UnknownProcessor(close)) if close.is_empty() => {
            format!("there is no processor `{name}`")
        }
        Err(Error::UnknownProcessor(close)) => {
            format!(
                "there is no processor `{name}`; there is {}",
                close.join(", ")
            )
        }
        Err(Error::InvalidParam(option, message)) => {
            format!("the option `{option}` of `{name}` is wrong: {message}")
        }
        Err(other) => return Err(other),
    };
    Err(document.error(node.at, message))
}

#[cfg(test)]
mod tests {
    use super::parse_short;

    fn check(text: &str, expected: &str) {
        let shown = match parse_short(text) {
            Ok(found) => found.options.iter().fold(found.name, |shown, option| {
                format!("{shown} [{}]=[{}]", option.key, option.value)
            }),
            Err(message) => format!("error: {message}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn parses_the_short_form() {
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
        check("", "error: `` does not begin with a processor's name");
        check(
            ":x=1",
            "error: `:x=1` does not begin with a processor's name",
        );
        check(
            "tag:quiet",
            "error: `quiet` in `tag:quiet` is not `key=value`",
        );
        check("tag:a=1,", "error: `` in `tag:a=1,` is not `key=value`");
    }
}
