//! Parses rows of parameters from JSON lines, CSV and TSV. Values keep their notation,
//! such as all digits of a number. Errors have the line.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Error;
use super::named_input::{DIGITS_MIN, Input, InputSource, stem};
use crate::attachment::Attachment;
use crate::quantity::count;

/// A row without its name.
pub(super) struct InputRow {
    line: usize,
    params: Vec<(String, String)>,
}

impl InputRow {
    /// Returns the parameter `id` unless it is blank.
    fn id(&self) -> Option<&str> {
        // `name` is not used, since many prompts have a parameter of that name.
        let mut params = self.params.iter();
        let (_, id) = params.find(|(name, value)| name == "id" && !value.trim().is_empty())?;
        Some(id.as_str())
    }
}

pub(super) fn name_rows(path: &Path, rows: Vec<InputRow>) -> Result<Vec<Input>, Error> {
    let last = rows.last().ok_or_else(|| Error::NoRows {
        path: path.to_owned(),
    })?;
    let digits = last.line.to_string().len().max(DIGITS_MIN);
    let stem = stem(path);
    let mut lines: HashMap<String, usize> = HashMap::with_capacity(rows.len());
    let mut inputs = Vec::with_capacity(rows.len());
    for row in rows {
        let name = match row.id() {
            Some(id) => id.to_owned(),
            None => format!("{stem}-{:0digits$}", row.line),
        };
        if let Some(first) = lines.insert(name.clone(), row.line) {
            return Err(Error::DuplicateRowName {
                path: path.to_owned(),
                name,
                first,
                line: row.line,
            });
        }
        let (attach, params): (Vec<_>, Vec<_>) =
            row.params.into_iter().partition(|(key, _)| key == ATTACH);
        inputs.push(Input {
            name,
            source: InputSource::Row { params },
            attachments: row_attachments(path, row.line, &attach)?,
        });
    }
    Ok(inputs)
}

/// The column of images that are sent with a row.
const ATTACH: &str = "attach";

/// Reads the images of a row: a path, or a JSON array of paths, relative to the folder of
/// the table. An empty cell is no image.
fn row_attachments(
    table: &Path,
    line: usize,
    cells: &[(String, String)],
) -> Result<Vec<Attachment>, Error> {
    let folder = table.parent().unwrap_or(Path::new(""));
    let mut attachments = Vec::new();
    for (_, cell) in cells.iter().filter(|(_, cell)| !cell.trim().is_empty()) {
        let cell = cell.trim();
        let paths = match serde_json::from_str::<Vec<String>>(cell) {
            Ok(paths) if paths.iter().all(|path| !path.is_empty()) => paths,
            Err(_) if !cell.starts_with(['[', '{']) => vec![cell.to_owned()],
            _ => {
                return Err(Error::Row {
                    path: table.to_owned(),
                    line,
                    column: None,
                    reason: format!(
                        "`{ATTACH}`: expected a path or an array of paths, found {cell}"
                    ),
                });
            }
        };
        for path in paths {
            let attachment =
                Attachment::read(&folder.join(path)).map_err(|source| Error::RowAttachment {
                    path: table.to_owned(),
                    line,
                    source,
                })?;
            attachments.push(attachment);
        }
    }
    Ok(attachments)
}

pub(super) fn json_rows(path: &Path, text: &str) -> Result<Vec<InputRow>, Error> {
    if text.trim_start().starts_with('[') {
        return Err(Error::JsonArray {
            path: path.to_owned(),
        });
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let params = json_params(line).map_err(|LineError { reason, column }| Error::Row {
                path: path.to_owned(),
                line: index + 1,
                column,
                reason,
            })?;
            Ok(InputRow {
                line: index + 1,
                params,
            })
        })
        .collect()
}

/// An error in a line, with its column in characters, starting at 1.
struct LineError {
    reason: String,
    column: Option<usize>,
}

fn json_params(line: &str) -> Result<Vec<(String, String)>, LineError> {
    // `offset` is the byte offset in the line of the text that was parsed.
    let line_error = |error: &serde_json::Error, offset: usize| {
        let position = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&position).unwrap_or(&text).to_owned();
        // serde_json counts columns in bytes.
        let column = (error.column() > 0)
            .then(|| line.get(..offset + error.column() - 1))
            .flatten()
            .map(|before| before.chars().count() + 1);
        LineError { reason, column }
    };
    let JsonObject(fields) = serde_json::from_str(line).map_err(|error| line_error(&error, 0))?;
    let mut params = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let value = value.get();
        let value = match value.as_bytes().first() {
            Some(b'n') => continue,
            Some(b'"') => serde_json::from_str(value).map_err(|error| {
                let offset = value.as_ptr().addr() - line.as_ptr().addr();
                line_error(&error, offset)
            })?,
            Some(b'{' | b'[') => compact_json(value),
            _ => value.to_owned(),
        };
        params.push((name, value));
    }
    Ok(params)
}

