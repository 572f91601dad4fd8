//! The inference settings of a prompt table. Their keys are in snake case.

use crate::document::Document;
use crate::processor::json;
use crate::value::{Node, Value};
use lmstrix_pack::{Entry, Error, Setting};

const REASONING_LEVELS: [&str; 5] = ["off", "on", "low", "medium", "high"];

/// Reads the settings of one property. A list of stop strings or of `other` keys gives
/// several. Returns `None` if `key` is not a setting.
///
/// # Errors
/// Returns an error if the value is invalid.
pub fn read(document: &Document, key: &str, node: &Node) -> Result<Option<Vec<Setting>>, Error> {
    let reader = SettingReader {
        document,
        key,
        node,
    };
    let setting = match key {
        "temperature" => Setting::Temperature(reader.float(0.0, 100.0)?),
        "top_k" => Setting::TopK(reader.integer("an integer >= 0")?),
        "top_p" => Setting::TopP(reader.float(0.0, 1.0)?),
        "min_p" => Setting::MinP(reader.float(0.0, 1.0)?),
        "repeat_penalty" => Setting::RepeatPenalty(reader.float(0.01, 100.0)?),
        "presence_penalty" => Setting::PresencePenalty(reader.float(-2.0, 2.0)?),
        "frequency_penalty" => Setting::FrequencyPenalty(reader.float(-2.0, 2.0)?),
        "seed" => Setting::Seed(reader.integer("an integer >= 0")?),
        "max_tokens" => Setting::MaxTokens(reader.max_tokens()?),
        "json_schema" => Setting::JsonSchema(reader.json_schema()?),
        "reasoning" => Setting::Reasoning(reader.reasoning()?),
        "stop" => return reader.stop().map(Some),
        "other" => return reader.other().map(Some),
        _ => return Ok(None),
    };
    Ok(Some(vec![setting]))
}

/// Returns the name that identifies a setting, such as `temperature` or `other.mirostat`.
pub fn name(setting: &Setting) -> String {
    let name = match setting {
        Setting::Temperature(_) => "temperature",
        Setting::TopK(_) => "top_k",
        Setting::TopP(_) => "top_p",
        Setting::MinP(_) => "min_p",
        Setting::RepeatPenalty(_) => "repeat_penalty",
        Setting::PresencePenalty(_) => "presence_penalty",
        Setting::FrequencyPenalty(_) => "frequency_penalty",
        Setting::Seed(_) => "seed",
        Setting::MaxTokens(_) => "max_tokens",
        Setting::Stop(_) => "stop",
        Setting::JsonSchema(_) => "json_schema",
        Setting::Reasoning(_) => "reasoning",
        Setting::Other(entry) => return format!("other.{}", entry.key),
    };
    name.to_owned()
}

/// The keys that [`read`] accepts.
pub const SETTING_NAMES: [&str; 13] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "json_schema",
    "reasoning",
    "stop",
    "other",
];

/// Reads one property and creates its error messages.
struct SettingReader<'a> {
    document: &'a Document,
    key: &'a str,
    node: &'a Node,
}

impl SettingReader<'_> {
    fn type_error(&self, node: &Node, expected: &str) -> Error {
        let found = match &node.value {
            Value::Integer(_) | Value::Float(_) => node.value.to_text().unwrap_or_default(),
            value => value.type_name().to_owned(),
        };
        self.document.error(
            node.offset,
            format!("`{}` must be {expected}, not {found}", self.key),
        )
    }

    fn float(&self, min: f64, max: f64) -> Result<f64, Error> {
        let number = match self.node.value {
            Value::Float(number) => number,
            // Integers are exact up to 2^53, far beyond the allowed ranges.
            Value::Integer(number) => number as f64,
            _ => f64::NAN,
        };
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        let expected = format!("a number from {min} to {max}");
        Err(self.type_error(self.node, &expected))
    }

    fn integer<T: TryFrom<i128>>(&self, expected: &str) -> Result<T, Error> {
        match self.node.value {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.type_error(self.node, expected))
    }

    fn max_tokens(&self) -> Result<Option<u32>, Error> {
        let expected = "an integer >= 1, or -1 for no limit";
        match self.integer::<i64>(expected)? {
            -1 => Ok(None),
            number => match u32::try_from(number) {
                Ok(number) if number > 0 => Ok(Some(number)),
                _ => Err(self.type_error(self.node, expected)),
            },
        }
    }

    fn json_schema(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::Table(_) => Ok(self.node.value.to_json()),
            Value::String(text) => match json::check_json(text) {
                Ok(()) => Ok(text.clone()),
                Err(message) => Err(self
                    .document
                    .error(self.node.offset, format!("`json_schema` is {message}"))),
            },
            _ => Err(self.type_error(self.node, "a table or a JSON string")),
        }
    }

    fn reasoning(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::String(text) if REASONING_LEVELS.contains(&text.as_str()) => Ok(text.clone()),
            Value::String(text) => Err(self.document.error(
                self.node.offset,
                format!(
                    "`reasoning` must be one of {}, not `{text}`",
                    REASONING_LEVELS.join(", ")
                ),
            )),
            _ => Err(self.type_error(
                self.node,
                &format!("one of {}", REASONING_LEVELS.join(", ")),
            )),
        }
    }

    fn stop(&self) -> Result<Vec<Setting>, Error> {
        let expected = "a non-empty string or an array of non-empty strings";
        let nodes = match &self.node.value {
            Value::Array(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(self.node),
        };
        let mut stops = Vec::new();
        for node in nodes {
            match &node.value {
                Value::String(text) if text.is_empty() => {
                    return Err(self
                        .document
                        .error(node.offset, "a stop string must not be empty"));
                }
                Value::String(text) => stops.push(Setting::Stop(text.clone())),
                _ => return Err(self.type_error(node, expected)),
            }
        }
        Ok(stops)
    }

    /// Reads the engine-specific settings. Strings are passed unchanged, other values as
    /// JSON, which is what servers expect.
    fn other(&self) -> Result<Vec<Setting>, Error> {
        let Value::Table(table) = &self.node.value else {
            return Err(self.type_error(self.node, "a table"));
        };
        let mut members: Vec<_> = table.iter().collect();
        members.sort_by_key(|(_, node)| node.key_offset);
        let entry = |(key, node): (&String, &Node)| {
            Setting::Other(Entry::new(
                key,
                match &node.value {
                    Value::String(text) => text.clone(),
                    value => value.to_json(),
                },
            ))
        };
        Ok(members.into_iter().map(entry).collect())
    }
}
