//! A TOML value as owned data, and how it is written as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A table; the order of the file is in the nodes' offsets.
pub type Table = BTreeMap<String, Node>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Byte offset of the key (of the value itself in a list).
    pub key_at: usize,
    /// Byte offset of the value.
    pub at: usize,
    /// What it is.
    pub value: Value,
}

/// What TOML can say.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer; wider than TOML's, because a seed may be.
    Integer(i128),
    /// A float.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time, or both, in canonical form.
    Datetime(String),
    /// An array.
    List(Vec<Node>),
    /// A table of any kind.
    Table(Table),
}

impl Value {
    /// The name of the type, for error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date or time",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The text that stands for a string, a scalar or an array in a prompt: a
    /// string as it is, all else as TOML writes it. A table has none.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Table(_) => None,
            other => {
                let mut out = String::new();
                write_value(&mut out, other, Syntax::Toml);
                Some(out)
            }
        }
    }

    /// The value as JSON; dates become strings. Floats that JSON cannot write
    /// become `null`.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        write_value(&mut out, self, Syntax::Json);
        out
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Syntax {
    Toml,
    Json,
}

fn write_value(out: &mut String, value: &Value, syntax: Syntax) {
    match value {
        Value::Text(text) => write_string(out, text),
        Value::Integer(number) => push(out, format_args!("{number}")),
        Value::Float(number) => write_float(out, *number, syntax),
        Value::Boolean(truth) => push(out, format_args!("{truth}")),
        Value::Datetime(text) if syntax == Syntax::Json => write_string(out, text),
        Value::Datetime(text) => out.push_str(text),
        Value::List(nodes) => {
            out.push('[');
            for (index, node) in nodes.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, &node.value, syntax);
            }
            out.push(']');
        }
        Value::Table(table) => {
            let mut members: Vec<_> = table.iter().collect();
            members.sort_by_key(|(_, node)| node.key_at);
            out.push('{');
            for (index, (key, node)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_string(out, key);
                out.push_str(if syntax == Syntax::Json { ": " } else { " = " });
                write_value(out, &node.value, syntax);
            }
            out.push('}');
        }
    }
}

/// `{:?}` keeps the `.0` and uses an exponent where the digits would not end.
fn write_float(out: &mut String, number: f64, syntax: Syntax) {
    match (number.is_finite(), syntax) {
        (true, _) => push(out, format_args!("{number:?}")),
        (false, Syntax::Json) => out.push_str("null"),
        (false, Syntax::Toml) if number.is_nan() => out.push_str("nan"),
        (false, Syntax::Toml) => out.push_str(if number > 0.0 { "inf" } else { "-inf" }),
    }
}

/// A quoted string with escapes that TOML and JSON share.
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
