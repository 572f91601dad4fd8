//! Prompty, versions 1 and 2: YAML front matter, and a body with lines such as `user:` that
//! start a message. The body is a template in a part of Jinja, or in Mustache.

use crate::braces::{self, Language, TokenKind};
use crate::draft::{Conversion, Draft, TEXT};
use crate::format::Source;
use crate::front_matter::{self, FrontMatter, note_left_out, note_unknown, one_line};
use crate::jinja;
use crate::json_schema::{self, Property};
use crate::log::{Log, Skip};
use crate::messages::{self, Message, Role};
use crate::names::name_the_input;
use crate::settings::Scalar;
use crate::template::{Piece, Template};
use crate::yaml::{Entry, Node, Schema, Value};

/// Keys without an effect on the messages, and keys that are converted.
const KNOWN_KEYS: [&str; 22] = [
    "name",
    "displayName",
    "description",
    "authors",
    "tags",
    "version",
    "metadata",
    "id",
    "kind",
    "model",
    "inputs",
    "inputSchema",
    "outputs",
    "outputSchema",
    "sample",
    "template",
    "tools",
    "base",
    "environment",
    "file",
    "instructions",
    "thread",
];

const LEFT_OUT: [(&str, &str); 7] = [
    ("model", "choose the model with `-m`"),
    (
        "sample",
        "sample values are not defaults; set them with `-p`",
    ),
    ("tools", "tools have no equivalent"),
    ("base", "the file that it names is not read"),
    ("environment", "there is no equivalent"),
    ("instructions", "the body of the file is the prompt"),
    ("thread", "a prompt has no earlier messages"),
];

/// Input types whose values are not texts.
const RICH_KINDS: [&str; 4] = ["thread", "image", "file", "audio"];

/// Converts prompts.
pub(crate) fn convert(sources: &[Source]) -> Vec<Conversion> {
    sources
        .iter()
        .map(|source| Conversion::run(&source.path, &source.name, |log| prompt(source, log)))
        .collect()
}

fn prompt(source: &Source, log: &mut Log) -> Result<Draft, Skip> {
    let Some(front_matter) = front_matter::split(&source.text, Schema::Yaml11)? else {
        let reason = "the file does not begin with front matter between `---` lines";
        return Err(Skip::new(Some(1), reason));
    };
    let FrontMatter {
        head,
        body,
        body_line,
    } = front_matter;
    let mut draft = Draft::default();
    note_unknown(&head, &KNOWN_KEYS, log);
    note_left_out(&head, &LEFT_OUT, log);
    let text = |key| head.get(key).and_then(Node::as_text).and_then(one_line);
    let names = ["description", "displayName", "name"];
    draft.description = names.into_iter().find_map(text);
    let is_version_1 = is_version_1(&head);
    read_model(&head, &mut draft, log);
    let inputs = head.get("inputs").or_else(|| head.get("inputSchema"));
    let inputs = inputs.map(json_schema::properties).unwrap_or_default();
    draft.defaults = defaults(&inputs, log);
    read_outputs(&head, is_version_1, &mut draft, log);

    let pieces = match language(&head)? {
        None => jinja::scan(body, body_line)?,
        Some(language) => mustache(body, body_line, language)?,
    };
    let pieces = without_rich_inputs(pieces, &inputs, log);
    let messages = to_messages(&pieces, is_version_1);
    if is_version_1 {
        note_images(body, body_line, log);
    }
    (draft.system, draft.user) = messages::system_and_user(messages, log)?;
    name_the_input(&mut draft, log);
    Ok(draft)
}

fn is_version_1(head: &Node) -> bool {
    let in_model = |key| {
        head.get("model")
            .is_some_and(|model| model.get(key).is_some())
    };
    head.get("sample").is_some()
        || ["configuration", "parameters", "api"]
            .into_iter()
            .any(in_model)
}

