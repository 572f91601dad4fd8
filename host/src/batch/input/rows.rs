//! Rows of parameters: JSON lines, and tables with commas or tabs. Values stay as
//! they are written, down to the last digit; what is wrong is said with its line.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DIGITS_MIN, Error, From, Input, stem};

/// A row before it has a name.
pub(super) struct Row {
    line: usize,
    params: Vec<(String, String)>,
}

impl Row {
    /// A blank name is none.
    fn own_name(&self) -> Option<&str> {
        // `name` is a parameter that many prompts have.
        let mut params = self.params.iter();
        let own = params.find(|(name, value)| name == "id" && !value.trim().is_empty())?;
        Some(own.1.as_str())
    }
}

pub(super) fn named(path: &Path, rows: Vec<Row>) -> Result<Vec<Input>, Error> {
    let last = rows.last().ok_or_else(|| Error::NoRows {
        path: path.to_owned(),
    })?;
    let digits = last.line.to_string().len().max(DIGITS_MIN);
    let stem = stem(path);
    let mut lines: HashMap<String, usize> = HashMap::with_capacity(rows.len());
    let mut inputs = Vec::with_capacity(rows.len());
    for row in rows {
        let name = match row.own_name() {
            Some(name) => name.to_owned(),
            None => format!("{stem}-{:0digits$}", row.line),
        };
        if let Some(first) = lines.insert(name.clone(), row.line) {
            return Err(Error::SameName {
                path: path.to_owned(),
                name,
                first,
                line: row.line,
            });
        }
        inputs.push(Input {
            name,
            from: From::Row { params: row.params },
        });
    }
    Ok(inputs)
}

pub(super) fn json_rows(path: &Path, text: &str) -> Result<Vec<Row>, Error> {
    if text.trim_start().starts_with('[') {
        return Err(Error::Array {
            path: path.to_owned(),
        });
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            let params = json_params(line).map_err(|Wrong { reason, column }| Error::Row {
                path: path.to_owned(),
                line: at + 1,
                column,
                reason,
            })?;
            Ok(Row {
                line: at + 1,
                params,
            })
        })
        .collect()
}

/// What is wrong in a line, and at which character.
struct Wrong {
    reason: String,
    column: Option<usize>,
}

fn json_params(line: &str) -> Result<Vec<(String, String)>, Wrong> {
    let wrong = |error: &serde_json::Error, from: usize| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        // Bytes become characters.
        let column = (error.column() > 0)
            .then(|| line.get(..from + error.column() - 1))
            .flatten()
            .map(|before| before.chars().count() + 1);
        Wrong { reason, column }
    };
    let Fields(fields) = serde_json::from_str(line).map_err(|error| wrong(&error, 0))?;
    let mut params = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let value = value.get();
        let value = match value.as_bytes().first() {
            Some(b'n') => continue,
            Some(b'"') => serde_json::from_str(value)
                .map_err(|error| wrong(&error, value.as_ptr().addr() - line.as_ptr().addr()))?,
            Some(b'{' | b'[') => compact(value),
            _ => value.to_owned(),
        };
        params.push((name, value));
    }
    Ok(params)
}

/// An object in the order in which it is written. Its values are kept as text:
/// a number of thirty digits, and 1.10, would not survive being read.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, &RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.is_empty() {
                        return Err(de::Error::custom("a parameter has an empty name"));
                    }
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format!("`{name}` is there twice")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Valid JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            let is_kept = is_string || !c.is_ascii_whitespace();
            if !is_escaped && c == '"' {
                is_string = !is_string;
            }
            is_escaped = is_string && !is_escaped && c == '\\';
            is_kept
        })
        .collect()
}

/// Put behind a table as a record of its own. Where it is not the last one, the
/// table ended within quotes, which the csv crate does not mind: all rows after
/// a forgotten quote would be one cell.
const END: &str = "\u{1e}";

pub(super) fn separated_rows(path: &Path, text: &str, separator: u8) -> Result<Vec<Row>, Error> {
    let wrong = |line: usize, reason: String| Error::Row {
        path: path.to_owned(),
        line,
        column: None,
        reason,
    };
    let end = format!("\n{END}");
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes().chain(end.as_bytes()));
    let mut lines = Lines::new(text);
    let mut header: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    // Records are read one behind, as the last is the end mark.
    let mut before = csv::StringRecord::new();
    let mut line_before = 0;
    let mut is_ended = false;
    while reader
        .read_record(&mut record)
        .map_err(|error| wrong(line_before.max(1), error.to_string()))?
    {
        is_ended = record.len() == 1 && record.get(0) == Some(END);
        let line = lines.of(record.position().map_or(0, csv::Position::byte));
        if line_before > 0 {
            match &header {
                None => header = Some(header_of(&before).map_err(|it| wrong(line_before, it))?),
                Some(names) if names.len() == before.len() => rows.push(Row {
                    line: line_before,
                    params: names
                        .iter()
                        .cloned()
                        .zip(before.iter().map(str::to_owned))
                        .collect(),
                }),
                Some(names) => {
                    let reason = format!(
                        "the header has {} fields, and this row {}",
                        names.len(),
                        before.len()
                    );
                    return Err(wrong(line_before, reason));
                }
            }
        }
        std::mem::swap(&mut record, &mut before);
        line_before = line;
    }
    if !is_ended {
        let reason = "a quote that begins in this row does not end".to_owned();
        return Err(wrong(line_before.max(1), reason));
    }
    Ok(rows)
}

/// The names of the parameters. White space around them is nobody's intention.
fn header_of(record: &csv::StringRecord) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for (at, name) in record.iter().enumerate() {
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("column {} has no name", at + 1));
        }
        if names.iter().any(|known| known == name) {
            return Err(format!("two columns have the name `{name}`"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Counts lines from record to record. The csv crate counts from the end of the
/// one before, blank lines and the second half of CR LF included.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            line: 1,
        }
    }

    /// The line, from 1, of the record that begins at or after this byte.
    fn of(&mut self, byte: u64) -> usize {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(&now) = self.text.get(self.at)
            && (self.at < byte || matches!(now, b'\r' | b'\n'))
        {
            let is_half = now == b'\r' && self.text.get(self.at + 1) == Some(&b'\n');
            if matches!(now, b'\r' | b'\n') && !is_half {
                self.line += 1;
            }
            self.at += 1;
        }
        self.line
    }
}
