//! Dotprompt: YAML front matter and a Handlebars template, in which the helper `role` starts
//! a message. A partial `{{>name}}` is the file `_name.prompt`.

use std::collections::BTreeMap;

use crate::braces::{self, Language, TokenKind};
use crate::draft::{Conversion, Draft, TEXT};
use crate::format::Source;
use crate::front_matter::{self, FrontMatter, note_left_out, one_line};
use crate::json_schema;
use crate::log::{Log, Skip};
use crate::messages::{self, Message, Role};
use crate::names::name_the_input;
use crate::settings::Scalar;
use crate::template::Template;
use crate::yaml::{Node, Schema, Value};

/// The maximum nesting of partials.
const MAX_PARTIAL_DEPTH: usize = 16;
/// The maximum size of a template with its partials, in bytes. A partial counts as
/// [`MIN_PARTIAL_BYTES`] at least.
const MAX_TEMPLATE_BYTES: usize = 4 * 1024 * 1024;
const MIN_PARTIAL_BYTES: usize = 64;

const LEFT_OUT: [(&str, &str); 5] = [
    ("model", "choose the model with `-m`"),
    ("tools", "tools have no equivalent"),
    ("toolDefs", "tools have no equivalent"),
    ("metadata", "there is no equivalent"),
    ("ext", "there is no equivalent"),
];

/// Names that Handlebars or Dotprompt give to helpers, and values that are not variables.
const NOT_VARIABLES: [&str; 17] = [
    "else",
    "each",
    "if",
    "ifEquals",
    "json",
    "log",
    "lookup",
    "media",
    "role",
    "section",
    "this",
    "unless",
    "unlessEquals",
    "with",
    "true",
    "false",
    "null",
];

/// The texts of the partials by their names, which begin with `_`.
type Partials<'a> = BTreeMap<&'a str, &'a str>;

/// Converts prompts. Sources whose file name starts with `_` are partials.
pub(crate) fn convert(sources: &[Source]) -> Vec<Conversion> {
    let (partials, prompts): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| is_partial(source));
    let partials = partials
        .into_iter()
        .map(|source| (source.name.as_str(), source.text.as_str()))
        .collect();
    prompts
        .into_iter()
        .map(|source| {
            Conversion::run(&source.path, &source.name, |log| {
                prompt(source, &partials, log)
            })
        })
        .collect()
}

fn is_partial(source: &Source) -> bool {
    let file_name = source.name.rsplit('/').next();
    file_name.is_some_and(|name| name.starts_with('_'))
}

fn prompt(source: &Source, partials: &Partials<'_>, log: &mut Log) -> Result<Draft, Skip> {
    let split = front_matter::split(&source.text, Schema::Core)?;
    let front_matter = split.unwrap_or(FrontMatter {
        head: Node {
            line: 1,
            is_literal_block: false,
            value: Value::Null,
        },
        body: &source.text,
        body_line: 1,
    });
    let FrontMatter {
        head,
        body,
        body_line,
    } = front_matter;
    let mut draft = Draft::default();
    properties(&head, &mut draft, log);
    let folder = source.name.rsplit_once('/').map(|(folder, _)| folder);
    let mut template = Inliner {
        partials,
        folder: folder.unwrap_or_default(),
        bytes: 0,
        items: Vec::new(),
    };
    template.add(body, body_line, 0)?;
    let messages = to_messages(template.items, log);
    (draft.system, draft.user) = messages::system_and_user(messages, log)?;
    name_the_input(&mut draft, log);
    Ok(draft)
}

