//! Processors as they are typed: the `--post` flag, and `post` in a plan.

use lmstrix_sandbox::ProcessorRef;

use crate::error::Error;

/// Parses `NAME[:KEY=VALUE,…]`, where `\,` `\:` `\=` and `\\` are literal.
pub fn processor(typed: &str) -> Result<ProcessorRef, Error> {
    let mut parts = split(typed, ':', 2).into_iter();
    let name = unescape(&parts.next().unwrap_or_default());
    if name.is_empty() {
        return Err(Error::usage(format!(
            "--post takes NAME[:KEY=VALUE,…]; `{typed}` has no name"
        )));
    }
    let mut options = Vec::new();
    for option in parts
        .next()
        .map(|list| split(&list, ',', usize::MAX))
        .unwrap_or_default()
    {
        if option.is_empty() {
            continue;
        }
        match &split(&option, '=', 2)[..] {
            [key, value] => options.push((unescape(key), unescape(value))),
            _ => {
                return Err(Error::usage(format!(
                    "--post takes NAME[:KEY=VALUE,…]; `{option}` in `{typed}` has no `=`"
                ))
                .hint("write \\, \\: or \\= for a literal comma, colon or equals sign"));
            }
        }
    }
    Ok(ProcessorRef { name, options })
}

/// Splits at unescaped separators into at most `most` parts. Keeps the escapes.
fn split(text: &str, separator: char, most: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == separator && !escaped && parts.len() < most {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            // Other backslashes are the value's own: `\n`, `C:\x`.
            Some(&next) if c == '\\' && ",:=\\".contains(next) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_parsed() {
        for (typed, name, options) in [
            ("trim", "trim", vec![]),
            ("shout/count", "shout/count", vec![]),
            (
                "fence:lang=rust,all=true",
                "fence",
                vec![("lang", "rust"), ("all", "true")],
            ),
            (
                "replace:from=a\\,b,to=c\\:d\\=e",
                "replace",
                vec![("from", "a,b"), ("to", "c:d=e")],
            ),
            (
                "replace:from=x=y,to=",
                "replace",
                vec![("from", "x=y"), ("to", "")],
            ),
            ("lines:from=a:b", "lines", vec![("from", "a:b")]),
            (
                "replace:from=\\n,to=\\\\",
                "replace",
                vec![("from", "\\n"), ("to", "\\")],
            ),
        ] {
            let found = processor(typed).unwrap();
            assert_eq!(found.name, name, "{typed}");
            let options: Vec<(String, String)> = options
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            assert_eq!(found.options, options, "{typed}");
        }
        for typed in ["", ":a=b", "fence:lang"] {
            assert!(processor(typed).is_err(), "{typed}");
        }
    }
}
