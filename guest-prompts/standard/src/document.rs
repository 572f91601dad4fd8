//! A parsed prompt file, with lookup by dotted path and positions for error messages.
//!
//! Only this module uses the `toml` crate.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::value::{Node, Table, Value};
use lmstrix_pack::{Error, File, FileError};

/// A parsed prompt file.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    /// Byte offsets of the line starts, since `describe` computes many positions.
    line_starts: Vec<usize>,
    root: Table,
}

impl Document {
    /// Parses a file. Converts CRLF to LF, so that a prompt is the same text on all
    /// platforms.
    ///
    /// # Errors
    /// Returns an error if the file is not valid TOML.
    pub fn parse(file: &File) -> Result<Self, Error> {
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let text = text.replace("\r\n", "\n");
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let mut document = Self {
            name: file.name.clone(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            text,
            root: Table::new(),
        };
        document.root = match DeTable::parse(&document.text) {
            Ok(table) => document.convert_table(table.get_ref())?,
            Err(error) => {
                let offset = error.span().map(|span| span.start);
                return Err(document.syntax_error(offset, error.message()));
            }
        };
        Ok(document)
    }

    /// Parses all files whose name ends in `.toml`, and ignores the others.
    ///
    /// # Errors
    /// Returns an error if one of them is not valid TOML.
    pub fn parse_all(files: &[File]) -> Result<Vec<Self>, Error> {
        let is_prompt_file = |file: &&File| file.name.to_ascii_lowercase().ends_with(".toml");
        files
            .iter()
            .filter(is_prompt_file)
            .map(Self::parse)
            .collect()
    }

    /// Returns the file name without a folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the root table.
    pub fn root(&self) -> &Table {
        &self.root
    }

    /// Returns the value at a dotted path from the root.
    pub fn find(&self, path: &str) -> Option<&Node> {
        find_in(&self.root, path)
    }

    /// Creates an error at a byte offset of the text.
    pub fn error(&self, offset: usize, message: impl Into<String>) -> Error {
        let (line, column) = self.position(offset);
        Error::InvalidFile(FileError {
            file: self.name.clone(),
            line: Some(line),
            column: Some(column),
            message: message.into(),
        })
    }

    /// Returns `FILE:LINE` of a byte offset, for messages.
    pub fn location(&self, offset: usize) -> String {
        format!("{}:{}", self.name, self.position(offset).0)
    }

    /// Returns line and column in characters, both starting at 1.
    fn position(&self, offset: usize) -> (u32, u32) {
        let line = self
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        let to_u32 = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (to_u32(line), to_u32(before.chars().count() + 1))
    }

    fn syntax_error(&self, offset: Option<usize>, message: &str) -> Error {
        let message = message.lines().next().unwrap_or("invalid TOML").to_owned();
        match offset {
            Some(offset) => self.error(offset, message),
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
                    key_offset: key.span().start,
                    offset: value.span().start,
                    value: self.convert(value)?,
                };
                Ok((key.get_ref().to_string(), node))
            })
            .collect()
    }

    fn convert(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, Error> {
        let offset = value.span().start;
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(integer) => {
                match i128::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => return Err(self.error(offset, "the number is too large")),
                }
            }
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => return Err(self.error(offset, "invalid number")),
            },
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(array) => {
                let node = |value: &Spanned<DeValue<'_>>| {
                    let offset = value.span().start;
                    self.convert(value).map(|value| Node {
                        key_offset: offset,
                        offset,
                        value,
                    })
                };
                Value::Array(array.iter().map(node).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.convert_table(table)?),
        })
    }
}

/// Finds a dotted path. Nested tables take precedence over a quoted key that contains
/// dots.
fn find_in<'a>(table: &'a Table, path: &str) -> Option<&'a Node> {
    let nested =
        path.match_indices('.')
            .find_map(|(dot, _)| match &table.get(&path[..dot])?.value {
                Value::Table(inner) => find_in(inner, &path[dot + 1..]),
                _ => None,
            });
    nested.or_else(|| table.get(path))
}
