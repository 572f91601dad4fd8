//! Texts and parameters: from flags, files and stdin.

use std::io::Read;
use std::path::Path;

use fs_err as fs;

use crate::error::Failure;
use crate::pack::TextFile;

/// Reads a whole file that must be UTF-8.
pub(super) fn text_file_of(path: &Path) -> Result<TextFile, Failure> {
    let file = fs::File::open(path).map_err(|e| Failure::usage(e.to_string()))?;
    let bytes = read_limited(file, &path.display().to_string())?;
    Ok(TextFile {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        shown: path.display().to_string(),
        text: utf8(bytes, &path.display().to_string())?,
    })
}

/// The most text that is read from one file or from stdin: more than any model
/// takes, and a device such as /dev/zero never ends.
const TEXT_BYTES_MAX: u64 = 16 << 20;

fn read_limited(from: impl Read, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::usage(format!("cannot read {what}: {e}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{what} has more than 16 MiB, which no prompt can have"
        )));
    }
    Ok(bytes)
}

/// A byte order mark at the start goes: it is no part of the text.
///
/// # Errors
/// The bytes are not UTF-8; the message says where the first wrong one is.
fn utf8(bytes: Vec<u8>, what: &str) -> Result<String, Failure> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        Failure::usage(format!(
            "{what} is not UTF-8: the byte at offset {offset} is wrong"
        ))
        .hint("iconv -f ENCODING -t UTF-8 converts it")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// All of stdin, as text.
fn stdin_text() -> Result<String, Failure> {
    let bytes = read_limited(std::io::stdin().lock(), "stdin")?;
    utf8(bytes, "stdin")
}

/// Stdin for a prompt that lacks its text: only when a pipe or a file is there,
/// and only when there is something in it.
pub(super) fn stdin_if(has_text: bool) -> Result<Option<String>, String> {
    if !has_text {
        return Ok(None);
    }
    let text = stdin_text().map_err(|failure| {
        std::iter::once(failure.message)
            .chain(failure.hints)
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(Some(text))
}

/// The parameters in their order. `text` is put last, as the Python program
/// did. A later source of the same name replaces an earlier one; the same name
/// twice by `-p` is a mistake.
pub(super) fn params(
    dict: &[String],
    param: &[String],
    text: Option<&str>,
    text_file: Option<&Path>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut params: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| {
        params.retain(|(known, _)| known != name);
        params.push((name.to_owned(), value));
    };
    for item in dict
        .iter()
        .flat_map(|it| it.split(','))
        .filter(|it| !it.trim().is_empty())
    {
        let (name, value) = item.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--dict takes k=v,k2=v2, and `{item}` has no `=`"))
                .hint("-p KEY=VALUE takes values with commas")
        })?;
        put(name.trim(), value.trim().to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| {
                Failure::usage(format!("-p takes KEY=VALUE, and `{item}` is not that"))
            })?;
        if seen.contains(&name) {
            return Err(Failure::usage(format!(
                "the parameter `{name}` is given twice"
            )));
        }
        seen.push(name);
        put(name, at_file(value)?);
    }
    let is_text_given = text.is_some() || text_file.is_some();
    if is_text_given && seen.contains(&"text") {
        return Err(Failure::usage(
            "the parameter `text` is given twice: by -p, and by --text",
        ));
    }
    match (text, text_file) {
        (Some(text), _) => put("text", text.to_owned()),
        (None, Some(path)) if path == Path::new("-") => put("text", stdin_text()?),
        (None, Some(path)) => put("text", text_file_of(path)?.text),
        (None, None) => {}
    }
    Ok(params)
}

/// `@FILE` is the file's text, `@@…` a literal `@…`.
pub(in super::super) fn at_file(value: &str) -> Result<String, Failure> {
    match value.strip_prefix('@') {
        None => Ok(value.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some(path) => match text_file_of(Path::new(path)) {
            Ok(file) => Ok(file.text),
            Err(failure) => {
                Err(failure.hint("a value that begins with a literal @ begins with @@"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_their_commas() {
        let own = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let found = params(
            &own(&["a=1, b = 2", "text=old"]),
            &own(&["b=x,y=z", "c=@@d"]),
            Some("T"),
            None,
        );
        let found = found.unwrap();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            found,
            [("a", "1"), ("b", "x,y=z"), ("c", "@d"), ("text", "T")]
        );
        for (dict, param, text) in [
            (&["x"][..], &[][..], None),
            (&[], &["x"], None),
            (&[], &["=x"], None),
            (&[], &["x=1", "x=2"], None),
            (&[], &["text=1"], Some("2")),
        ] {
            assert!(
                params(&own(dict), &own(param), text, None).is_err(),
                "{dict:?} {param:?}"
            );
        }
    }
}
