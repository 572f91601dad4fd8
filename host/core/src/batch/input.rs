//! The inputs of a batch, from text files, from images, and from rows of JSONL, CSV and TSV
//! files.
//!
//! Text files are read once when the plan is made and again for each job, so that the
//! plan stays small. Rows are kept in memory. Input names are arbitrary text; other
//! modules derive jobs and file names from them.

mod error;
mod named_input;
mod pattern;
mod rows;

use std::io::Read;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::attachment::{Attachment, has_image_extension};
use crate::store::sha256_hex;
use crate::text_encoding::decode_text;
pub use error::Error;
use named_input::stem;
pub use named_input::{Input, InputSource, with_distinct_names};
pub use pattern::SkipPath;
use pattern::matching_paths;
use rows::{csv_separator, json_rows, name_rows, separated_rows};

impl Input {
    /// Returns names and values of the parameters.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has changed since the plan was
    /// made.
    pub fn params(&self) -> Result<Vec<(String, String)>, Error> {
        let text = match &self.source {
            InputSource::Row { params } => return Ok(params.clone()),
            InputSource::Image { .. } | InputSource::Images => return Ok(Vec::new()),
            InputSource::Text(text) => text.clone(),
            InputSource::File {
                path,
                sha256,
                bytes,
            } => {
                let changed = || Error::Changed { path: path.clone() };
                let content = match read_limited(path, TEXT_BYTES_MAX) {
                    Err(Error::Read(error)) => return Err(Error::Removed(error)),
                    // It was below the limit when the plan was made.
                    Err(Error::TooLarge { .. }) => return Err(changed()),
                    other => other?,
                };
                if content.len() as u64 != *bytes || sha256_hex(&content) != *sha256 {
                    return Err(changed());
                }
                decode(content, path)?
            }
        };
        Ok(vec![("text".to_owned(), text)])
    }
}

/// The size limit of a text file in bytes. It exceeds the context of any model, and
/// stops reads from devices such as /dev/zero.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// The size limit of a row file in bytes. Rows stay in memory until the batch ends;
/// this is enough for ten thousand rows of 25 KiB.
const ROWS_BYTES_MAX: u64 = 256 << 20;

/// Reads text files for `--text-file` and `[[input]] file = …`. `pattern` is a path, or
/// a pattern with `*` `?` `[ ]`, relative to `base`. Matches are sorted; folders are
/// skipped. A path that exists is not treated as a pattern.
///
/// # Errors
/// Returns an error if nothing matches, or if a file cannot be read, is too large or is
/// not UTF-8.
pub fn text_files(
    base: &Path,
    pattern: impl AsRef<Path>,
    skip: SkipPath<'_>,
) -> Result<Vec<Input>, Error> {
    matching_paths(base, pattern.as_ref(), skip)?
        .iter()
        .map(|path| file_input(path))
        .collect()
}

/// Reads inputs for `--inputs`: like [`text_files`], but `.jsonl`, `.ndjson`, `.csv` and
/// `.tsv` files are read as rows, and `.png`, `.jpg`, `.jpeg` and `.webp` files as images.
///
/// # Errors
/// Returns the errors of [`text_files`] and [`images`], and an error if a row is invalid.
/// `note` receives what the user should know about a file.
pub fn read_inputs(
    base: &Path,
    pattern: impl AsRef<Path>,
    skip: SkipPath<'_>,
    note: &dyn Fn(&str),
) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for path in matching_paths(base, pattern.as_ref(), skip)? {
        if RowFormat::of(&path).is_some() {
            inputs.append(&mut row_inputs(&path, note)?);
        } else if has_image_extension(&path) {
            inputs.push(image_input(path)?);
        } else {
            inputs.push(file_input(&path)?);
        }
    }
    Ok(inputs)
}

/// Reads images for `[[input]] attach = …`: each is an input. `pattern` is as for
/// [`text_files`].
///
/// # Errors
/// Returns an error if nothing matches, or if a file cannot be read or is not an image.
pub fn images(
    base: &Path,
    pattern: impl AsRef<Path>,
    skip: SkipPath<'_>,
) -> Result<Vec<Input>, Error> {
    matching_paths(base, pattern.as_ref(), skip)?
        .into_iter()
        .map(image_input)
        .collect()
}

/// Reads the images of a pattern, which are sent with other inputs.
///
/// # Errors
/// Returns the errors of [`images`].
pub fn attachments(
    base: &Path,
    pattern: impl AsRef<Path>,
    skip: SkipPath<'_>,
) -> Result<Vec<Attachment>, Error> {
    let paths = matching_paths(base, pattern.as_ref(), skip)?;
    let read = |path: &PathBuf| Ok(Attachment::read(path)?);
    paths.iter().map(read).collect()
}

