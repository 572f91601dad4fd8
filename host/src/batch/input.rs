//! The inputs of a batch: what each prompt is run on, from text files and from
//! tables.
//!
//! Files are read once for the plan and again when their turn comes, so that
//! the plan stays small; rows are held. Which job an input makes, and where its
//! result goes, is decided elsewhere: a name here is any text, also one that no
//! file could have.

mod error;
mod rows;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use fs_err as fs;
use sha2::{Digest, Sha256};

use super::JOURNAL;
pub use error::Error;
use rows::{json_rows, named, separated_rows};

/// One input: its name, and the parameters that it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What reports and results call it.
    pub name: String,
    /// Where its parameters are.
    pub from: From,
}

/// Where the parameters of an input come from.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// The parameter `text` is this file's text. It is read again when it is
    /// needed, so that ten thousand files need no memory.
    File {
        /// The file, as it is opened.
        path: PathBuf,
        /// SHA-256 of its bytes when the plan was made, in hex.
        sha256: String,
        /// How many bytes it had then.
        bytes: u64,
    },
    /// The parameters of a row, in their order.
    Row {
        /// Names and values.
        params: Vec<(String, String)>,
    },
    /// The parameter `text` itself: `--text`, or what came through a pipe, which
    /// cannot be read twice.
    Text(String),
}

impl Input {
    /// The parameters, in their order.
    ///
    /// # Errors
    /// The file is gone, or is not what it was when the plan was made.
    pub fn params(&self) -> Result<Vec<(String, String)>, Error> {
        let text = match &self.from {
            From::Row { params } => return Ok(params.clone()),
            From::Text(text) => text.clone(),
            From::File {
                path,
                sha256,
                bytes,
            } => {
                let changed = || Error::Changed { path: path.clone() };
                let now = match read_limited(path, TEXT_BYTES_MAX) {
                    Err(Error::Read(error)) => return Err(Error::Gone(error)),
                    // It was smaller than that.
                    Err(Error::TooLarge { .. }) => return Err(changed()),
                    other => other?,
                };
                if now.len() as u64 != *bytes || sha256_of(&now) != *sha256 {
                    return Err(changed());
                }
                utf8(now, path)?
            }
        };
        Ok(vec![("text".to_owned(), text)])
    }

    /// What an error calls it.
    fn origin(&self) -> String {
        match &self.from {
            From::File { path, .. } => format!("`{}`", path.display()),
            From::Row { .. } => "a row".to_owned(),
            From::Text(_) => "a given text".to_owned(),
        }
    }
}

/// The most text that is read from one file: more than any model takes, and a
/// device such as /dev/zero never ends.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// The most that is read from one file of rows: they are held in memory until
/// the batch ends, and this is ten thousand rows of 25 KiB.
const ROWS_BYTES_MAX: u64 = 256 << 20;

/// What makes a path a pattern, unless a file of that very name exists.
const PATTERN_CHARACTERS: [char; 4] = ['*', '?', '[', ']'];

/// Numbers in the names of rows have at least so many digits: files that grow
/// keep their names up to 9999 rows, and names sort as the rows do.
const DIGITS_MIN: usize = 4;

/// Which files a pattern does not mean, though it matches them.
pub type Skip<'a> = &'a dyn Fn(&Path) -> bool;

/// `--text-file`, `[[input]] file = …`: a path, or a pattern with `*` `?` `[ ]`,
/// relative to `base`. Matches are sorted, and folders among them left out. A
/// path that exists is itself, even if it holds such characters.
///
/// # Errors
/// Nothing matches, or what does is not UTF-8, too large or cannot be read.
pub fn files(base: &Path, pattern: &str, skip: Skip<'_>) -> Result<Vec<Input>, Error> {
    paths(base, pattern, skip)?
        .iter()
        .map(|it| file(it))
        .collect()
}

/// `--inputs`: the same, but `.jsonl`, `.ndjson`, `.csv` and `.tsv` files hold
/// rows, also where a pattern matched them.
///
/// # Errors
/// As [`files`] and [`rows`].
pub fn inputs(base: &Path, given: &str, skip: Skip<'_>) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for path in paths(base, given, skip)? {
        if Form::of(&path).is_some() {
            inputs.append(&mut rows(&path)?);
        } else {
            inputs.push(file(&path)?);
        }
    }
    Ok(inputs)
}