fn properties(head: &Node, draft: &mut Draft, log: &mut Log) {
    note_left_out(head, &LEFT_OUT, log);
    for entry in head.entries() {
        if entry.key.contains('.') {
            let message = format!("`{}` is left out; extensions have no equivalent", entry.key);
            log.left_out(Some(entry.line), message);
        }
    }
    let description = head.get("description").and_then(Node::as_text);
    draft.description = description.and_then(one_line);
    for option in head.get("config").map(Node::entries).unwrap_or_default() {
        draft.settings.read(option, log);
    }
    if let Some(input) = head.get("input") {
        draft.defaults = defaults(input, log);
    }
    if let Some(output) = head.get("output") {
        read_output(output, draft, log);
    }
}

/// Returns the defaults of the parameters. An optional one is empty, as in Handlebars.
fn defaults(input: &Node, log: &mut Log) -> Vec<(String, Scalar)> {
    let mut defaults = Vec::new();
    for entry in input.get("default").map(Node::entries).unwrap_or_default() {
        match Scalar::from_yaml(&entry.node) {
            Some(value) => defaults.push((entry.key.clone(), value)),
            None => {
                let message = format!(
                    "the default of `{}` is left out; it is not a text",
                    entry.key
                );
                log.left_out(Some(entry.line), message);
            }
        }
    }
    let optional = input.get("schema").map(json_schema::optional_names);
    for name in optional.unwrap_or_default() {
        let is_text = [TEXT, "input"].contains(&name.as_str());
        if !is_text && !defaults.iter().any(|(known, _)| *known == name) {
            defaults.push((name, Scalar::Text(String::new())));
        }
    }
    defaults
}

fn read_output(output: &Node, draft: &mut Draft, log: &mut Log) {
    let format = output.get("format");
    let is_json = match format.and_then(Node::as_text) {
        Some("json") => true,
        None | Some("text") => false,
        Some(other) => {
            let message = format!("the output format `{other}` is left out; it has no equivalent");
            log.left_out(format.map(|node| node.line), message);
            false
        }
    };
    if let Some(schema) = output.get("schema") {
        match json_schema::from_picoschema(schema) {
            Ok(schema) => draft.json_schema = Some(schema),
            Err((line, reason)) => {
                log.left_out(Some(line), format!("the schema is left out; {reason}"));
            }
        }
    }
    if is_json && draft.json_schema.is_none() {
        draft.post.push("json");
    }
    if is_json || draft.json_schema.is_some() {
        draft.extension = Some("json");
    }
}

/// A part of a template with its line.
struct Item {
    line: usize,
    kind: ItemKind,
}

enum ItemKind {
    Text(String),
    Param(String),
    Role(String),
    History,
    /// An image, by the content of its tag.
    Media(String),
}

/// Reads a template and the partials in it.
struct Inliner<'a> {
    partials: &'a Partials<'a>,
    /// The folder of the prompt, for the partials beside it.
    folder: &'a str,
    bytes: usize,
    items: Vec<Item>,
}

