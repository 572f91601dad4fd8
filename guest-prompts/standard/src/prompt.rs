//! One definition in a prompt file: a string, or a table with properties.

use crate::closest::closest;
use crate::document::Document;
use crate::types::{Error, ProcessorRef, Setting};
use crate::value::{Node, Table, Value};
use crate::{post, setting};

/// The properties that hold the text, the preferred one first.
const TEXT_KEYS: [&str; 2] = ["prompt", "template"];
/// All other properties that are not settings.
const OWN_KEYS: [&str; 6] = [
    "system",
    "description",
    "defaults",
    "post",
    "extension",
    "raw",
];

/// A text with placeholders, as a prompt or a reference finds it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Byte offset of the string: what makes this text the same as another.
    pub text_at: usize,
    /// Byte offset of the definition's key, for messages.
    pub key_at: usize,
    /// The text itself.
    pub text: &'a str,
    /// Braces are left alone.
    pub raw: bool,
    /// What stands in for parameters that were not given.
    pub defaults: Option<&'a Table>,
}

impl<'a> Source<'a> {
    /// A text that stands in no file.
    pub fn plain(text: &'a str) -> Self {
        Self {
            text_at: 0,
            key_at: 0,
            text,
            raw: false,
            defaults: None,
        }
    }

    /// The text of a string or a prompt table; `None` for everything else.
    pub fn of(node: &'a Node) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self {
                text_at: node.at,
                key_at: node.key_at,
                ..Self::plain(text)
            }),
            Value::Table(table) => {
                let holder = text_holder(table)?;
                let Value::Text(text) = &holder.value else {
                    return None;
                };
                let raw = table.get("raw").map(|raw| &raw.value);
                Some(Self {
                    text_at: holder.at,
                    key_at: node.key_at,
                    text,
                    raw: matches!(raw, Some(Value::Boolean(true))),
                    defaults: match table.get("defaults").map(|defaults| &defaults.value) {
                        Some(Value::Table(defaults)) => Some(defaults),
                        _ => None,
                    },
                })
            }
            _ => None,
        }
    }
}

/// A prompt with all its properties, checked.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// The file it stands in.
    pub document: &'a Document,
    /// Its dotted path.
    pub name: String,
    /// The text.
    pub source: Source<'a>,
    /// The system text, if any.
    pub system: Option<Source<'a>>,
    /// What it is for.
    pub description: Option<&'a str>,
    /// Its settings.
    pub settings: Vec<Setting>,
    /// Its processors.
    pub post: Vec<ProcessorRef>,
    /// For the name of the output file.
    pub extension: Option<&'a str>,
    /// Properties that nobody knows.
    pub warnings: Vec<String>,
}

impl<'a> Prompt<'a> {
    /// The prompt of that name in one file. `a.prompt` is the prompt `a` itself:
    /// nobody who writes out the property wants to lose the others.
    pub fn find(document: &'a Document, name: &str) -> Result<Option<Self>, Error> {
        let whole = TEXT_KEYS.iter().find_map(|key| {
            let parent = name.strip_suffix(key)?.strip_suffix('.')?;
            let Value::Table(table) = &document.find(parent)?.value else {
                return None;
            };
            let holds_the_text = text_holder(table)?.key_at == table.get(*key)?.key_at;
            holds_the_text.then_some(parent)
        });
        let name = whole.unwrap_or(name);
        match document.find(name) {
            Some(node) => Self::read(document, name, node),
            None => Ok(None),
        }
    }

    /// All prompts of a file in its order.
    pub fn all(document: &'a Document) -> Result<Vec<Self>, Error> {
        let mut prompts = Vec::new();
        collect(document, document.root(), "", &mut prompts)?;
        prompts.sort_by_key(|prompt: &Self| prompt.source.key_at);
        Ok(prompts)
    }

