//! The inputs of a batch: what each prompt is run on, from text files and from
//! tables.
//!
//! Files are read once for the plan and again when their turn comes, so that
//! the plan stays small; rows are held. Which job an input makes, and where its
//! result goes, is decided elsewhere: a name here is any text, also one that no
//! file could have.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Read};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use fs_err as fs;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

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

/// Why inputs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read; the error names it.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// It could be read when the plan was made; the error names it.
    #[error("{0}; it was there when the plan was made: run the command again")]
    Gone(#[source] io::Error),
    /// Its bytes are others than when the plan was made.
    #[error(
        "`{}` is not what it was when the plan was made: run the command again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A folder where a file has to be.
    #[error("`{}` is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// It is not a pattern.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No file matches.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// As it was given.
        pattern: String,
    },
    /// More bytes than are taken from one file.
    #[error("`{}` has more than {mib} MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        mib: u64,
    },
    /// Not UTF-8.
    #[error("`{}` is not UTF-8: the byte at offset {offset} is wrong", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, counted from 0.
        offset: usize,
    },
    /// Rows are asked of a file whose name does not say which form they have.
    #[error("`{}` does not end in .jsonl, .ndjson, .csv or .tsv", path.display())]
    NotRows {
        /// The file.
        path: PathBuf,
    },
    /// One JSON array where each line has to be an object.
    #[error("`{}` is a JSON array, and not an object on each line", path.display())]
    Array {
        /// The file.
        path: PathBuf,
    },
    /// A row, or the header, is wrong.
    #[error("{}:{line}{}: {reason}", path.display(), shown_column(*column))]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1; of a row of several lines, the first.
        line: usize,
        /// The character in the line, from 1, where one knows it.
        column: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// Nothing, or only a header.
    #[error("`{}` has no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Two rows of a file have one name.
    #[error(
        "{}:{line}: the name `{name}` is that of line {first}, too",
        path.display()
    )]
    SameName {
        /// The file.
        path: PathBuf,
        /// The name that both have.
        name: String,
        /// The line of the first.
        first: usize,
        /// The line of the second.
        line: usize,
    },
    /// A file is among the inputs twice.
    #[error("`{}` is given twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// Two inputs have one name, and no longer one to tell them apart.
    #[error("two inputs have the name `{name}`: {first} and {second}")]
    Clash {
        /// The name that both have.
        name: String,
        /// Where the first comes from.
        first: String,
        /// Where the second comes from.
        second: String,
    },
}

impl Error {
    /// What to do about it, where there is something to type.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotUtf8 { .. } => Some("iconv -f ENCODING -t UTF-8 converts it"),
            Self::Folder { .. } => Some("'FOLDER/*' means the files in it"),
            Self::Array { .. } => Some("jq -c '.[]' FILE >ROWS.jsonl makes rows of it"),
            Self::SameName { .. } => Some("the `id` of each row has to be another"),
            Self::Read(_)
            | Self::Gone(_)
            | Self::Changed { .. }
            | Self::Pattern { .. }
            | Self::NoMatch { .. }
            | Self::TooLarge { .. }
            | Self::NotRows { .. }
            | Self::Row { .. }
            | Self::NoRows { .. }
            | Self::Twice { .. }
            | Self::Clash { .. } => None,
        }
    }
}

fn shown_column(column: Option<usize>) -> String {
    column.map(|it| format!(":{it}")).unwrap_or_default()
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

/// `--text-file`, `[[input]] file = …`: a path, or a pattern with `*` `?` `[ ]`,
/// relative to `base`. Matches are sorted, and folders among them left out. A
/// path that exists is itself, even if it holds such characters.
///
/// # Errors
/// Nothing matches, or what does is not UTF-8, too large or cannot be read.
pub fn files(base: &Path, pattern: &str) -> Result<Vec<Input>, Error> {
    paths(base, pattern)?.iter().map(|it| file(it)).collect()
}

/// `--inputs`: the same, but `.jsonl`, `.ndjson`, `.csv` and `.tsv` files hold
/// rows, also where a pattern matched them.
///
/// # Errors
/// As [`files`] and [`rows`].
pub fn inputs(base: &Path, given: &str) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for path in paths(base, given)? {
        if Form::of(&path).is_some() {
            inputs.append(&mut rows(&path)?);
        } else {
            inputs.push(file(&path)?);
        }
    }
    Ok(inputs)
}

