//! One prompt file: parsed, addressed by dotted paths, with positions for errors.
//!
//! The only module that knows the `toml` crate.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::types::{Error, File, FileError};
use crate::value::{Node, Table, Value};

/// A parsed prompt file.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    /// Byte offsets at which lines begin: a listing asks for many positions.
    lines: Vec<usize>,
    root: Table,
}

impl Document {
    /// Parses a file. Windows line ends become plain ones, so that a prompt is
    /// the same text wherever its file was saved.
    pub fn parse(file: &File) -> Result<Self, Error> {
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let text = text.replace("\r\n", "\n");
        let after_ends = text.match_indices('\n').map(|(end, _)| end + 1);
        let mut document = Self {
            name: file.name.clone(),
            lines: std::iter::once(0).chain(after_ends).collect(),
            text,
            root: Table::new(),
        };
        document.root = match DeTable::parse(&document.text) {
            Ok(table) => document.convert_table(table.get_ref())?,
            Err(error) => {
                let at = error.span().map(|span| span.start);
                return Err(document.syntax_error(at, error.message()));
            }
        };
        Ok(document)
    }

    /// Parses every file whose name ends in `.toml`; the others are not ours.
    pub fn parse_all(files: &[File]) -> Result<Vec<Self>, Error> {
        let is_prompt_file = |file: &&File| file.name.to_ascii_lowercase().ends_with(".toml");
        files
            .iter()
            .filter(is_prompt_file)
            .map(Self::parse)
            .collect()
    }

    /// The bare name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The top-level table.
    pub fn root(&self) -> &Table {
        &self.root
    }

    /// The value at a dotted path, counted from the top of the file.
    pub fn find(&self, path: &str) -> Option<&Node> {
        find_in(&self.root, path)
    }

    /// An error at a byte offset of the text.
    pub fn error(&self, at: usize, message: impl Into<String>) -> Error {
        let (line, column) = self.position(at);
        Error::InvalidFile(FileError {
            file: self.name.clone(),
            line: Some(line),
            column: Some(column),
            message: message.into(),
        })
    }

    /// `file:line` of a byte offset, for messages.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.name, self.position(at).0)
    }

    /// Line and column in characters, both from 1.
    fn position(&self, at: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..at).unwrap_or_default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (count(line), count(before.chars().count() + 1))
    }

    fn syntax_error(&self, at: Option<usize>, message: &str) -> Error {
        let message = message.lines().next().unwrap_or("not TOML").to_owned();
        match at {
            Some(at) => self.error(at, message),
            None => Error::InvalidFile(FileError {
                file: self.name.clone(),
                line: None,
                column: None,
                message,
            }),
        }
    }

    fn convert_table(&self, table: &DeTable<'_>) -> Result<Table, Error> {
        table
            .iter()
            .map(|(key, value)| {
                let node = Node {
                    key_at: key.span().start,
                    at: value.span().start,
                    value: self.convert(value)?,
                };
                Ok((key.get_ref().to_string(), node))
            })
            .collect()
    }

    fn convert(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, Error> {
        let at = value.span().start;
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => {
                match i128::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => return Err(self.error(at, "the number is too large")),
                }
            }
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => return Err(self.error(at, "not a number")),
            },
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(array) => {
                let node = |value: &Spanned<DeValue<'_>>| {
                    let at = value.span().start;
                    self.convert(value).map(|value| Node {
                        key_at: at,
                        at,
                        value,
                    })
                };
                Value::List(array.iter().map(node).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.convert_table(table)?),
        })
    }
}

/// Walks segment by segment; a quoted key that holds dots is found when no
/// walk through its segments leads anywhere.
fn find_in<'a>(table: &'a Table, path: &str) -> Option<&'a Node> {
    let deeper =
        path.match_indices('.')
            .find_map(|(dot, _)| match &table.get(&path[..dot])?.value {
                Value::Table(inner) => find_in(inner, &path[dot + 1..]),
                _ => None,
            });
    deeper.or_else(|| table.get(path))
}