    /// Reads a value as a prompt; `None` when it is something else.
    fn read(document: &'a Document, name: &str, node: &'a Node) -> Result<Option<Self>, Error> {
        let mut prompt = match (Source::of(node), &node.value) {
            (Some(source), _) => Self {
                document,
                name: name.to_owned(),
                source,
                system: None,
                description: None,
                settings: Vec::new(),
                post: Vec::new(),
                extension: None,
                warnings: Vec::new(),
            },
            (None, Value::Table(table)) => {
                return match text_holder(table) {
                    Some(holder) => Err(wrong_type(
                        document,
                        "the prompt's text",
                        holder,
                        "a string",
                    )),
                    None => Ok(None),
                };
            }
            (None, _) => return Ok(None),
        };
        if let Value::Table(table) = &node.value {
            prompt.read_properties(table)?;
        }
        Ok(Some(prompt))
    }

    fn read_properties(&mut self, table: &'a Table) -> Result<(), Error> {
        let document = self.document;
        let mut properties: Vec<_> = table.iter().collect();
        properties.sort_by_key(|(_, node)| node.key_at);
        for (key, node) in properties {
            match key.as_str() {
                "system" => {
                    string(document, key, node)?;
                    self.system = Source::of(node).map(|system| Source {
                        raw: self.source.raw,
                        defaults: self.source.defaults,
                        ..system
                    });
                }
                "description" => self.description = Some(string(document, key, node)?),
                "extension" => self.extension = Some(string(document, key, node)?),
                "post" => self.post = post::read(document, node, &mut self.warnings)?,
                "raw" => match node.value {
                    Value::Boolean(_) => {}
                    _ => return Err(wrong_type(document, "`raw`", node, "true or false")),
                },
                "defaults" => check_defaults(document, node)?,
                key if TEXT_KEYS.contains(&key) => {
                    if node.at != self.source.text_at {
                        self.warn(node, format!("`{key}` is ignored beside `prompt`"));
                    }
                }
                key => match setting::read(document, key, node)? {
                    Some(settings) => self.settings.extend(settings),
                    None => self.warn(node, unknown_property(key)),
                },
            }
        }
        Ok(())
    }

    fn warn(&mut self, node: &Node, message: String) {
        let place = self.document.place(node.key_at);
        self.warnings.push(format!("{place}: {message}"));
    }
}

/// The property that makes a table a prompt. A table of that name does not: it
/// is a group that happens to be called `prompt`.
fn text_holder(table: &Table) -> Option<&Node> {
    TEXT_KEYS
        .iter()
        .filter_map(|key| table.get(*key))
        .find(|node| !matches!(node.value, Value::Table(_)))
}

fn collect<'a>(
    document: &'a Document,
    table: &'a Table,
    prefix: &str,
    prompts: &mut Vec<Prompt<'a>>,
) -> Result<(), Error> {
    for (key, node) in table {
        let name = format!("{prefix}{key}");
        match (Prompt::read(document, &name, node)?, &node.value) {
            (Some(prompt), _) => prompts.push(prompt),
            (None, Value::Table(inner)) => {
                collect(document, inner, &format!("{name}."), prompts)?;
            }
            (None, _) => {}
        }
    }
    Ok(())
}

fn string<'a>(document: &Document, key: &str, node: &'a Node) -> Result<&'a str, Error> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => Err(wrong_type(document, &format!("`{key}`"), node, "a string")),
    }
}

fn wrong_type(document: &Document, what: &str, node: &Node, expected: &str) -> Error {
    let found = node.value.type_name();
    document.error(node.at, format!("{what} must be {expected}, not {found}"))
}

fn check_defaults(document: &Document, node: &Node) -> Result<(), Error> {
    let Value::Table(defaults) = &node.value else {
        return Err(wrong_type(document, "`defaults`", node, "a table"));
    };
    match defaults
        .iter()
        .find(|(_, node)| matches!(node.value, Value::Table(_)))
    {
        Some((key, node)) => Err(wrong_type(
            document,
            &format!("the default of `{key}`"),
            node,
            "a text",
        )),
        None => Ok(()),
    }
}

fn unknown_property(key: &str) -> String {
    let known = TEXT_KEYS.into_iter().chain(OWN_KEYS).chain(setting::NAMES);
    match closest(key, known).first() {
        Some(close) => format!("unknown property `{key}`; did you mean `{close}`?"),
        None => format!("unknown property `{key}`"),
    }
}
