//! YAML as a tree with line numbers. Only this module uses the YAML parser.
//!
//! The parser reports events; the tree is built here, with limits on its depth and on its
//! size, which aliases could otherwise multiply.

mod scalar;
mod tree;

pub(crate) use scalar::Schema;
pub(crate) use tree::parse;

use serde_json::Value as Json;

/// A value and its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The line of the value, starting at 1.
    pub(crate) line: usize,
    /// True for a literal block, whose text keeps its line breaks.
    pub(crate) is_literal_block: bool,
    pub(crate) value: Value,
}

/// A YAML value. The keys of a map are texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The line of the key.
    pub(crate) line: usize,
    pub(crate) node: Node,
}

/// A syntax error, or a limit that is exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// The line, starting at 1.
    pub(crate) line: usize,
    /// The column in characters, starting at 1.
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl Node {
    /// Returns the entries of a map; no entries for any other value.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the value of a key, unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        Some(&entry.node).filter(|node| node.value != Value::Null)
    }

    /// Returns the text of a string.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the items of a list; no items for any other value.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the first line of the text of this node in the file. The parser reports a literal
    /// block at its first line that is not blank.
    pub(crate) fn text_line(&self) -> usize {
        let text = self.as_text().filter(|_| self.is_literal_block);
        let text = text.unwrap_or_default();
        let blank_lines = text.chars().take_while(|c| *c == '\n').count();
        self.line.saturating_sub(blank_lines)
    }

    /// Returns the name of the type with its article, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Returns the value as JSON. Infinities and NaN become null.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Boolean(boolean) => Json::from(*boolean),
            Value::Integer(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}