/// Returns the template language; `None` is Jinja.
fn language(head: &Node) -> Result<Option<Language>, Skip> {
    let Some(template) = head.get("template") else {
        return Ok(None);
    };
    let format = template.get("format").or_else(|| template.get("type"));
    let format = format.unwrap_or(template);
    let format = format.get("kind").unwrap_or(format);
    match format.as_text() {
        Some("jinja2" | "jinja" | "nunjucks" | "*") => Ok(None),
        Some("mustache") => Ok(Some(Language::Mustache)),
        None if matches!(format.value, Value::Map(_)) => Ok(None),
        _ => {
            let name = format.as_text().unwrap_or_else(|| format.type_name());
            let reason = format!("the template language `{name}` is not supported");
            Err(Skip::new(Some(format.line), reason))
        }
    }
}

fn read_model(head: &Node, draft: &mut Draft, log: &mut Log) {
    let Some(model) = head.get("model") else {
        return;
    };
    for key in ["parameters", "options"] {
        for option in model.get(key).map(Node::entries).unwrap_or_default() {
            read_option(option, draft, log);
        }
    }
}

fn read_option(option: &Entry, draft: &mut Draft, log: &mut Log) {
    match option.key.as_str() {
        "response_format" | "responseFormat" => response_format(option, draft, log),
        "additionalProperties" => {
            for option in option.node.entries() {
                read_option(option, draft, log);
            }
        }
        // One answer, and no change of its text.
        "n" if option.node.value == Value::Integer(1) => {}
        "stream" => {}
        _ => draft.settings.read(option, log),
    }
}

fn response_format(option: &Entry, draft: &mut Draft, log: &mut Log) {
    let kind = option.node.get("type").unwrap_or(&option.node).as_text();
    let schema = option.node.get("json_schema");
    let schema = schema.map(|node| node.get("schema").unwrap_or(node));
    match (kind, schema) {
        (Some("json_schema"), Some(schema)) => draft.json_schema = Some(schema.to_json()),
        (Some("json_object"), _) => {
            draft.json_schema = Some(serde_json::json!({ "type": "object" }));
        }
        (Some("text"), _) => return,
        _ => {
            let message = format!(
                "the option `{}` is left out; its value has no equivalent",
                option.key
            );
            return log.left_out(Some(option.line), message);
        }
    }
    draft.extension = Some("json");
}

fn defaults(inputs: &[Property<'_>], log: &mut Log) -> Vec<(String, Scalar)> {
    let mut defaults = Vec::new();
    for input in inputs {
        let name = input.name.to_owned();
        match input.node.get("default") {
            Some(value) => match Scalar::from_yaml(value) {
                Some(value) => defaults.push((name, value)),
                None => {
                    let message = format!("the default of `{name}` is left out; it is not a text");
                    log.left_out(Some(value.line), message);
                }
            },
            None => {
                let required = input.node.get("required").map(|node| &node.value);
                let is_text = [TEXT, "input"].contains(&input.name);
                if required == Some(&Value::Boolean(false)) && !is_text {
                    defaults.push((name, Scalar::Text(String::new())));
                }
            }
        }
    }
    defaults
}

fn read_outputs(head: &Node, is_version_1: bool, draft: &mut Draft, log: &mut Log) {
    let Some(outputs) = head.get("outputs").or_else(|| head.get("outputSchema")) else {
        return;
    };
    let properties = json_schema::properties(outputs);
    if is_version_1 || properties.is_empty() {
        // Version 1 does not send the outputs to the model.
        return log.left_out(
            Some(outputs.line),
            "`outputs` is left out; the model does not receive it",
        );
    }
    draft.json_schema = Some(json_schema::from_outputs(&properties));
    draft.extension = Some("json");
}

fn mustache(body: &str, line: usize, language: Language) -> Result<Vec<jinja::Token>, Skip> {
    let mut pieces = Vec::new();
    for token in braces::scan(body, line, language)? {
        let skip = |reason: String| Err(Skip::new(Some(token.line), reason));
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::Text(text) => pieces.push((token.line, Piece::Text(text))),
            TokenKind::Value(name) if jinja::is_variable(&name) => {
                pieces.push((token.line, Piece::Param(name)));
            }
            TokenKind::Value(name) => {
                return skip(format!("`{{{{{name}}}}}` is more than a variable"));
            }
            TokenKind::Partial { content, .. } => return skip(format!("no partial `{content}`")),
        }
    }
    Ok(pieces)
}

