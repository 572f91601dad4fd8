//! Parameters from `-p`, `--dict`, `--text` and `--text-file`.

use std::path::Path;

use crate::client::{at_file, read_text_file, stdin_text};
use crate::error::Failure;

/// Returns the parameters in order. `text` is last, as in the Python program. A later
/// source of the same name replaces an earlier one; the same name twice by `-p` is an
/// error.
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
        .flat_map(|list| list.split(','))
        .filter(|item| !item.trim().is_empty())
    {
        let (name, value) = item.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--dict takes k=v,k2=v2; `{item}` has no `=`"))
                .hint("use -p KEY=VALUE for values with commas")
        })?;
        put(name.trim(), value.trim().to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for item in param {
        let (name, value) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("-p takes KEY=VALUE, not `{item}`")))?;
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
        (None, Some(path)) => put("text", read_text_file(path)?.text),
        (None, None) => {}
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_commas() {
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
