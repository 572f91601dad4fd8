//! The inference settings that a prompt table may hold, in snake case.

use crate::document::Document;
use crate::processor::json;
use crate::types::{Entry, Error, Setting};
use crate::value::{Node, Value};

const REASONING: [&str; 5] = ["off", "on", "low", "medium", "high"];

/// The settings that one property gives (several stop texts, several `other`
/// keys), or `None` when the property is not a setting.
pub fn read(document: &Document, key: &str, node: &Node) -> Result<Option<Vec<Setting>>, Error> {
    let reader = Reader {
        document,
        key,
        node,
    };
    let one = match key {
        "temperature" => Setting::Temperature(reader.float(0.0, 100.0)?),
        "top_k" => Setting::TopK(reader.integer("a whole number from 0")?),
        "top_p" => Setting::TopP(reader.float(0.0, 1.0)?),
        "min_p" => Setting::MinP(reader.float(0.0, 1.0)?),
        "repeat_penalty" => Setting::RepeatPenalty(reader.float(0.01, 100.0)?),
        "presence_penalty" => Setting::PresencePenalty(reader.float(-2.0, 2.0)?),
        "frequency_penalty" => Setting::FrequencyPenalty(reader.float(-2.0, 2.0)?),
        "seed" => Setting::Seed(reader.integer("a whole number from 0")?),
        "max_tokens" => Setting::MaxTokens(reader.max_tokens()?),
        "json_schema" => Setting::JsonSchema(reader.json_schema()?),
        "reasoning" => Setting::Reasoning(reader.reasoning()?),
        "stop" => return reader.stop().map(Some),
        "other" => return reader.other().map(Some),
        _ => return Ok(None),
    };
    Ok(Some(vec![one]))
}

/// What makes two settings the same one: `temperature`, `other.mirostat`.
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

/// Names of all the properties that [`read`] knows.
pub const NAMES: [&str; 13] = [
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

/// One property being read; it knows where to point when the value is wrong.
struct Reader<'a> {
    document: &'a Document,
    key: &'a str,
    node: &'a Node,
}

impl Reader<'_> {
    fn wrong(&self, node: &Node, expected: &str) -> Error {
        let found = match &node.value {
            Value::Integer(_) | Value::Float(_) => node.value.to_text().unwrap_or_default(),
            value => value.type_name().to_owned(),
        };
        self.document.error(
            node.at,
            format!("`{}` must be {expected}, not {found}", self.key),
        )
    }

    fn float(&self, least: f64, most: f64) -> Result<f64, Error> {
        let number = match self.node.value {
            Value::Float(number) => number,
            // Far from 2^53 in any sensible setting.
            Value::Integer(number) => number as f64,
            _ => f64::NAN,
        };
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        let expected = format!("a number from {least} to {most}");
        Err(self.wrong(self.node, &expected))
    }

    fn integer<T: TryFrom<i128>>(&self, expected: &str) -> Result<T, Error> {
        match self.node.value {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong(self.node, expected))
    }

    fn max_tokens(&self) -> Result<Option<u32>, Error> {
        let expected = "a whole number from 1, or -1 for no limit";
        match self.integer::<i64>(expected)? {
            -1 => Ok(None),
            number => match u32::try_from(number) {
                Ok(number) if number > 0 => Ok(Some(number)),
                _ => Err(self.wrong(self.node, expected)),
            },
        }
    }

    fn json_schema(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::Table(_) => Ok(self.node.value.to_json()),
            Value::Text(text) => match json::check(text) {
                Ok(()) => Ok(text.clone()),
                Err(message) => Err(self
                    .document
                    .error(self.node.at, format!("`json_schema` is {message}"))),
            },
            _ => Err(self.wrong(self.node, "a table, or a string that holds JSON")),
        }
    }

    fn reasoning(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::Text(text) if REASONING.contains(&text.as_str()) => Ok(text.clone()),
            Value::Text(text) => Err(self.document.error(
                self.node.at,
                format!(
                    "`reasoning` must be one of {}, not {text}",
                    REASONING.join(", ")
                ),
            )),
            _ => Err(self.wrong(self.node, &format!("one of {}", REASONING.join(", ")))),
        }
    }

    fn stop(&self) -> Result<Vec<Setting>, Error> {
        let expected = "a string that is not empty, or an array of such strings";
        let nodes = match &self.node.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(self.node),
        };
        let mut stops = Vec::new();
        for node in nodes {
            match &node.value {
                Value::Text(text) if text.is_empty() => {
                    return Err(self
                        .document
                        .error(node.at, "a stop text must not be empty"));
                }
                Value::Text(text) => stops.push(Setting::Stop(text.clone())),
                _ => return Err(self.wrong(node, expected)),
            }
        }
        Ok(stops)
    }

    /// Strings go as they are, all else as JSON: that is what servers read.
    fn other(&self) -> Result<Vec<Setting>, Error> {
        let Value::Table(table) = &self.node.value else {
            return Err(self.wrong(self.node, "a table"));
        };
        let mut members: Vec<_> = table.iter().collect();
        members.sort_by_key(|(_, node)| node.key_at);
        let entry = |(key, node): (&String, &Node)| {
            Setting::Other(Entry::new(
                key,
                match &node.value {
                    Value::Text(text) => text.clone(),
                    value => value.to_json(),
                },
            ))
        };
        Ok(members.into_iter().map(entry).collect())
    }
}