fn image_input(path: PathBuf) -> Result<Input, Error> {
    let attachment = Attachment::read(&path)?;
    Ok(Input {
        name: stem(&path),
        source: InputSource::Image { path },
        attachments: vec![attachment],
    })
}

/// Reads the rows of a file. A row is named by its `id`, else by the file's stem and
/// the row's line.
///
/// JSONL: each non-blank line is an object. Strings are used as they are, other values
/// as JSON; `null` values are omitted. CSV and TSV: the first record names the
/// parameters, and an empty cell is an empty text.
///
/// # Errors
/// Returns an error if the file cannot be read or has no rows, or if a row is invalid.
/// The message names the line.
fn row_inputs(path: &Path, note: &dyn Fn(&str)) -> Result<Vec<Input>, Error> {
    let format = RowFormat::of(path).ok_or_else(|| Error::UnknownRowFormat {
        path: path.to_owned(),
    })?;
    let text = decode(read_limited(path, ROWS_BYTES_MAX)?, path)?;
    let rows = match format {
        RowFormat::Jsonl => json_rows(path, &text)?,
        RowFormat::Csv => {
            let (separator, table) = csv_separator(&text);
            let name = match separator {
                b';' => Some("semicolons (;)"),
                b'\t' => Some("tabs"),
                _ => None,
            };
            if let Some(name) = name {
                note(&format!(
                    "{}: the columns are separated by {name}",
                    path.display()
                ));
            }
            separated_rows(path, table, separator)?
        }
        RowFormat::Tsv => separated_rows(path, &text, b'\t')?,
    };
    name_rows(path, rows)
}

/// Format of a row file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowFormat {
    /// JSON lines.
    Jsonl,
    /// Columns separated by commas, or by what the header shows.
    Csv,
    /// Columns separated by tabs.
    Tsv,
}

impl RowFormat {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }
}

fn file_input(path: &Path) -> Result<Input, Error> {
    let is_regular = fs::metadata(path).map_err(Error::Read)?.is_file();
    let bytes = read_limited(path, TEXT_BYTES_MAX)?;
    let (sha256, length) = (sha256_hex(&bytes), bytes.len() as u64);
    let text = decode(bytes, path)?;
    let source = if is_regular {
        InputSource::File {
            path: path.to_owned(),
            sha256,
            bytes: length,
        }
    } else {
        // A process substitution, `<(…)`, can be read only once.
        InputSource::Text(text)
    };
    Ok(Input::new(stem(path), source))
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(Error::Read)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            mib: limit >> 20,
        });
    }
    Ok(bytes)
}

/// Decodes the bytes and removes a byte order mark at the start.
fn decode(bytes: Vec<u8>, path: &Path) -> Result<String, Error> {
    decode_text(bytes).map_err(|offset| Error::NotUtf8 {
        path: path.to_owned(),
        offset,
    })
}

#[cfg(test)]
mod tests {
    use std::path::MAIN_SEPARATOR;

    use super::*;

