//! Writes a prompt file for people to read: long texts as multi-line strings, the
//! description first.

use serde_json::Value;

use crate::draft::Draft;
use crate::format::Format;
use crate::names::SharedNames;
use crate::settings::Scalar;

/// The maximum length of a JSON schema on one line, in bytes.
const MAX_COMPACT_JSON_BYTES: usize = 72;

/// Writes the prompts in order.
pub(crate) fn write<'a>(
    format: Format,
    prompts: impl Iterator<Item = (&'a str, &'a Draft)>,
    shared: &SharedNames,
) -> String {
    let mut out = format!("# Converted from {format}.\n");
    for (name, draft) in prompts {
        write_prompt(&mut out, name, draft, shared);
    }
    out
}

fn write_prompt(out: &mut String, name: &str, draft: &Draft, shared: &SharedNames) {
    let has_params = draft.params().next().is_some();
    let has_braces = draft
        .templates()
        .any(|template| template.has_literal_braces());
    let is_raw = has_braces && !has_params;
    let open = (has_braces && has_params).then_some(shared.open.as_str());

    out.push_str(&format!("\n[{}]\n", key(name)));
    if let Some(description) = &draft.description {
        entry(out, "description", &string(description));
    }
    let opening = open.map(|open| (open, string("{{")));
    let defaults = draft.defaults.iter().map(|(name, value)| {
        let value = scalar(value);
        (name.as_str(), value)
    });
    let defaults: Vec<String> = defaults
        .chain(opening)
        .map(|(name, value)| format!("{} = {value}", key(name)))
        .collect();
    if !defaults.is_empty() {
        entry(out, "defaults", &format!("{{ {} }}", defaults.join(", ")));
    }
    for (name, value) in draft.settings.iter() {
        entry(out, name, &scalar(value));
    }
    if !draft.post.is_empty() {
        let post: Vec<String> = draft.post.iter().map(|name| string(name)).collect();
        entry(out, "post", &format!("[{}]", post.join(", ")));
    }
    if let Some(extension) = draft.extension {
        entry(out, "extension", &string(extension));
    }
    if is_raw {
        entry(out, "raw", "true");
    }
    if let Some(schema) = &draft.json_schema {
        entry(out, "json_schema", &string(&readable_json(schema)));
    }
    for (name, template) in [
        ("system", draft.system.as_ref()),
        ("prompt", Some(&draft.user)),
    ] {
        if let Some(template) = template {
            let text = match is_raw {
                true => template.raw_text(),
                false => template.prompt_text(open),
            };
            entry(out, name, &string(&text));
        }
    }
}

fn entry(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("{name} = {value}\n"));
}

/// Returns a short value on one line, and a long one with indentation.
fn readable_json(value: &Value) -> String {
    let compact = value.to_string();
    match compact.len() <= MAX_COMPACT_JSON_BYTES {
        true => compact,
        false => format!("{value:#}"),
    }
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Text(text) => single_line_string(text),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Float(number) if number.is_nan() => "nan".to_owned(),
        Scalar::Float(number) if number.is_infinite() => {
            if *number > 0.0 { "inf" } else { "-inf" }.to_owned()
        }
        Scalar::Float(number) => format!("{number:?}"),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::Texts(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| single_line_string(text)).collect();
            format!("[{}]", texts.join(", "))
        }
    }
}

/// Returns a key, in quotes if necessary.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => basic_string(name),
    }
}

/// Returns a string on one line or, if the text has several lines, a multi-line string.
fn string(text: &str) -> String {
    if !text.contains('\n') {
        return single_line_string(text);
    }
    // Backslashes and quotes are readable only in a literal string.
    let wants_literal = text.contains('\\') || text.contains("\"\"\"");
    if wants_literal && can_be_literal(text) && !text.contains("'''") && !text.ends_with('\'') {
        return format!("'''\n{text}'''");
    }
    let mut out = "\"\"\"\n".to_owned();
    let mut quotes = 0;
    for (at, c) in text.char_indices() {
        let is_last = at + c.len_utf8() == text.len();
        quotes = if c == '"' { quotes + 1 } else { 0 };
        match c {
            '"' if quotes == 3 || is_last => {
                out.push_str("\\\"");
                quotes = 0;
            }
            '"' | '\n' => out.push(c),
            c => push_escaped(&mut out, c),
        }
    }
    out.push_str("\"\"\"");
    out
}

fn single_line_string(text: &str) -> String {
    let wants_literal = text.contains(['\\', '"']);
    if wants_literal && can_be_literal(text) && !text.contains(['\'', '\n']) {
        return format!("'{text}'");
    }
    basic_string(text)
}

/// Returns false if the text contains control characters that TOML allows only as escapes.
fn can_be_literal(text: &str) -> bool {
    !text
        .chars()
        .any(|c| (c < ' ' && !matches!(c, '\t' | '\n')) || c == '\u{7f}')
}

fn basic_string(text: &str) -> String {
    let mut out = "\"".to_owned();
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push('\t'),
        c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}