/// The rows of a file, each with the name that its `id` gives, else with one made
/// of the file's stem and its line.
///
/// JSONL: each line that is not blank is an object. Strings are taken as they
/// are, all else as JSON writes it; `null` is no parameter. CSV and TSV: the
/// first record names the parameters, and an empty cell is an empty text.
///
/// # Errors
/// The file cannot be read, has no rows, or one is wrong: the message has the
/// line.
fn rows(path: &Path) -> Result<Vec<Input>, Error> {
    let form = Form::of(path).ok_or_else(|| Error::NotRows {
        path: path.to_owned(),
    })?;
    let text = utf8(read_limited(path, ROWS_BYTES_MAX)?, path)?;
    let rows = match form {
        Form::Lines => json_rows(path, &text)?,
        Form::Separated(separator) => separated_rows(path, &text, separator)?,
    };
    named(path, rows)
}

/// Gives inputs of equal names different ones. A file's name is its stem; where
/// another input has that name, too, its file name; then its path.
///
/// # Errors
/// A file is there twice, or names are equal that are not a file's.
pub fn distinct(mut inputs: Vec<Input>) -> Result<Vec<Input>, Error> {
    // A pattern and a name may mean the same file.
    let mut paths = HashSet::new();
    inputs.retain(|input| match &input.from {
        From::File { path, .. } => paths.insert(absolute(path)),
        From::Row { .. } | From::Text(_) => true,
    });
    let common = common_folder(&inputs);
    // All of one name move together, so that the order of the inputs does not
    // matter. A longer name may be another's, thus again; each file moves twice
    // at most.
    loop {
        let mut count: HashMap<&str, usize> = HashMap::new();
        for input in &inputs {
            *count.entry(&input.name).or_default() += 1;
        }
        let longer: Vec<(usize, String)> = inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| count.get(input.name.as_str()).is_some_and(|it| *it > 1))
            .filter_map(|(at, input)| Some((at, longer_name(input, &common)?)))
            .collect();
        if longer.is_empty() {
            break;
        }
        for (at, name) in longer {
            inputs[at].name = name;
        }
    }
    let mut seen: HashMap<&str, &Input> = HashMap::new();
    for input in &inputs {
        if let Some(first) = seen.insert(&input.name, input) {
            return Err(Error::Clash {
                name: input.name.clone(),
                first: first.origin(),
                second: input.origin(),
            });
        }
    }
    Ok(inputs)
}

/// The next longer name of a file that has one of its own names.
fn longer_name(input: &Input, common: &Path) -> Option<String> {
    let From::File { path, .. } = &input.from else {
        return None;
    };
    let names = [
        stem(path),
        path.file_name()?.to_string_lossy().into_owned(),
        // The same from wherever the command starts.
        absolute(path)
            .strip_prefix(common)
            .unwrap_or(path)
            .display()
            .to_string(),
    ];
    // From behind: a file without an extension has its name twice.
    let at = names.iter().rposition(|it| *it == input.name)?;
    names.into_iter().nth(at + 1)
}

/// The folder that all files are in.
fn common_folder(inputs: &[Input]) -> PathBuf {
    let mut folders = inputs.iter().filter_map(|it| match &it.from {
        From::File { path, .. } => Some(absolute(path).parent()?.to_owned()),
        From::Row { .. } | From::Text(_) => None,
    });
    let mut common = folders.next().unwrap_or_default();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

/// The same path, however it was typed.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// What rows are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Lines,
    /// Semicolons are not guessed: a cell may hold them.
    Separated(u8),
}

impl Form {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" => Some(Self::Lines),
            "csv" => Some(Self::Separated(b',')),
            "tsv" => Some(Self::Separated(b'\t')),
            _ => None,
        }
    }
}