/// A JSON object with its fields in the order of the text. Values are kept as text,
/// since parsing would change a number of thirty digits, or `1.10`.
struct JsonObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for JsonObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = JsonObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, &RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.is_empty() {
                        return Err(de::Error::custom("empty parameter name"));
                    }
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(de::Error::custom(format!("duplicate key `{name}`")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(JsonObject(fields))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Removes the whitespace between the tokens of valid JSON.
fn compact_json(json: &str) -> String {
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

/// Returns the separator of a `.csv` file and the table: a comma, unless the header has only
/// semicolons or tabs. Spreadsheets write these in many countries, some after a line such as
/// `sep=;`, which is left out.
pub(super) fn csv_separator(text: &str) -> (u8, &str) {
    let line = text.lines().next().unwrap_or_default();
    if let Some((key, value)) = line.split_once('=')
        && key.eq_ignore_ascii_case("sep")
        && let [separator] = *value.as_bytes()
    {
        // The rest begins with the line end, so that lines are counted as in the file.
        return (separator, text.get(line.len()..).unwrap_or_default());
    }
    (header_separator(text), text)
}

fn header_separator(text: &str) -> u8 {
    let mut is_quoted = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    for byte in text.bytes() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => break,
            _ if is_quoted => {}
            byte => {
                for (separator, count) in &mut counts {
                    *count += usize::from(byte == *separator);
                }
            }
        }
    }
    let used = counts.iter().filter(|(_, count)| *count > 0);
    match used.collect::<Vec<_>>()[..] {
        [(only, _)] => *only,
        _ => b',',
    }
}

/// A record appended to each table to detect an unclosed quote, which the csv crate
/// accepts: all rows after the quote would be one cell. If the last record is not this
/// mark, the table ended within quotes.
const END_MARK: &str = "\u{1e}";

pub(super) fn separated_rows(
    path: &Path,
    text: &str,
    separator: u8,
) -> Result<Vec<InputRow>, Error> {
    let row_error = |line: usize, reason: String| Error::Row {
        path: path.to_owned(),
        line,
        column: None,
        reason,
    };
    let end = format!("\n{END_MARK}");
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes().chain(end.as_bytes()));
    let mut line_counter = LineCounter::new(text);
    let mut header: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    // Each record is processed after the next one is read, since the last is the mark.
    let mut previous = csv::StringRecord::new();
    let mut previous_line = 0;
    let mut is_complete = false;
    while reader
        .read_record(&mut record)
        .map_err(|error| row_error(previous_line.max(1), error.to_string()))?
    {
        is_complete = record.len() == 1 && record.get(0) == Some(END_MARK);
        let line = line_counter.line_of(record.position().map_or(0, csv::Position::byte));
        if previous_line > 0 {
            match &header {
                None => {
                    let names = parse_header(&previous)
                        .map_err(|reason| row_error(previous_line, reason))?;
                    header = Some(names);
                }
                Some(names) if names.len() == previous.len() => rows.push(InputRow {
                    line: previous_line,
                    params: names
                        .iter()
                        .cloned()
                        .zip(previous.iter().map(str::to_owned))
                        .collect(),
                }),
                Some(names) => {
                    let reason = format!(
                        "expected {} as in the header, found {}",
                        count(names.len(), "field"),
                        previous.len()
                    );
                    return Err(row_error(previous_line, reason));
                }
            }
        }
        std::mem::swap(&mut record, &mut previous);
        previous_line = line;
    }
    if !is_complete {
        let reason = "unclosed quote in this row".to_owned();
        return Err(row_error(previous_line.max(1), reason));
    }
    Ok(rows)
}

/// Returns the parameter names of a header, without surrounding whitespace.
fn parse_header(record: &csv::StringRecord) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(record.len());
    for (index, name) in record.iter().enumerate() {
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("column {} has no name", index + 1));
        }
        if names.iter().any(|other| other == name) {
            return Err(format!("duplicate column name `{name}`"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Finds the line of each record. The csv crate reports the end of the previous record
/// instead of the start of the record: before blank lines and before the LF of a CR LF.
struct LineCounter<'a> {
    text: &'a [u8],
    /// Byte offset up to which lines are counted.
    offset: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            offset: 0,
            line: 1,
        }
    }

    /// Returns the line, starting at 1, of the first record at or after a byte offset.
    fn line_of(&mut self, record_offset: u64) -> usize {
        let record_offset = usize::try_from(record_offset).unwrap_or(usize::MAX);
        while let Some(&byte) = self.text.get(self.offset)
            && (self.offset < record_offset || matches!(byte, b'\r' | b'\n'))
        {
            let is_cr_of_crlf = byte == b'\r' && self.text.get(self.offset + 1) == Some(&b'\n');
            if matches!(byte, b'\r' | b'\n') && !is_cr_of_crlf {
                self.line += 1;
            }
            self.offset += 1;
        }
        self.line
    }
}
