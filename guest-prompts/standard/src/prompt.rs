//! Prompts in a prompt file: strings, or tables with properties.

use crate::document::Document;
use crate::value::{Node, Table, Value};
use crate::{processor_refs, setting};
use lmstrix_pack::similar_names;
use lmstrix_pack::{Error, ProcessorRef, Setting};

/// The properties that contain the text, the preferred one first.
const TEXT_KEYS: [&str; 2] = ["prompt", "template"];
/// The other properties that are not settings.
const OTHER_KEYS: [&str; 6] = [
    "system",
    "description",
    "defaults",
    "post",
    "extension",
    "raw",
];

/// A text with placeholders, and its position.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// Byte offset of the string. It identifies the text within its file.
    pub text_offset: usize,
    /// Byte offset of the key of the definition, for messages.
    pub key_offset: usize,
    /// The text.
    pub text: &'a str,
    /// True if placeholders are not expanded.
    pub raw: bool,
    /// Default values of parameters.
    pub defaults: Option<&'a Table>,
}

impl<'a> Template<'a> {
    /// Creates a template from a text that is not in a file.
    pub fn inline(text: &'a str) -> Self {
        Self {
            text_offset: 0,
            key_offset: 0,
            text,
            raw: false,
            defaults: None,
        }
    }

    /// Returns the text of a string or of a prompt table, or `None` for any other value.
    pub fn from_node(node: &'a Node) -> Option<Self> {
        match &node.value {
            Value::String(text) => Some(Self {
                text_offset: node.offset,
                key_offset: node.key_offset,
                ..Self::inline(text)
            }),
            Value::Table(table) => {
                let text_node = find_text_node(table)?;
                let Value::String(text) = &text_node.value else {
                    return None;
                };
                let raw = table.get("raw").map(|raw| &raw.value);
                Some(Self {
                    text_offset: text_node.offset,
                    key_offset: node.key_offset,
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

/// A prompt with validated properties.
#[derive(Clone, Debug)]
pub struct Prompt<'a> {
    /// The file that contains the prompt.
    pub document: &'a Document,
    /// The dotted path.
    pub name: String,
    /// The text.
    pub template: Template<'a>,
    /// The system message, if any.
    pub system: Option<Template<'a>>,
    /// The description for listings.
    pub description: Option<&'a str>,
    /// The settings.
    pub settings: Vec<Setting>,
    /// The processors of the answer, in order.
    pub processors: Vec<ProcessorRef>,
    /// Extension of the output file.
    pub extension: Option<&'a str>,
    /// Warnings about unknown properties.
    pub warnings: Vec<String>,
}

impl<'a> Prompt<'a> {
    /// Finds a prompt by its dotted path. The path `a.prompt` addresses the prompt `a` with
    /// all its properties.
    ///
    /// # Errors
    /// Returns an error if a property of the prompt is invalid.
    pub fn find(document: &'a Document, name: &str) -> Result<Option<Self>, Error> {
        let parent = TEXT_KEYS.iter().find_map(|key| {
            let parent = name.strip_suffix(key)?.strip_suffix('.')?;
            let Value::Table(table) = &document.find(parent)?.value else {
                return None;
            };
            let is_text_key = find_text_node(table)?.key_offset == table.get(*key)?.key_offset;
            is_text_key.then_some(parent)
        });
        let name = parent.unwrap_or(name);
        match document.find(name) {
            Some(node) => Self::read(document, name, node),
            None => Ok(None),
        }
    }

    /// Returns all prompts of a file in file order.
    ///
    /// # Errors
    /// Returns an error if a property of a prompt is invalid.
    pub fn read_all(document: &'a Document) -> Result<Vec<Self>, Error> {
        let mut prompts = Vec::new();
        collect(document, document.root(), "", &mut prompts)?;
        prompts.sort_by_key(|prompt: &Self| prompt.template.key_offset);
        Ok(prompts)
    }

    /// Reads a value as a prompt. Returns `None` if it is not one.
    fn read(document: &'a Document, name: &str, node: &'a Node) -> Result<Option<Self>, Error> {
        let mut prompt = match (Template::from_node(node), &node.value) {
            (Some(template), _) => Self {
                document,
                name: name.to_owned(),
                template,
                system: None,
                description: None,
                settings: Vec::new(),
                processors: Vec::new(),
                extension: None,
                warnings: Vec::new(),
            },
            (None, Value::Table(table)) => {
                return match find_text_node(table) {
                    Some(text_node) => Err(type_error(
                        document,
                        "the text of the prompt",
                        text_node,
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
        properties.sort_by_key(|(_, node)| node.key_offset);
        for (key, node) in properties {
            match key.as_str() {
                "system" => {
                    string(document, key, node)?;
                    self.system = Template::from_node(node).map(|system| Template {
                        raw: self.template.raw,
                        defaults: self.template.defaults,
                        ..system
                    });
                }
                "description" => self.description = Some(string(document, key, node)?),
                "extension" => self.extension = Some(string(document, key, node)?),
                "post" => {
                    self.processors = processor_refs::read(document, node, &mut self.warnings)?
                }
                "raw" => match node.value {
                    Value::Boolean(_) => {}
                    _ => return Err(type_error(document, "`raw`", node, "true or false")),
                },
                "defaults" => check_defaults(document, node)?,
                key if TEXT_KEYS.contains(&key) => {
                    if node.offset != self.template.text_offset {
                        self.warn(node, format!("`{key}` is ignored because `prompt` is set"));
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
        let location = self.document.location(node.key_offset);
        self.warnings.push(format!("{location}: {message}"));
    }
}

/// Returns the property that makes a table a prompt. A nested table named `prompt` does
/// not; it is a group of prompts.
fn find_text_node(table: &Table) -> Option<&Node> {
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
        Value::String(text) => Ok(text),
        _ => Err(type_error(document, &format!("`{key}`"), node, "a string")),
    }
}

fn type_error(document: &Document, subject: &str, node: &Node, expected: &str) -> Error {
    let found = node.value.type_name();
    document.error(
        node.offset,
        format!("{subject} must be {expected}, not {found}"),
    )
}

fn check_defaults(document: &Document, node: &Node) -> Result<(), Error> {
    let Value::Table(defaults) = &node.value else {
        return Err(type_error(document, "`defaults`", node, "a table"));
    };
    match defaults
        .iter()
        .find(|(_, node)| matches!(node.value, Value::Table(_)))
    {
        Some((key, node)) => Err(type_error(
            document,
            &format!("the default of `{key}`"),
            node,
            "a scalar or an array",
        )),
        None => Ok(()),
    }
}

fn unknown_property(key: &str) -> String {
    let known = TEXT_KEYS
        .into_iter()
        .chain(OTHER_KEYS)
        .chain(setting::SETTING_NAMES);
    match similar_names(key, known).first() {
        Some(similar) => format!("unknown property `{key}`; did you mean `{similar}`?"),
        None => format!("unknown property `{key}`"),
    }
}
