//! Templates of the command `llm`: YAML with a `prompt` and a `system` text, in which
//! `$name` and `${name}` are variables and `$$` is a dollar sign.
//!
//! If neither text contains `$input`, llm sends the input after the prompt, on a line of its
//! own. A template without a prompt sends the input alone.

use crate::draft::{Conversion, Draft};
use crate::format::Source;
use crate::front_matter::{map_entries, note_left_out, note_unknown, skip};
use crate::log::{Log, Skip};
use crate::names::input_becomes_text;
use crate::settings::Scalar;
use crate::template::Template;
use crate::yaml::{self, Node, Schema, Value};

const INPUT: &str = "input";

const KNOWN_KEYS: [&str; 17] = [
    "name",
    "prompt",
    "system",
    "model",
    "defaults",
    "options",
    "extract",
    "extract_last",
    "schema_object",
    "fragments",
    "system_fragments",
    "attachments",
    "attachment_types",
    "tools",
    "functions",
    "description",
    "schema",
];

const LEFT_OUT: [(&str, &str); 8] = [
    ("model", "choose the model with `-m`"),
    ("fragments", "paste the texts, or pass them with `-p`"),
    (
        "system_fragments",
        "paste the texts, or pass them with `-p`",
    ),
    ("attachments", "send images with `--attach`"),
    ("attachment_types", "send images with `--attach`"),
    ("tools", "tools have no equivalent"),
    ("functions", "tools have no equivalent"),
    ("schema", "llm reads `schema_object` only"),
];

/// Converts templates.
pub(crate) fn convert(sources: &[Source]) -> Vec<Conversion> {
    sources
        .iter()
        .map(|source| Conversion::run(&source.path, &source.name, |log| template(source, log)))
        .collect()
}

fn template(source: &Source, log: &mut Log) -> Result<Draft, Skip> {
    let root = yaml::parse(&source.text, Schema::Yaml11).map_err(|error| skip(error, 0))?;
    let mut draft = Draft::default();
    match &root.value {
        Value::Text(_) => texts(Some(&root), None, &mut draft, log),
        Value::Map(_) => {
            note_unknown(&root, |key| KNOWN_KEYS.contains(&key), log);
            note_left_out(&root, &LEFT_OUT, log);
            let prompt = text_of(&root, "prompt")?;
            let system = text_of(&root, "system")?;
            properties(&root, &mut draft, log)?;
            texts(prompt, system, &mut draft, log);
        }
        _ => {
            let reason = format!(
                "the file must be a map or a string, not {}",
                root.type_name()
            );
            return Err(Skip::new(Some(root.line), reason));
        }
    }
    input_becomes_text(&mut draft, log);
    Ok(draft)
}

/// Returns a text that is not empty.
fn text_of<'a>(root: &'a Node, key: &str) -> Result<Option<&'a Node>, Skip> {
    let Some(node) = root.get(key) else {
        return Ok(None);
    };
    match node.as_text() {
        Some(text) => Ok(Some(node).filter(|_| !text.is_empty())),
        None => {
            let reason = format!("`{key}` must be a string, not {}", node.type_name());
            Err(Skip::new(Some(node.line), reason))
        }
    }
}

fn texts(prompt: Option<&Node>, system: Option<&Node>, draft: &mut Draft, log: &mut Log) {
    let both = || [prompt, system].into_iter().flatten();
    // llm looks for `$input` only, although it replaces `${input}` as well.
    let uses_input = both()
        .filter_map(Node::as_text)
        .flat_map(tokens)
        .any(|token| token == Token::Variable(INPUT));
    let mut convert = |node: &Node| substitute(node, uses_input, log);
    draft.system = system.map(&mut convert);
    match prompt {
        None => draft.user = Template::param(INPUT),
        Some(node) => {
            draft.user = convert(node);
            if !uses_input {
                draft.user.push_text("\n");
                draft.user.push_param(INPUT);
            }
        }
    }
}

