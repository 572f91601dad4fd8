//! Parameters from `-p`, `--dict`, `--text` and `--text-file`.

use std::path::Path;

use lmstrix::client::{Notices, at_file, read_text_file, stdin_text};

use crate::error::Failure;

/// Returns the parameters in order. `text` is last, as in the Python program. A later
/// source of the same name replaces an earlier one; the same name twice by `-p` is an
/// error.
pub(super) fn params(
    dict: &[String],
    param: &[String],
    text: Option<&str>,
    text_file: Option<&Path>,
    notices: &Notices,
) -> Result<Vec<(String, String)>, Failure> {
    let mut params: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| {
        params.retain(|(known, _)| known != name);
        params.push((name.to_owned(), value));
    };
    for item in dict
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|item| !item.trim().is_empty())
    {
        let (name, value) = item.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--dict expects k=v,k2=v2; `{item}` has no `=`"))
                .hint("use -p KEY=VALUE for values with commas")
        })?;
        put(name.trim(), value.trim().to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("-p expects KEY=VALUE, not `{item}`")))?;
        if seen.contains(&name) {
            return Err(Failure::usage(format!("parameter `{name}` is given twice")));
        }
        seen.push(name);
        put(name, at_file(value)?);
    }
    let is_text_given = text.is_some() || text_file.is_some();
    if is_text_given && seen.contains(&"text") {
        return Err(Failure::usage(
            "parameter `text` is given twice: by -p, and by --text or --text-file",
        ));
    }
    match (text, text_file) {
        (Some(text), _) => put("text", text.to_owned()),
        (None, Some(path)) if path == Path::new("-") => put("text", stdin_text(notices)?),
        (None, Some(path)) => put("text", read_text_file(path)?.text.to_string()),
        (None, None) => {}
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_keep_order_and_commas_and_reject_invalid_or_duplicate_items() {
        let owned = |items: &[&str]| -> Vec<String> {
            items.iter().map(|item| (*item).to_owned()).collect()
        };
        let result = params(
            &owned(&["a=1, b = 2", "text=old"]),
            &owned(&["b=x,y=z", "c=@@d"]),
            Some("T"),
            None,
            &Notices::ignore(),
        );
        let result = result.unwrap();
        let pairs: Vec<(&str, &str)> = result
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
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
                params(&owned(dict), &owned(param), text, None, &Notices::ignore()).is_err(),
                "{dict:?} {param:?}"
            );
        }
    }
}