impl Inliner<'_> {
    fn add(&mut self, text: &str, line: usize, depth: usize) -> Result<(), Skip> {
        self.bytes += text.len().max(MIN_PARTIAL_BYTES);
        if depth > MAX_PARTIAL_DEPTH || self.bytes > MAX_TEMPLATE_BYTES {
            let reason = "the partials are too large, or include themselves";
            return Err(Skip::new(Some(line), reason));
        }
        for token in braces::scan(text, line, Language::Handlebars)? {
            let line = token.line;
            match token.kind {
                TokenKind::Comment => {}
                TokenKind::Text(text) => self.push(line, ItemKind::Text(text)),
                TokenKind::Value(content) => {
                    let kind = expression(&content, line)?;
                    self.push(line, kind);
                }
                TokenKind::Partial { content, indent } => {
                    let text = self.partial(&content, line)?;
                    let lines = text.split_inclusive('\n');
                    let indented: String = lines.map(|text| format!("{indent}{text}")).collect();
                    self.add(&indented, line, depth + 1)
                        .map_err(|skip| match depth {
                            0 => {
                                let reason = format!("in the partial `{content}`: {}", skip.reason);
                                Skip::new(Some(line), reason)
                            }
                            _ => skip,
                        })?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, line: usize, kind: ItemKind) {
        self.items.push(Item { line, kind });
    }

    /// Returns the text of a partial: beside the prompt, or below the imported folder.
    fn partial(&self, content: &str, line: usize) -> Result<String, Skip> {
        let skip = |reason: String| Skip::new(Some(line), reason);
        if content.contains(|c: char| c.is_whitespace() || matches!(c, '(' | '"' | '\'' | '=')) {
            return Err(skip(format!("the partial `{content}` has arguments")));
        }
        let file = match content.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/_{name}"),
            None => format!("_{content}"),
        };
        let beside = match self.folder {
            "" => file.clone(),
            folder => format!("{folder}/{file}"),
        };
        let names = [beside, file];
        let found = names
            .iter()
            .find_map(|name| self.partials.get(name.as_str()));
        match found {
            Some(text) => Ok((*text).to_owned()),
            None => Err(skip(format!("no partial `{content}`"))),
        }
    }
}

/// Reads the content of a `{{…}}` tag.
fn expression(content: &str, line: usize) -> Result<ItemKind, Skip> {
    let skip = |reason: String| Err(Skip::new(Some(line), reason));
    let (first, rest) = match content.split_once(char::is_whitespace) {
        Some((first, rest)) => (first, rest.trim()),
        None => (content, ""),
    };
    match (first, rest) {
        ("history", "") => return Ok(ItemKind::History),
        ("media", rest) if rest.starts_with("url=") => {
            return Ok(ItemKind::Media(content.to_owned()));
        }
        ("role", rest) => {
            let name = rest.trim_matches(['"', '\'']);
            let is_literal = name.len() + 2 == rest.len();
            if is_literal && name.chars().all(|c| c.is_ascii_lowercase()) {
                return Ok(ItemKind::Role(name.to_owned()));
            }
            return skip(format!("`{{{{{content}}}}}` is not the name of a role"));
        }
        _ => {}
    }
    let name = content.strip_prefix("this.").unwrap_or(content);
    if content.starts_with('@') {
        return skip(format!("`{{{{{content}}}}}` is a context variable"));
    }
    if !rest.is_empty() || NOT_VARIABLES.contains(&first) {
        return skip(format!("`{{{{{content}}}}}` is a helper or template logic"));
    }
    match is_path(name) {
        true => Ok(ItemKind::Param(name.to_owned())),
        false => skip(format!("`{{{{{content}}}}}` is more than a variable")),
    }
}

/// Returns true for a name, or several that are joined by dots.
fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        let is_valid = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(is_valid)
    };
    path.split('.').all(is_name)
}

/// Splits a template at its roles. Text before the first role is from the user, and text after
/// the history from the model.
fn to_messages(items: Vec<Item>, log: &mut Log) -> Vec<Message> {
    let start = |role, line| Message {
        role,
        line,
        content: Template::default(),
    };
    let first_line = items.first().map_or(1, |item| item.line);
    let mut current = start(Role::User, first_line);
    let mut messages = Vec::new();
    for Item { line, kind } in items {
        match kind {
            ItemKind::Text(text) => current.content.push_text(&text),
            ItemKind::Param(name) => current.content.push_param(&name),
            ItemKind::Media(content) => {
                let message =
                    format!("`{{{{{content}}}}}` is left out; send the image with `--attach`");
                log.left_out(Some(line), message);
            }
            ItemKind::Role(name) => {
                messages.push(std::mem::replace(&mut current, start(role(name), line)));
            }
            ItemKind::History => {
                let message = "`{{history}}` is left out; a prompt has no earlier messages";
                log.left_out(Some(line), message);
                let model = start(Role::Other("model".to_owned()), line);
                messages.push(std::mem::replace(&mut current, model));
            }
        }
    }
    messages.push(current);
    messages
}

fn role(name: String) -> Role {
    match name.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        _ => Role::Other(name),
    }
}
