//! Prompty, versions 1 and 2: YAML front matter, and a body with lines such as `user:` that
//! start a message. The body is a template in a part of Jinja, or in Mustache.

mod head;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::braces::{self, Language, TokenKind};
use crate::draft::{Conversion, Draft};
use crate::format::Source;
use crate::front_matter::{self, FrontMatter};
use crate::jinja;
use crate::json_schema::Property;
use crate::log::{Log, Skip};
use crate::messages::{self, Message, Role};
use crate::names::name_the_input;
use crate::template::{Piece, Template};
use crate::yaml::Schema;

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
    let head = head::resolve(head, log);
    let mut draft = Draft::default();
    let inputs = head::properties(&head, &mut draft, log)?;
    let is_version_1 = head::is_version_1(&head);

    let pieces = match head::language(&head)? {
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
    let kinds: BTreeMap<&str, &str> = inputs
        .iter()
        .map(|input| (input.name, input.kind()))
        .filter(|(_, kind)| RICH_KINDS.contains(kind))
        .collect();
    let mut kept = Vec::new();
    for (line, piece) in pieces {
        let kind = match &piece {
            Piece::Param(name) => kinds.get(name.as_str()).copied(),
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
        prefix: Rc::default(),
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
                    prefix: Rc::default(),
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