/// The rows of a file, each with the name that its `id` gives (or its `name`,
/// where it has no `id`), else with one made of the file's stem and its line.
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
    let mut paths = HashSet::new();
    for input in &inputs {
        if let From::File { path, .. } = &input.from
            && !paths.insert(path)
        {
            return Err(Error::Twice { path: path.clone() });
        }
    }
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
            .filter_map(|(at, input)| Some((at, longer_name(input)?)))
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
fn longer_name(input: &Input) -> Option<String> {
    let From::File { path, .. } = &input.from else {
        return None;
    };
    let names = [
        stem(path),
        path.file_name()?.to_string_lossy().into_owned(),
        path.display().to_string(),
    ];
    // From behind: a file without an extension has its name twice.
    let at = names.iter().rposition(|it| *it == input.name)?;
    names.into_iter().nth(at + 1)
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
fn paths(base: &Path, given: &str) -> Result<Vec<PathBuf>, Error> {
    // No `./` before names that are shown.
    let base = base.strip_prefix(".").unwrap_or(base);
    let path = base.join(given);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Err(Error::Folder { path }),
        Ok(_) => return Ok(vec![path]),
        Err(error) if !given.contains(PATTERN_CHARACTERS) => return Err(Error::Read(error)),
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
    for path in matches {
        let path = path.map_err(|error| Error::Read(error.into()))?;
        // Nor pipes: nobody who writes `*` means to wait for one.
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
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

/// A row before it has a name.
struct Row {
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

fn named(path: &Path, rows: Vec<Row>) -> Result<Vec<Input>, Error> {
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

fn json_rows(path: &Path, text: &str) -> Result<Vec<Row>, Error> {
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

fn separated_rows(path: &Path, text: &str, separator: u8) -> Result<Vec<Row>, Error> {
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
            let found = match files(folder.path(), pattern) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{pattern}");
        }
        // The folder's own name is no pattern.
        let found = files(&folder.path().join("sub [s]"), "*.txt").unwrap();
        assert_eq!(names(&found), "y");
        let absolute = folder.path().join("?.txt");
        let found = files(Path::new("elsewhere"), absolute.to_str().unwrap()).unwrap();
        assert_eq!(names(&found), "1 a b");
        assert!(matches!(
            files(folder.path(), "none.txt"),
            Err(Error::Read(_))
        ));
        let error = files(folder.path(), "sub.txt").unwrap_err();
        assert!(matches!(error, Error::Folder { .. }) && error.hint().is_some());
    }

    #[test]
    fn a_file_is_text_and_stays_what_it_was() {
        let folder = folder(&[
            ("bom.txt", b"\xef\xbb\xbf\xc3\xbc\r\n"),
            ("empty.txt", b""),
            ("latin.txt", b"\xef\xbb\xbfab\xfc"),
        ]);
        let one = |name: &str| files(folder.path(), name).map(|mut it| it.remove(0));
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
        let found = files(folder.path(), "pipe").unwrap();
        writer.join().unwrap();
        assert_eq!(found[0].from, From::Text("through".to_owned()));
        assert!(matches!(
            files(folder.path(), "p*"),
            Err(Error::NoMatch { .. })
        ));
        assert!(matches!(
            files(Path::new(""), "/dev/zero"),
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
                "n id= name=n | t-0003 id= name=",
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
        let inputs = inputs(folder.path(), "r.jsonl").unwrap();
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
            let found = inputs(folder.path(), given).unwrap();
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
            (
                vec![file("a.txt"), file("b"), file("a.txt")],
                "`a.txt` is given twice",
            ),
        ] {
            let shown = |inputs: Vec<Input>| match distinct(inputs) {
                Ok(inputs) => names(&inputs),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown(inputs), expected);
        }
    }
}
