//! Dotprompt: YAML front matter and a Handlebars template, in which the helper `role` starts
//! a message. A partial `{{>name}}` is the file `_name.prompt`.

mod head;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::braces::{self, Language, TokenKind};
use crate::draft::{Conversion, Draft};
use crate::format::Source;
use crate::front_matter::{self, FrontMatter};
use crate::log::{Log, Skip};
use crate::messages::{self, Message, Role};
use crate::names::name_the_input;
use crate::syntax::is_dotted_name;
use crate::template::Template;
use crate::yaml::{Node, Schema, Value};

/// The maximum nesting of partials.
const MAX_PARTIAL_DEPTH: usize = 16;
/// The maximum size of a template with its partials, in bytes. A partial counts as
/// [`MIN_PARTIAL_BYTES`] at least.
const MAX_TEMPLATE_BYTES: usize = 4 * 1024 * 1024;
const MIN_PARTIAL_BYTES: usize = 64;

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
        sources.iter().partition(|source| is_partial(&source.name));
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

/// Returns true if the last component of a name starts with `_`.
pub(crate) fn is_partial(name: &str) -> bool {
    let file_name = name.rsplit('/').next();
    file_name.is_some_and(|name| name.starts_with('_'))
}

/// Returns the name by which a template includes the partial `_NAME` or `FOLDER/_NAME`.
pub(crate) fn partial_name(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{}", name.strip_prefix('_').unwrap_or(name)),
        None => name.strip_prefix('_').unwrap_or(name).to_owned(),
    }
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
    head::properties(&head, &mut draft, log);
    let folder = source.name.rsplit_once('/').map(|(folder, _)| folder);
    let mut template = Inliner {
        partials,
        folder: folder.unwrap_or_default(),
        bytes: 0,
        outermost: None,
        items: Vec::new(),
    };
    template.add(body, body_line, 0)?;
    let messages = to_messages(template.items, log);
    (draft.system, draft.user) = messages::system_and_user(messages, log)?;
    name_the_input(&mut draft, log);
    Ok(draft)
}

/// A part of a template.
struct Item {
    /// The line in the file of the prompt.
    line: usize,
    /// The start of its notes: empty, or the partial that contains it.
    prefix: Rc<str>,
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
    /// The line of the tag in the prompt whose partial is being read, and the start of its notes.
    outermost: Option<(usize, Rc<str>)>,
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
                    if depth > 0 {
                        self.add(&indented, line, depth + 1)?;
                        continue;
                    }
                    let prefix = format!("in the partial `{content}`: ");
                    self.outermost = Some((line, prefix.as_str().into()));
                    self.add(&indented, line, 1)
                        .map_err(|skip| Skip::new(Some(line), prefix + &skip.reason))?;
                    self.outermost = None;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, line: usize, kind: ItemKind) {
        let (line, prefix) = match &self.outermost {
            Some((line, prefix)) => (*line, Rc::clone(prefix)),
            None => (line, Rc::default()),
        };
        self.items.push(Item { line, prefix, kind });
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
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    let is_first = |c: char| !c.is_ascii_digit();
    is_dotted_name(path, is_first, is_part)
}

/// Splits a template at its roles. Text before the first role is from the user, and text after
/// the history from the model.
fn to_messages(items: Vec<Item>, log: &mut Log) -> Vec<Message> {
    let start = |role, line, prefix| Message {
        role,
        line,
        prefix,
        content: Template::default(),
    };
    let first_line = items.first().map_or(1, |item| item.line);
    let mut current = start(Role::User, first_line, Rc::default());
    let mut messages = Vec::new();
    for Item { line, prefix, kind } in items {
        match kind {
            ItemKind::Text(text) => current.content.push_text(&text),
            ItemKind::Param(name) => current.content.push_param(&name),
            ItemKind::Media(content) => {
                let message = format!(
                    "{prefix}`{{{{{content}}}}}` is left out; send the image with `--attach`"
                );
                log.left_out(Some(line), message);
            }
            ItemKind::Role(name) => {
                messages.push(std::mem::replace(
                    &mut current,
                    start(role(name), line, prefix),
                ));
            }
            ItemKind::History => {
                let message = "`{{history}}` is left out; a prompt has no earlier messages";
                log.left_out(Some(line), format!("{prefix}{message}"));
                let model = start(Role::Other("model".to_owned()), line, prefix);
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
