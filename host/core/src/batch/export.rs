//! Writes the rows of finished jobs as JSONL or CSV.
//!
//! Values round-trip: nothing is escaped against formula injection in spreadsheets, so
//! a text that starts with `=` or `+` stays as it is. The caller chooses the columns
//! and the destination.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Map, Value};

/// Format of exported rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object per line.
    Jsonl,
    /// A header and one record per row, each ending in LF.
    Csv,
}

/// Writes rows that share `columns`. CSV gets a header even without rows; a missing
/// column and `null` become an empty cell, and nested values become compact JSON.
///
/// # Errors
/// Returns the writer's error with its kind, so that a broken pipe can be recognized.
/// Returns [`io::ErrorKind::InvalidInput`] if a CSV row has a key that is not in
/// `columns`.
pub fn write_rows(
    format: ExportFormat,
    columns: &[&str],
    rows: impl Iterator<Item = Map<String, Value>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        ExportFormat::Jsonl => jsonl(rows, out),
        ExportFormat::Csv => csv(columns, rows, out),
    }
}

fn jsonl(rows: impl Iterator<Item = Map<String, Value>>, out: &mut dyn Write) -> io::Result<()> {
    // Each line is a single write, so that a reader that follows the file never sees
    // part of a line.
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        serde_json::to_writer(&mut line, &row)?;
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()
}

fn csv(
    columns: &[&str],
    rows: impl Iterator<Item = Map<String, Value>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(columns).map_err(io_error)?;
    for row in rows {
        if let Some(name) = row.keys().find(|key| !columns.contains(&key.as_str())) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a row has the key `{name}`, which is not a column"),
            ));
        }
        for column in columns {
            let text = row.get(*column).map_or(Cow::Borrowed(""), cell_text);
            writer.write_field(text.as_bytes()).map_err(io_error)?;
        }
        writer.write_record(None::<&[u8]>).map_err(io_error)?;
    }
    writer.flush()
}

fn cell_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Converts the error and keeps its kind, which the conversion of the csv crate loses.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    fn written(format: ExportFormat, columns: &[&str], rows: &[Map<String, Value>]) -> String {
        let mut out = Vec::new();
        write_rows(format, columns, rows.iter().cloned(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const TEXTS: [&str; 20] = [
        "",
        " ",
        "plain",
        " around ",
        "\"",
        "say \"\"hi\"\"",
        "a,b",
        ",",
        "a\nb",
        "a\r\nb\r\n",
        "\r",
        "\n",
        "\t",
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\tx",
        "👩‍🚀 ü \u{2028}",
        "\u{feff}\u{0}",
    ];

    #[test]
    fn texts_round_trip() {
        for columns in [&["text"][..], &["name", "text"]] {
            let rows: Vec<Map<String, Value>> = TEXTS
                .iter()
                .map(|text| {
                    let cells = columns
                        .iter()
                        .map(|column| ((*column).to_owned(), json!(text)));
                    cells.collect()
                })
                .collect();

            let lines = written(ExportFormat::Jsonl, columns, &rows);
            let read: Vec<Map<String, Value>> = lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(read, rows);

            let table = written(ExportFormat::Csv, columns, &rows);
            let mut reader = csv::Reader::from_reader(table.as_bytes());
            assert_eq!(reader.headers().unwrap(), columns);
            let read: Vec<Map<String, Value>> = reader
                .records()
                .map(|record| {
                    let record = record.unwrap();
                    let cells = columns.iter().zip(&record);
                    cells
                        .map(|(column, cell)| ((*column).to_owned(), json!(cell)))
                        .collect()
                })
                .collect();
            assert_eq!(read, rows);
        }
    }

    #[test]
    fn columns_keep_their_order_and_values_are_json() {
        let rows = [
            object(json!({"b": 1.5, "a": {"y": [1, "x"], "b": null}, "c": true})),
            object(json!({"c": null, "a": -7})),
            object(json!({})),
        ];
        assert_eq!(
            written(ExportFormat::Csv, &["b", "a", "c"], &rows),
            "b,a,c\n1.5,\"{\"\"y\"\":[1,\"\"x\"\"],\"\"b\"\":null}\",true\n,-7,\n,,\n"
        );
        assert_eq!(
            written(ExportFormat::Jsonl, &["b", "a", "c"], &rows),
            "{\"b\":1.5,\"a\":{\"y\":[1,\"x\"],\"b\":null},\"c\":true}\n{\"c\":null,\"a\":-7}\n{}\n"
        );
        assert_eq!(written(ExportFormat::Csv, &["b", "a"], &[]), "b,a\n");
        assert_eq!(written(ExportFormat::Jsonl, &["b", "a"], &[]), "");
    }

    #[test]
    fn a_key_without_a_column_is_an_error() {
        let row = object(json!({"a": 1, "z": 2}));
        let result = write_rows(
            ExportFormat::Csv,
            &["a"],
            std::iter::once(row),
            &mut Vec::new(),
        );
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`z`"), "{error}");
    }

    #[test]
    fn a_broken_pipe_keeps_its_kind() {
        struct BrokenPipe;
        impl Write for BrokenPipe {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let row = object(json!({"a": "x".repeat(1 << 20)}));
        for format in [ExportFormat::Jsonl, ExportFormat::Csv] {
            let rows = std::iter::repeat_n(row.clone(), 3);
            let error = write_rows(format, &["a"], rows, &mut BrokenPipe).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{format:?}");
        }
    }
}