/// The path that is given, or what the pattern matches.
fn paths(base: &Path, given: &str, skip: Skip<'_>) -> Result<Vec<PathBuf>, Error> {
    // No `./` before names that are shown.
    let base = base.strip_prefix(".").unwrap_or(base);
    let path = base.join(given);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Err(Error::Folder { path }),
        Ok(_) => return Ok(vec![path]),
        // In the words for a file that is opened.
        Err(_) if !given.contains(PATTERN_CHARACTERS) => {
            return fs::File::open(&path)
                .map(|_| vec![path])
                .map_err(Error::Read);
        }
        Err(_) => {}
    }
    let wrong = |reason: &str| Error::Pattern {
        pattern: given.to_owned(),
        reason: reason.to_owned(),
    };
    let pattern = if base.as_os_str().is_empty() || Path::new(given).is_absolute() {
        given.to_owned()
    } else {
        let base = base
            .to_str()
            .ok_or_else(|| wrong("the folder that it is in has a name that is not UTF-8"))?;
        format!("{}{MAIN_SEPARATOR}{given}", glob::Pattern::escape(base))
    };
    // As shells do it.
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let matches = glob::glob_with(&pattern, options).map_err(|error| wrong(error.msg))?;
    let mut found = Vec::new();
    let mut has_skipped = false;
    for path in matches {
        let path = path.map_err(|error| Error::Read(error.into()))?;
        // Nor pipes: nobody who writes `*` means to wait for one. Nor does he mean
        // a batch's own journal.
        let is_journal = path.file_name().is_some_and(|it| it == JOURNAL);
        let is_meant = path.is_file() && !is_journal;
        if is_meant && skip(&path) {
            has_skipped = true;
        } else if is_meant {
            found.push(path);
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() && !has_skipped {
        return Err(Error::NoMatch {
            pattern: given.to_owned(),
        });
    }
    Ok(found)
}

fn file(path: &Path) -> Result<Input, Error> {
    let is_regular = fs::metadata(path).map_err(Error::Read)?.is_file();
    let bytes = read_limited(path, TEXT_BYTES_MAX)?;
    let (sha256, length) = (sha256_of(&bytes), bytes.len() as u64);
    let text = utf8(bytes, path)?;
    let from = if is_regular {
        From::File {
            path: path.to_owned(),
            sha256,
            bytes: length,
        }
    } else {
        // `<(…)` of a shell gives its text once.
        From::Text(text)
    };
    Ok(Input {
        name: stem(path),
        from,
    })
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

/// A byte order mark at the start goes: it is no part of the text.
fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, Error> {
    let mut text = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
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

    /// `name k=v k=v | name …`, or the message behind the folder's path.
    fn shown(file: &str, bytes: &[u8]) -> String {
        let folder = folder(&[(file, bytes)]);
        match rows(&folder.path().join(file)) {
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
    fn patterns_find_files_in_order() {
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
                "`***` is not a pattern: wildcards are either regular `*` or recursive `**`",
            ),
        ] {
            let found = match files(folder.path(), pattern, &|_| false) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{pattern}");
        }
        // The folder's own name is no pattern.
        let found = files(&folder.path().join("sub [s]"), "*.txt", &|_| false).unwrap();
        assert_eq!(names(&found), "y");
        let absolute = folder.path().join("?.txt");
        let found = files(Path::new("elsewhere"), absolute.to_str().unwrap(), &|_| {
            false
        })
        .unwrap();
        assert_eq!(names(&found), "1 a b");
        assert!(matches!(
            files(folder.path(), "none.txt", &|_| false),
            Err(Error::Read(_))
        ));
        let error = files(folder.path(), "sub.txt", &|_| false).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }) && error.hint().is_some());
    }

    #[test]
    fn a_file_is_text_and_stays_what_it_was() {
        let folder = folder(&[
            ("bom.txt", b"\xef\xbb\xbf\xc3\xbc\r\n"),
            ("empty.txt", b""),
            ("latin.txt", b"\xef\xbb\xbfab\xfc"),
        ]);
        let one = |name: &str| files(folder.path(), name, &|_| false).map(|mut it| it.remove(0));
        let text = |input: &Input| input.params().map(|it| it[0].1.clone());
        let bom = one("bom.txt").unwrap();
        assert_eq!(text(&bom).unwrap(), "ü\r\n");
        let empty = one("empty.txt").unwrap();
        assert_eq!(text(&empty).unwrap(), "");
        assert_eq!(
            empty.from,
            From::File {
                path: folder.path().join("empty.txt"),
                sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
                bytes: 0
            }
        );
        let error = one("latin.txt").unwrap_err();
        assert!(error.to_string().ends_with("the byte at offset 5 is wrong"));
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
        assert!(one("large.txt").is_ok());
        file.set_len(TEXT_BYTES_MAX + 1).unwrap();
        let message = one("large.txt").unwrap_err().to_string();
        assert!(message.ends_with("has more than 16 MiB"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once_and_a_device_not_for_ever() {
        let folder = folder(&[]);
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, "through").unwrap()
        });
        let found = files(folder.path(), "pipe", &|_| false).unwrap();
        writer.join().unwrap();
        assert_eq!(found[0].from, From::Text("through".to_owned()));
        assert!(matches!(
            files(folder.path(), "p*", &|_| false),
            Err(Error::NoMatch { .. })
        ));
        assert!(matches!(
            files(Path::new(""), "/dev/zero", &|_| false),
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
                "`r.jsonl` is a JSON array, and not an object on each line",
            ),
            (
                "{}\n7",
                "r.jsonl:2:1: invalid type: integer `7`, expected a JSON object",
            ),
            ("{}\n\n{\"ü\": x}", "r.jsonl:3:7: expected value"),
            ("{\n}", "r.jsonl:1:1: EOF while parsing an object"),
            ("{} {}", "r.jsonl:1:4: trailing characters"),
            (r#"{"a":1,"a":2}"#, "r.jsonl:1:10: `a` is there twice"),
            (r#"{"":1}"#, "r.jsonl:1:3: a parameter has an empty name"),
            (
                r#"{"ü":"\ud800x"}"#,
                "r.jsonl:1:13: unexpected end of hex escape",
            ),
            (
                "{\"id\":\"x\"}\n\n{\"id\":\"x\"}",
                "r.jsonl:3: the name `x` is that of line 1, too",
            ),
            (
                "{\"id\":\"r-0002\"}\n{}",
                "r.jsonl:2: the name `r-0002` is that of line 1, too",
            ),
        ] {
            assert_eq!(shown("r.jsonl", text.as_bytes()), expected, "{text}");
        }
        assert_eq!(
            shown("r.ndjson", b"{\"a\":\"\xff\"}"),
            "`r.ndjson` is not UTF-8: the byte at offset 6 is wrong"
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
                "t.csv:4: the header has 2 fields, and this row 3",
            ),
            (
                "t.csv",
                "a,b\n1\n",
                "t.csv:2: the header has 2 fields, and this row 1",
            ),
            ("t.csv", "\na,,b\n1,2,3", "t.csv:2: column 2 has no name"),
            (
                "t.csv",
                "a,b,a \n1,2,3",
                "t.csv:1: two columns have the name `a`",
            ),
            (
                "t.csv",
                "a,b\n1,2\n3,\"4\n5,6\n7,8\n",
                "t.csv:3: a quote that begins in this row does not end",
            ),
            (
                "t.csv",
                "\"a",
                "t.csv:1: a quote that begins in this row does not end",
            ),
            (
                "t.csv",
                "id\nx\n\"y\nz\"\nx",
                "t.csv:5: the name `x` is that of line 2, too",
            ),
            (
                "t.txt",
                "a",
                "`t.txt` does not end in .jsonl, .ndjson, .csv or .tsv",
            ),
        ] {
            assert_eq!(shown(file, text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn ten_thousand_rows_have_names_of_one_length() {
        let objects: String = (0..10_000)
            .map(|it| format!("{{\"text\":\"{it}\"}}\n"))
            .collect();
        let folder = folder(&[("r.jsonl", objects.as_bytes())]);
        let inputs = inputs(folder.path(), "r.jsonl", &|_| false).unwrap();
        assert_eq!(inputs[0].name, "r-00001");
        assert_eq!(inputs[9_999].name, "r-10000");
        assert_eq!(distinct(inputs).unwrap().len(), 10_000);
    }

    #[test]
    fn files_among_inputs_hold_rows_by_their_extension() {
        let folder = folder(&[
            ("a.txt", b"text"),
            ("b.csv", b"text\nx\ny"),
            ("c.jsonl", b"{}"),
        ]);
        for (given, expected) in [
            ("b.csv", "b-0002 b-0003"),
            ("*", "a b-0002 b-0003 c-0001"),
            ("*.t*", "a"),
        ] {
            let found = inputs(folder.path(), given, &|_| false).unwrap();
            assert_eq!(names(&found), expected, "{given}");
        }
    }

    #[test]
    fn names_become_as_long_as_they_must() {
        let file = |path: &str| Input {
            name: stem(Path::new(path)),
            from: From::File {
                path: path.into(),
                sha256: String::new(),
                bytes: 0,
            },
        };
        let row = |name: &str| Input {
            name: name.to_owned(),
            from: From::Row { params: Vec::new() },
        };
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
                "two inputs have the name `a`: a row and a row",
            ),
            (
                vec![file("a"), row("a")],
                "two inputs have the name `a`: `a` and a row",
            ),
            (vec![file("a.txt"), file("b"), file("a.txt")], "a b"),
        ] {
            let shown = |inputs: Vec<Input>| match distinct(inputs) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown(inputs), expected);
        }
    }
}