/// Removes the inputs that are not texts, such as images.
fn without_rich_inputs(
    pieces: Vec<jinja::Token>,
    inputs: &[Property<'_>],
    log: &mut Log,
) -> Vec<jinja::Token> {
    let kind_of = |name: &str| {
        let input = inputs.iter().find(|input| input.name == name)?;
        Some(input.kind()).filter(|kind| RICH_KINDS.contains(kind))
    };
    let mut kept = Vec::new();
    for (line, piece) in pieces {
        let kind = match &piece {
            Piece::Param(name) => kind_of(name),
            Piece::Text(_) => None,
        };
        match (kind, &piece) {
            (Some(kind), Piece::Param(name)) => {
                let advice = match kind {
                    "thread" => "a prompt has no earlier messages",
                    "image" => "send the image with `--attach`",
                    _ => "there is no equivalent",
                };
                let message =
                    format!("the input `{name}` of the type `{kind}` is left out; {advice}");
                log.left_out(Some(line), message);
            }
            _ => kept.push((line, piece)),
        }
    }
    kept
}

/// Notes the images of version 1, which sends them to the model.
fn note_images(body: &str, first_line: usize, log: &mut Log) {
    for (line, text) in (first_line..).zip(body.lines()) {
        let image = text.find("![").and_then(|start| text.get(start..));
        if image.is_some_and(|image| image.contains("](")) {
            let message = "an image link stays as text; send the image with `--attach`";
            log.left_out(Some(line), message);
        }
    }
}

/// Splits a template at the lines that are a role. Text before the first is a system message.
fn to_messages(pieces: &[jinja::Token], is_version_1: bool) -> Vec<Message> {
    let first_line = pieces.first().map_or(1, |(line, _)| *line);
    let mut current = Message {
        role: Role::System,
        line: first_line,
        content: Template::default(),
    };
    let mut messages = Vec::new();
    for (number, line) in lines(pieces) {
        let role = match line.pieces() {
            [Piece::Text(text)] => role_of(text, is_version_1),
            _ => None,
        };
        match role {
            Some(role) => {
                let next = Message {
                    role,
                    line: number,
                    content: Template::default(),
                };
                messages.push(std::mem::replace(&mut current, next));
            }
            None => current.content.append(&line),
        }
    }
    messages.push(current);
    messages
}

/// Splits a template into lines, which include their newline, and their numbers.
fn lines(pieces: &[jinja::Token]) -> Vec<(usize, Template)> {
    let mut lines = Vec::new();
    let mut current: Option<(usize, Template)> = None;
    for (piece_line, piece) in pieces {
        match piece {
            Piece::Param(_) => {
                let line = current.get_or_insert_with(|| (*piece_line, Template::default()));
                line.1.push(piece);
            }
            Piece::Text(text) => {
                for (number, part) in (*piece_line..).zip(text.split_inclusive('\n')) {
                    let line = current.get_or_insert_with(|| (number, Template::default()));
                    line.1.push_text(part);
                    if part.ends_with('\n') {
                        lines.extend(current.take());
                    }
                }
            }
        }
    }
    lines.extend(current);
    lines
}

/// Returns the role of a line such as `user:`, `# System:` or `assistant[name="x"]:`.
fn role_of(line: &str, is_version_1: bool) -> Option<Role> {
    let line = line.trim();
    let line = line.strip_prefix('#').unwrap_or(line).trim_start();
    let line = line.strip_suffix(':')?.trim_end();
    let name = match line.split_once('[') {
        Some((name, attributes)) if is_attributes(attributes) => name,
        Some(_) => return None,
        None => line,
    };
    match name.to_ascii_lowercase().as_str() {
        "system" | "developer" => Some(Role::System),
        "user" => Some(Role::User),
        name @ "assistant" => Some(Role::Other(name.to_owned())),
        name @ ("function" | "tool") if is_version_1 => Some(Role::Other(name.to_owned())),
        _ => None,
    }
}

/// Returns true for `name="x", other=1]`.
fn is_attributes(text: &str) -> bool {
    let Some(inner) = text.strip_suffix(']') else {
        return false;
    };
    let is_attribute = |attribute: &str| {
        let name = attribute.split_once('=').map(|(name, _)| name.trim());
        name.is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
    };
    inner.split(',').all(is_attribute)
}
