//! Writes the rows of finished jobs as JSONL or CSV.
//!
//! What is written can be read back as it was: nothing is escaped against
//! spreadsheets, so that a text that begins with `=` or `+` is still that text.
//! Which columns there are, and where the bytes go, is decided elsewhere.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Map, Value};

/// What rows are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object on each line.
    Jsonl,
    /// A header, then a record of each row, with LF at its end.
    Csv,
}

/// Writes rows of one schema, and a header for CSV, even without rows. There, a
/// missing column and `null` are an empty cell, and nested values compact JSON.
///
/// # Errors
/// The writer's own, of their own kind, so that a broken pipe is seen as one;
/// [`io::ErrorKind::InvalidInput`] for a value that no column of a CSV would
/// hold.
pub fn write(
    form: Form,
    columns: &[&str],
    rows: impl Iterator<Item = Map<String, Value>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match form {
        Form::Jsonl => jsonl(rows, out),
        Form::Csv => csv(columns, rows, out),
    }
}

fn jsonl(rows: impl Iterator<Item = Map<String, Value>>, out: &mut dyn Write) -> io::Result<()> {
    // A line goes out whole: whoever follows the file sees no halves.
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
        if let Some(name) = row.keys().find(|it| !columns.contains(&it.as_str())) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a row has `{name}`, which is no column"),
            ));
        }
        for column in columns {
            let cell = row.get(*column).map_or(Cow::Borrowed(""), cell);
            writer.write_field(cell.as_bytes()).map_err(io_error)?;
        }
        writer.write_record(None::<&[u8]>).map_err(io_error)?;
    }
    writer.flush()
}

fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// The csv crate's own conversion hides the kind.
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

    fn written(form: Form, columns: &[&str], rows: &[Map<String, Value>]) -> String {
        let mut out = Vec::new();
        write(form, columns, rows.iter().cloned(), &mut out).unwrap();
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
    fn texts_come_back_as_they_were() {
        for columns in [&["text"][..], &["name", "text"]] {
            let rows: Vec<Map<String, Value>> = TEXTS
                .iter()
                .map(|text| {
                    let cells = columns.iter().map(|it| ((*it).to_owned(), json!(text)));
                    cells.collect()
                })
                .collect();

            let lines = written(Form::Jsonl, columns, &rows);
            let read: Vec<Map<String, Value>> = lines
                .lines()
                .map(|it| serde_json::from_str(it).unwrap())
                .collect();
            assert_eq!(read, rows);

            let table = written(Form::Csv, columns, &rows);
            let mut reader = csv::Reader::from_reader(table.as_bytes());
            assert_eq!(reader.headers().unwrap(), columns);
            let read: Vec<Map<String, Value>> = reader
                .records()
                .map(|record| {
                    let record = record.unwrap();
                    let cells = columns.iter().zip(&record);
                    cells.map(|(k, v)| ((*k).to_owned(), json!(v))).collect()
                })
                .collect();
            assert_eq!(read, rows);
        }
    }

    #[test]
    fn columns_keep_their_order_and_values_their_form() {
        let rows = [
            object(json!({"b": 1.5, "a": {"y": [1, "x"], "b": null}, "c": true})),
            object(json!({"c": null, "a": -7})),
            object(json!({})),
        ];
        assert_eq!(
            written(Form::Csv, &["b", "a", "c"], &rows),
            "b,a,c\n1.5,\"{\"\"y\"\":[1,\"\"x\"\"],\"\"b\"\":null}\",true\n,-7,\n,,\n"
        );
        assert_eq!(
            written(Form::Jsonl, &["b", "a", "c"], &rows),
            "{\"b\":1.5,\"a\":{\"y\":[1,\"x\"],\"b\":null},\"c\":true}\n{\"c\":null,\"a\":-7}\n{}\n"
        );
        assert_eq!(written(Form::Csv, &["b", "a"], &[]), "b,a\n");
        assert_eq!(written(Form::Jsonl, &["b", "a"], &[]), "");
    }

    #[test]
    fn a_value_without_a_column_is_not_lost_in_silence() {
        let row = object(json!({"a": 1, "z": 2}));
        let result = write(Form::Csv, &["a"], std::iter::once(row), &mut Vec::new());
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`z`"), "{error}");
    }

    #[test]
    fn a_broken_pipe_stays_one() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let row = object(json!({"a": "x".repeat(1 << 20)}));
        for form in [Form::Jsonl, Form::Csv] {
            let rows = std::iter::repeat_n(row.clone(), 3);
            let error = write(form, &["a"], rows, &mut Broken).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{form:?}");
        }
    }
}