fn substitute(node: &Node, uses_input: bool, log: &mut Log) -> Template {
    let text = node.as_text().unwrap_or_default();
    let mut template = Template::default();
    let mut line = node.text_line();
    for token in tokens(text) {
        match token {
            Token::Text(text) => {
                template.push_text(text);
                if node.is_literal_block {
                    line += text.matches('\n').count();
                }
            }
            Token::Dollar => template.push_text("$"),
            Token::Braced(INPUT) if !uses_input => {
                let message = "`${input}` is empty in llm unless `$input` occurs as well";
                log.changed(Some(line), message);
            }
            Token::Variable(name) | Token::Braced(name) => template.push_param(name),
            Token::Invalid => {
                let message = "a `$` without a name is plain text here; llm rejects it";
                log.changed(Some(line), message);
                template.push_text("$");
            }
        }
    }
    template
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Text(&'a str),
    /// `$$`
    Dollar,
    /// `$name`
    Variable(&'a str),
    /// `${name}`
    Braced(&'a str),
    /// `$` before anything else.
    Invalid,
}

/// Splits a text as `string.Template` of Python does.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (token, length) = match rest.find('$') {
            None => (Token::Text(rest), rest.len()),
            Some(0) => variable(rest),
            Some(dollar) => (Token::Text(rest.get(..dollar).unwrap_or_default()), dollar),
        };
        found.push(token);
        at += length;
    }
    found
}

/// Returns the token at the start of `text`, which begins with a dollar sign, and its length.
fn variable(text: &str) -> (Token<'_>, usize) {
    let after = text.get(1..).unwrap_or_default();
    if after.starts_with('$') {
        return (Token::Dollar, 2);
    }
    let name = identifier(after);
    if !name.is_empty() {
        return (Token::Variable(name), 1 + name.len());
    }
    let braced = after.strip_prefix('{').and_then(|inside| {
        let name = identifier(inside);
        let is_closed = inside.get(name.len()..)?.starts_with('}');
        Some(name).filter(|name| is_closed && !name.is_empty())
    });
    match braced {
        Some(name) => (Token::Braced(name), 3 + name.len()),
        None => (Token::Invalid, 1),
    }
}

/// Returns the identifier at the start of `text`; an empty one if it does not start with one.
fn identifier(text: &str) -> &str {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !text.starts_with(is_start) {
        return "";
    }
    let end = text.find(|c: char| !is_start(c) && !c.is_ascii_digit());
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn properties(root: &Node, draft: &mut Draft, log: &mut Log) -> Result<(), Skip> {
    let options = root.get("options");
    for option in options.map_or(&[][..], |node| map_entries(node, "options", log)) {
        match (option.key.as_str(), &option.node.value) {
            ("json_object", Value::Boolean(true)) => {
                draft.json_schema = Some(serde_json::json!({ "type": "object" }));
            }
            ("json_object", Value::Boolean(false)) => {}
            _ => draft.settings.read(option, log),
        }
    }
    if let Some(schema) = root.get("schema_object") {
        match &schema.value {
            Value::Map(_) => draft.json_schema = Some(schema.to_json()),
            _ => log.left_out(
                Some(schema.line),
                "`schema_object` is left out; it must be a map",
            ),
        }
    }
    if draft.json_schema.is_some() {
        draft.extension = Some("json");
    }
    let extracts_last = is_true(root, "extract_last", log);
    let extracts = is_true(root, "extract", log);
    if let Some(node) = root.get("extract_last").filter(|_| extracts_last) {
        let message = "`extract_last` is left out; no processor extracts only the last code block";
        log.left_out(Some(node.line), message);
    } else if extracts {
        draft.post.push("fence");
    }
    if let Some(description) = root.get("description").and_then(Node::as_text) {
        draft.description = crate::front_matter::one_line(description);
    }
    let defaults = root.get("defaults");
    for entry in defaults.map_or(&[][..], |node| map_entries(node, "defaults", log)) {
        let Some(value) = Scalar::from_python(&entry.node) else {
            let message = format!(
                "the default of `{}` is left out; it is not a text",
                entry.key
            );
            log.left_out(Some(entry.line), message);
            continue;
        };
        if entry.key == INPUT {
            log.left_out(
                Some(entry.line),
                "the default of `input` is left out; it has no effect in llm",
            );
            continue;
        }
        draft.defaults.push((entry.key.clone(), value));
    }
    Ok(())
}

/// Returns the value of a key that must be a boolean.
fn is_true(root: &Node, key: &str, log: &mut Log) -> bool {
    let node = root.get(key);
    match node.map(|node| &node.value) {
        Some(Value::Boolean(value)) => *value,
        Some(_) => {
            let kind = node.map_or("null", Node::type_name);
            let message = format!("`{key}` is left out; it must be a boolean, not {kind}");
            log.left_out(node.map(|node| node.line), message);
            false
        }
        None => false,
    }
}