    /// Creates a temporary folder with files, given as path and content.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn names(inputs: &[Input]) -> String {
        let names: Vec<&str> = inputs.iter().map(|it| it.name.as_str()).collect();
        names.join(" ")
    }

    /// Returns the rows as `name k=v k=v | name …`, or the error message without the
    /// path of the folder.
    fn shown(file: &str, bytes: &[u8]) -> String {
        let folder = folder(&[(file, bytes)]);
        match row_inputs(&folder.path().join(file), &|_| {}) {
            Ok(inputs) => inputs
                .iter()
                .map(|input| {
                    let params = input.params().unwrap();
                    let params = params
                        .iter()
                        .map(|(name, value)| format!(" {name}={value}"));
                    format!("{}{}", input.name, params.collect::<String>())
                })
                .collect::<Vec<_>>()
                .join(" | "),
            Err(error) => {
                let folder = format!("{}{MAIN_SEPARATOR}", folder.path().display());
                error.to_string().replace(&folder, "")
            }
        }
    }

    #[test]
    fn patterns_match_files_in_sorted_order() {
        let folder = folder(&[
            ("b.txt", b"b"),
            ("a.txt", b"a"),
            (".hidden.txt", b"h"),
            ("[1].txt", b"1"),
            ("1.txt", b"one"),
            ("sub.txt/x.txt", b"x"),
            ("sub [s]/y.txt", b"y"),
        ]);
        for (pattern, expected) in [
            ("a.txt", "a"),
            ("*.txt", "1 [1] a b"),
            ("?.txt", "1 a b"),
            ("[ab].txt", "a b"),
            ("[1].txt", "[1]"),
            ("[1]?txt", "1"),
            ("s*/*", "y x"),
            ("**/[xy].txt", "y x"),
            ("none*", "no file matches `none*`"),
            ("sub*.txt", "no file matches `sub*.txt`"),
            (
                "***",
                "invalid pattern `***`: wildcards are either regular `*` or recursive `**`",
            ),
        ] {
            let found = match text_files(folder.path(), pattern, &|_| false) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{pattern}");
        }
        // Pattern characters in the folder's name are escaped.
        let found = text_files(&folder.path().join("sub [s]"), "*.txt", &|_| false).unwrap();
        assert_eq!(names(&found), "y");
        let absolute = folder.path().join("?.txt");
        let found = text_files(Path::new("elsewhere"), absolute.to_str().unwrap(), &|_| {
            false
        })
        .unwrap();
        assert_eq!(names(&found), "1 a b");
        assert!(matches!(
            text_files(folder.path(), "none.txt", &|_| false),
            Err(Error::Read(_))
        ));
        let error = text_files(folder.path(), "sub.txt", &|_| false).unwrap_err();
        assert!(matches!(error, Error::IsDirectory { .. }) && error.hint().is_some());
    }

    #[test]
    fn a_file_that_changes_after_planning_is_an_error() {
        let folder = folder(&[
            ("bom.txt", b"\xef\xbb\xbf\xc3\xbc\r\n"),
            ("empty.txt", b""),
            ("latin.txt", b"\xef\xbb\xbfab\xfc"),
        ]);
        let read_one = |name: &str| {
            let inputs = text_files(folder.path(), name, &|_| false);
            inputs.map(|mut inputs| inputs.remove(0))
        };
        let text = |input: &Input| input.params().map(|params| params[0].1.clone());
        let bom = read_one("bom.txt").unwrap();
        assert_eq!(text(&bom).unwrap(), "ü\r\n");
        let empty = read_one("empty.txt").unwrap();
        assert_eq!(text(&empty).unwrap(), "");
        assert_eq!(
            empty.source,
            InputSource::File {
                path: folder.path().join("empty.txt"),
                sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
                bytes: 0
            }
        );
        let error = read_one("latin.txt").unwrap_err();
        assert!(error.to_string().ends_with("invalid byte at offset 5"));
        assert!(error.hint().unwrap().contains("iconv"));

        fs::write(folder.path().join("bom.txt"), b"\xef\xbb\xbf\xc3\xa4\r\n").unwrap();
        fs::remove_file(folder.path().join("empty.txt")).unwrap();
        for (input, name) in [(&bom, "bom.txt"), (&empty, "empty.txt")] {
            let message = input.params().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            assert!(message.contains("run the command again"), "{message}");
        }

        let large = folder.path().join("large.txt");
        let file = fs::File::create(&large).unwrap();
        file.set_len(TEXT_BYTES_MAX).unwrap();
        assert!(read_one("large.txt").is_ok());
        file.set_len(TEXT_BYTES_MAX + 1).unwrap();
        let message = read_one("large.txt").unwrap_err().to_string();
        assert!(message.ends_with("is larger than 16 MiB"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once_and_a_device_hits_the_size_limit() {
        let folder = folder(&[]);
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, "through").unwrap()
        });
        let found = text_files(folder.path(), "pipe", &|_| false).unwrap();
        writer.join().unwrap();
        assert_eq!(found[0].source, InputSource::Text("through".to_owned()));
        assert!(matches!(
            text_files(folder.path(), "p*", &|_| false),
            Err(Error::NoMatch { .. })
        ));
        assert!(matches!(
            text_files(Path::new(""), "/dev/zero", &|_| false),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn json_lines_become_rows() {
        for (text, expected) in [
            (r#"{"text": "a\nb", "n": 1.10}"#, "r-0001 text=a\nb n=1.10"),
            (
                "\u{feff}{\"id\":12345678901234567890123}\r\n\r\n  {\"z\":true,\"a\":null,\"b\":\"\"}\n\n",
                "12345678901234567890123 id=12345678901234567890123 | r-0003 z=true b=",
            ),
            (
                r#"{"name": "n", "list": [ 1, { "k y": "\" [ ]" } ], "o": { }}"#,
                r#"r-0001 name=n list=[1,{"k y":"\" [ ]"}] o={}"#,
            ),
            (r#"{"id": null, "name": "n"}"#, "r-0001 name=n"),
            (r#"{"id": " ", "x": "\ud83d\ude00"}"#, "r-0001 id=  x=😀"),
            (r#"{}"#, "r-0001"),
            ("", "`r.jsonl` has no rows"),
            ("\u{feff}\n \n", "`r.jsonl` has no rows"),
            (
                "\n[\n{}]",
                "`r.jsonl` is a JSON array; expected one object per line",
            ),
            (
                "{}\n7",
                "r.jsonl:2:1: invalid type: integer `7`, expected a JSON object",
            ),
            ("{}\n\n{\"ü\": x}", "r.jsonl:3:7: expected value"),
            ("{\n}", "r.jsonl:1:1: EOF while parsing an object"),
            ("{} {}", "r.jsonl:1:4: trailing characters"),
            (r#"{"a":1,"a":2}"#, "r.jsonl:1:10: duplicate key `a`"),
            (r#"{"":1}"#, "r.jsonl:1:3: empty parameter name"),
            (
                r#"{"ü":"\ud800x"}"#,
                "r.jsonl:1:13: unexpected end of hex escape",
            ),
            (
                "{\"id\":\"x\"}\n\n{\"id\":\"x\"}",
                "r.jsonl:3: duplicate name `x`, first used on line 1",
            ),
            (
                "{\"id\":\"r-0002\"}\n{}",
                "r.jsonl:2: duplicate name `r-0002`, first used on line 1",
            ),
        ] {
            assert_eq!(shown("r.jsonl", text.as_bytes()), expected, "{text}");
        }
        assert_eq!(
            shown("r.ndjson", b"{\"a\":\"\xff\"}"),
            "`r.ndjson` is not UTF-8: invalid byte at offset 6"
        );
    }

    #[test]
    fn tables_become_rows() {
        for (file, text, expected) in [
            (
                "t.csv",
                "\u{feff}a, b \r\n1,\"x, \"\"y\"\"\"\r\n\r\n2,\"l1\r\nl2\"\r\n3,\r\n",
                "t-0002 a=1 b=x, \"y\" | t-0004 a=2 b=l1\r\nl2 | t-0006 a=3 b=",
            ),
            (
                "t.csv",
                "\n\nid;x\n\"1\n\n\"\nb",
                "t-0004 id;x=1\n\n | t-0007 id;x=b",
            ),
            ("t.csv", "a\r1\r2", "t-0002 a=1 | t-0003 a=2"),
            ("t.csv", "a\n\"\"\n", "t-0002 a="),
            (
                "T.TSV",
                "id\tt\nx\ta,b\ny\t\"q\tq\"",
                "x id=x t=a,b | y id=y t=q\tq",
            ),
            (
                "t.csv",
                "id,name\n,n\n,\n",
                "t-0002 id= name=n | t-0003 id= name=",
            ),
            ("t.csv", "", "`t.csv` has no rows"),
            ("t.csv", "a,b\n\n", "`t.csv` has no rows"),
            (
                "t.csv",
                "a,b\n1,2\n\n\"3\n\",4,5\n6,7",
                "t.csv:4: expected 2 fields as in the header, found 3",
            ),
            (
                "t.csv",
                "a,b\n1\n",
                "t.csv:2: expected 2 fields as in the header, found 1",
            ),
            ("t.csv", "\na,,b\n1,2,3", "t.csv:2: column 2 has no name"),
            (
                "t.csv",
                "a,b,a \n1,2,3",
                "t.csv:1: duplicate column name `a`",
            ),
            (
                "t.csv",
                "a,b\n1,2\n3,\"4\n5,6\n7,8\n",
                "t.csv:3: unclosed quote in this row",
            ),
            ("t.csv", "\"a", "t.csv:1: unclosed quote in this row"),
            (
                "t.csv",
                "id\nx\n\"y\nz\"\nx",
                "t.csv:5: duplicate name `x`, first used on line 2",
            ),
            (
                "t.txt",
                "a",
                "`t.txt` is not a row file: expected .jsonl, .ndjson, .csv or .tsv",
            ),
        ] {
            assert_eq!(shown(file, text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn row_names_have_the_same_number_of_digits() {
        let objects: String = (0..10_000)
            .map(|number| format!("{{\"text\":\"{number}\"}}\n"))
            .collect();
        let folder = folder(&[("r.jsonl", objects.as_bytes())]);
        let inputs = read_inputs(folder.path(), "r.jsonl", &|_| false, &|_| {}).unwrap();
        assert_eq!(inputs[0].name, "r-00001");
        assert_eq!(inputs[9_999].name, "r-10000");
        assert_eq!(with_distinct_names(inputs).unwrap().len(), 10_000);
    }

    #[test]
    fn the_extension_decides_whether_an_input_file_has_rows() {
        let folder = folder(&[
            ("a.txt", b"text"),
            ("b.csv", b"text\nx\ny"),
            ("c.jsonl", b"{}"),
        ]);
        for (pattern, expected) in [
            ("b.csv", "b-0002 b-0003"),
            ("*", "a b-0002 b-0003 c-0001"),
            ("*.t*", "a"),
        ] {
            let found = read_inputs(folder.path(), pattern, &|_| false, &|_| {}).unwrap();
            assert_eq!(names(&found), expected, "{pattern}");
        }
    }

    #[test]
    fn the_header_of_a_csv_file_decides_the_separator() {
        let notes = std::cell::RefCell::new(Vec::new());
        let read = |text: &str| {
            let folder = folder(&[("t.csv", text.as_bytes())]);
            let note = |note: &str| notes.borrow_mut().push(note.to_owned());
            let inputs = read_inputs(folder.path(), "t.csv", &|_| false, &note).unwrap();
            inputs[0].params().unwrap()
        };
        let row = |values: [&str; 2]| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            vec![pair("id", values[0]), pair("text", values[1])]
        };
        for (text, values, noted) in [
            ("id,text\n1,a;b\n", ["1", "a;b"], None),
            ("id;text\r\n1;a,b\r\n", ["1", "a,b"], Some("semicolons (;)")),
            ("\u{feff}id\ttext\n1\ta,b\n", ["1", "a,b"], Some("tabs")),
            (
                "sep=;\r\nid;text\r\n1;a,b\r\n",
                ["1", "a,b"],
                Some("semicolons (;)"),
            ),
            ("SEP=,\nid,text\n1,a;b\n", ["1", "a;b"], None),
        ] {
            assert_eq!(read(text), row(values), "{text:?}");
            let note = notes.borrow_mut().pop();
            assert_eq!(note.is_some(), noted.is_some(), "{note:?}");
            assert!(
                note.unwrap_or_default()
                    .ends_with(noted.unwrap_or_default())
            );
        }
        // The extension of a `.tsv` file decides.
        let tabs = folder(&[("t.tsv", b"Text, in Polish\nx\n")]);
        let inputs = read_inputs(tabs.path(), "t.tsv", &|_| false, &|_| {}).unwrap();
        assert_eq!(inputs[0].params().unwrap()[0].0, "Text, in Polish");
        // One column whose name has a semicolon in quotes, and a header with both.
        assert_eq!(read("\"a;b\"\nx\n")[0].0, "a;b");
        assert_eq!(read("a;b,c\nx,y\n")[0].0, "a;b");
    }

    #[test]
    fn names_are_extended_until_they_are_distinct() {
        let file = |path: &str| {
            let source = InputSource::File {
                path: path.into(),
                sha256: String::new(),
                bytes: 0,
            };
            Input::new(stem(Path::new(path)), source)
        };
        let row = |name: &str| Input::new(name, InputSource::Row { params: Vec::new() });
        for (inputs, expected) in [
            (vec![], ""),
            (vec![file("d/a.txt"), file("d/b.txt")], "a b"),
            (
                vec![file("d/a.txt"), file("d/a.md"), file("e/b")],
                "a.txt a.md b",
            ),
            (
                vec![file("d/a.txt"), file("e/a.txt"), file("d/a.md")],
                "d/a.txt e/a.txt a.md",
            ),
            (vec![file("d/a"), file("e/a")], "d/a e/a"),
            (vec![file("/r/s/d/a"), file("/r/s/e/a")], "d/a e/a"),
            (
                vec![file("x.txt"), file("x.md"), file("x.txt.md")],
                "x.txt x.md x.txt.md",
            ),
            (vec![row("a"), file("a.txt"), row("b")], "a a.txt b"),
            (
                vec![row("a"), row("a")],
                "duplicate input name `a`: a row and a row",
            ),
            (
                vec![file("a"), row("a")],
                "duplicate input name `a`: `a` and a row",
            ),
            (vec![file("a.txt"), file("b"), file("a.txt")], "a b"),
        ] {
            let shown = |inputs: Vec<Input>| match with_distinct_names(inputs) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown(inputs), expected);
        }
    }
}
