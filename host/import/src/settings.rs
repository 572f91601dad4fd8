//! Sampling settings, by the names that other programs give them.

use crate::log::Log;
use crate::yaml::{Entry, Node, Value};

/// The value of a default or of a setting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Texts(Vec<String>),
}

impl Scalar {
    /// Returns a value that can be inserted into a text; null is empty.
    pub(crate) fn from_yaml(node: &Node) -> Option<Self> {
        match &node.value {
            Value::Null => Some(Self::Text(String::new())),
            Value::Boolean(boolean) => Some(Self::Boolean(*boolean)),
            Value::Integer(number) => Some(Self::Integer(*number)),
            Value::Float(number) => Some(Self::Float(*number)),
            Value::Text(text) => Some(Self::Text(text.clone())),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns a value with the text that Python inserts for it.
    pub(crate) fn from_python(node: &Node) -> Option<Self> {
        match &node.value {
            Value::Null => Some(Self::Text("None".to_owned())),
            Value::Boolean(true) => Some(Self::Text("True".to_owned())),
            Value::Boolean(false) => Some(Self::Text("False".to_owned())),
            _ => Self::from_yaml(node),
        }
    }
}

/// The settings of a prompt, in the order of [`NAMES`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    entries: Vec<(&'static str, Scalar)>,
}

/// The names of the settings in a prompt file, and their names in other programs in lower case
/// without `_` and `-`.
const NAMES: [(&str, Kind, &[&str]); 11] = [
    ("temperature", Kind::Float(0.0, 100.0), &["temperature"]),
    ("top_k", Kind::Count, &["topk"]),
    ("top_p", Kind::Float(0.0, 1.0), &["topp"]),
    ("min_p", Kind::Float(0.0, 1.0), &["minp"]),
    (
        "repeat_penalty",
        Kind::Float(0.01, 100.0),
        &["repeatpenalty", "repetitionpenalty"],
    ),
    (
        "presence_penalty",
        Kind::Float(-2.0, 2.0),
        &["presencepenalty"],
    ),
    (
        "frequency_penalty",
        Kind::Float(-2.0, 2.0),
        &["frequencypenalty"],
    ),
    ("seed", Kind::Count, &["seed"]),
    (
        "max_tokens",
        Kind::MaxTokens,
        &[
            "maxtokens",
            "maxoutputtokens",
            "maxcompletiontokens",
            "numpredict",
        ],
    ),
    ("stop", Kind::Texts, &["stop", "stopsequences"]),
    ("reasoning", Kind::Reasoning, &["reasoningeffort"]),
];

/// The values that a prompt file allows.
#[derive(Clone, Copy)]
enum Kind {
    Float(f64, f64),
    Count,
    MaxTokens,
    Texts,
    Reasoning,
}

impl Settings {
    /// Returns the settings by their names in a prompt file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Scalar)> {
        self.entries.iter().map(|(name, value)| (*name, value))
    }

    /// Reads an option of another program. Notes one that has no equivalent. Null is ignored.
    pub(crate) fn read(&mut self, option: &Entry, log: &mut Log) {
        if option.node.value == Value::Null {
            return;
        }
        let line = Some(option.line);
        let key = option.key.replace(['_', '-'], "").to_ascii_lowercase();
        let position = NAMES
            .iter()
            .position(|(_, _, others)| others.contains(&key.as_str()));
        let known = position.and_then(|position| NAMES.get(position));
        let Some((name, kind, _)) = known else {
            let message = format!(
                "the option `{}` is left out; it has no equivalent",
                option.key
            );
            return log.left_out(line, message);
        };
        match value(*kind, &option.node) {
            Ok(value) => self.set(name, value),
            Err(expected) => {
                let message = format!(
                    "the option `{}` is left out; it must be {expected}",
                    option.key
                );
                log.left_out(line, message);
            }
        }
    }

    fn set(&mut self, name: &'static str, value: Scalar) {
        self.entries.retain(|(other, _)| *other != name);
        self.entries.push((name, value));
        let order = |name: &str| NAMES.iter().position(|(known, ..)| *known == name);
        self.entries.sort_by_key(|(name, _)| order(name));
    }
}

/// Returns the value, or the values that are allowed.
fn value(kind: Kind, node: &Node) -> Result<Scalar, String> {
    match kind {
        Kind::Float(min, max) => match number(node) {
            Some(number) if (min..=max).contains(&number) => Ok(Scalar::Float(number)),
            _ => Err(format!("a number from {min} to {max}")),
        },
        Kind::Count => match integer(node) {
            Some(number) if (0..=i64::from(u32::MAX)).contains(&number) => {
                Ok(Scalar::Integer(number))
            }
            _ => Err(format!("an integer from 0 to {}", u32::MAX)),
        },
        Kind::MaxTokens => match integer(node) {
            Some(number) if number == -1 || (1..=i64::from(u32::MAX)).contains(&number) => {
                Ok(Scalar::Integer(number))
            }
            _ => Err(format!("-1 or an integer from 1 to {}", u32::MAX)),
        },
        Kind::Texts => texts(node).ok_or_else(|| "a string or a list of strings".to_owned()),
        Kind::Reasoning => reasoning(node),
    }
}

fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Float(number) => Some(*number),
        // Integers are exact up to 2^53, far beyond the allowed ranges.
        Value::Integer(number) => Some(*number as f64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// Returns an integer. `40.0` is one, too.
fn integer(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            Some(*number as i64)
        }
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn texts(node: &Node) -> Option<Scalar> {
    let nodes = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let texts: Option<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let text = node.as_text()?;
            Some(text.to_owned()).filter(|text| !text.is_empty())
        })
        .collect();
    Some(Scalar::Texts(texts?)).filter(|texts| *texts != Scalar::Texts(Vec::new()))
}

fn reasoning(node: &Node) -> Result<Scalar, String> {
    let level = match node.as_text().unwrap_or_default() {
        "none" => "off",
        "minimal" | "low" => "low",
        "medium" => "medium",
        "high" | "xhigh" | "max" => "high",
        _ => return Err("one of none, minimal, low, medium, high, xhigh, max".to_owned()),
    };
    Ok(Scalar::Text(level.to_owned()))
}
