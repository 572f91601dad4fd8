//! Owned TOML values, and their conversion to text and to JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A table. The offsets of its nodes give their order in the file.
pub type Table = BTreeMap<String, Node>;

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub struct Node {
    /// Byte offset of the key, or of the value itself in an array.
    pub key_offset: usize,
    /// Byte offset of the value.
    pub offset: usize,
    /// The value.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer. Wider than the 64 signed bits of TOML, because a seed is a `u64`.
    Integer(i128),
    /// A float.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time, or both, in the canonical form of TOML.
    Datetime(String),
    /// An array.
    Array(Vec<Node>),
    /// A table, an inline table or a table of dotted keys.
    Table(Table),
}

impl Value {
    /// Returns the name of the type with its article, for error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date or time",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// Returns the text of the value in a prompt: a string unchanged, any other value in
    /// TOML syntax. Returns `None` for a table.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Value::String(text) => Some(text.clone()),
            Value::Table(_) => None,
            other => {
                let mut out = String::new();
                write_value(&mut out, other, ValueSyntax::Toml);
                Some(out)
            }
        }
    }

    /// Returns the value as JSON. Dates become strings, and NaN and infinities become
    /// `null`.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        write_value(&mut out, self, ValueSyntax::Json);
        out
    }
}

#[derive(Clone, Copy, PartialEq)]
enum ValueSyntax {
    Toml,
    Json,
}

fn write_value(out: &mut String, value: &Value, syntax: ValueSyntax) {
    match value {
        Value::String(text) => write_string(out, text),
        Value::Integer(number) => push(out, format_args!("{number}")),
        Value::Float(number) => write_float(out, *number, syntax),
        Value::Boolean(boolean) => push(out, format_args!("{boolean}")),
        Value::Datetime(text) if syntax == ValueSyntax::Json => write_string(out, text),
        Value::Datetime(text) => out.push_str(text),
        Value::Array(nodes) => {
            out.push('[');
            for (index, node) in nodes.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, &node.value, syntax);
            }
            out.push(']');
        }
        Value::Table(table) => {
            let mut members: Vec<_> = table.iter().collect();
            members.sort_by_key(|(_, node)| node.key_offset);
            out.push('{');
            for (index, (key, node)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_string(out, key);
                out.push_str(if syntax == ValueSyntax::Json {
                    ": "
                } else {
                    " = "
                });
                write_value(out, &node.value, syntax);
            }
            out.push('}');
        }
    }
}

/// Writes a float. `{:?}` keeps the `.0` of a whole number and uses an exponent for very
/// large and very small ones.
fn write_float(out: &mut String, number: f64, syntax: ValueSyntax) {
    match (number.is_finite(), syntax) {
        (true, _) => push(out, format_args!("{number:?}")),
        (false, ValueSyntax::Json) => out.push_str("null"),
        (false, ValueSyntax::Toml) if number.is_nan() => out.push_str("nan"),
        (false, ValueSyntax::Toml) => out.push_str(if number > 0.0 { "inf" } else { "-inf" }),
    }
}

/// Writes a quoted string with the escapes that TOML and JSON have in common.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => push(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = out.write_fmt(arguments);
}
