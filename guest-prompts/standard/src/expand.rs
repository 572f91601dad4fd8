//! Expands the placeholders of a prompt: references into the file first, then parameters.
//!
//! Each text is expanded at the place where it is referenced. The values of parameters are
//! therefore never expanded themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::Document;
use crate::prompt::Template;
use crate::template::{TemplatePiece, pieces};
use crate::value::Value;
use lmstrix_pack::{Entry, Error, FileError};

/// The maximum size of an expanded prompt, in bytes. Far beyond any model's context; it
/// stops files in which each text doubles the one before.
pub const MAX_EXPANDED_BYTES: usize = 16 * 1024 * 1024;
/// The maximum number of placeholders per request. It stops files that double an empty
/// text.
pub const MAX_PLACEHOLDERS: usize = 100_000;
/// The maximum nesting of references. Each level uses some of the small stack of the
/// sandbox.
pub const MAX_DEPTH: usize = 64;

/// The parameters and the intermediate state of one request.
#[derive(Debug)]
pub struct Expander<'a> {
    params: BTreeMap<&'a str, &'a str>,
    /// Parameters that the prompt needs and that are not set, in order of appearance.
    pub missing_params: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    missing_set: BTreeSet<&'a str>,
    used_params: BTreeSet<&'a str>,
    texts: BTreeMap<(*const u8, usize), &'a str>,
    placeholder_count: usize,
    expanded_bytes: usize,
}

/// A text on the path from the requested prompt to the text that is being expanded.
struct Reference<'a> {
    name: &'a str,
    template: Template<'a>,
}

/// The path from the requested prompt to the text that is being expanded.
struct ReferencePath<'a> {
    /// The file of the requested prompt; `None` for an inline prompt.
    document: Option<&'a Document>,
    references: Vec<Reference<'a>>,
}

impl<'a> Expander<'a> {
    /// Creates an expander with these parameters. If a parameter is set more than once,
    /// the last value applies.
    pub fn new(params: &'a [Entry]) -> Self {
        Self {
            params: params
                .iter()
                .map(|param| (param.key.as_str(), param.value.as_str()))
                .collect(),
            missing_params: Vec::new(),
            warnings: Vec::new(),
            missing_set: BTreeSet::new(),
            used_params: BTreeSet::new(),
            texts: BTreeMap::new(),
            placeholder_count: 0,
            expanded_bytes: 0,
        }
    }

    /// Expands the text of a prompt. Names are looked up in the prompt's own file.
    ///
    /// # Errors
    /// Returns an error if references form a cycle, if a limit is exceeded, or if a name
    /// is both defined in the file and set as a parameter. Missing parameters are not an
    /// error here; they are collected in `missing_params`.
    pub fn expand(
        &mut self,
        document: &'a Document,
        name: &'a str,
        template: Template<'a>,
    ) -> Result<String, Error> {
        let path = ReferencePath {
            document: Some(document),
            references: vec![Reference { name, template }],
        };
        self.expand_path(path, std::slice::from_ref(document))
    }

    /// Expands an inline prompt. Names are looked up in all files, in order. `label` is its
    /// name in error messages.
    ///
    /// # Errors
    /// As for [`Self::expand`].
    pub fn expand_inline(
        &mut self,
        label: &'a str,
        text: &'a str,
        documents: &'a [Document],
    ) -> Result<String, Error> {
        let path = ReferencePath {
            document: None,
            references: vec![Reference {
                name: label,
                template: Template::inline(text),
            }],
        };
        self.expand_path(path, documents)
    }

    fn expand_path(
        &mut self,
        mut path: ReferencePath<'a>,
        documents: &'a [Document],
    ) -> Result<String, Error> {
        let mut out = String::new();
        self.expand_last(&mut path, documents, &mut out)?;
        Ok(out)
    }

    /// Returns a warning for each parameter that no placeholder uses. For the `optional`
    /// parameters, returns one only if the text contains the name in single braces.
    pub fn unused_params(&self, optional: &[&str]) -> Vec<String> {
        let unused = self
            .params
            .keys()
            .filter(|name| !self.used_params.contains(*name));
        unused
            .filter_map(|name| {
                let braced = format!("{{{name}}}");
                if self.texts.values().any(|text| text.contains(&braced)) {
                    Some(format!(
                        "the parameter `{name}` is not used: the prompt contains `{braced}`, \
                         which is plain text; did you mean `{{{braced}}}`?"
                    ))
                } else if optional.contains(&&**name) {
                    None
                } else {
                    Some(format!("the parameter `{name}` is not used by the prompt"))
                }
            })
            .collect()
    }

    fn expand_last(
        &mut self,
        path: &mut ReferencePath<'a>,
        documents: &'a [Document],
        out: &mut String,
    ) -> Result<(), Error> {
        let Some(template) = path.references.last().map(|reference| reference.template) else {
            return Ok(());
        };
        if template.raw {
            return self.append(path, template.text, out);
        }
        self.texts
            .insert((template.text.as_ptr(), template.text.len()), template.text);
        for piece in pieces(template.text) {
            match piece {
                TemplatePiece::Literal(literal) => self.append(path, literal, out)?,
                TemplatePiece::Placeholder(name) => {
                    self.expand_placeholder(path, documents, name, out)?
                }
            }
        }
        Ok(())
    }

    fn expand_placeholder(
        &mut self,
        path: &mut ReferencePath<'a>,
        documents: &'a [Document],
        name: &'a str,
        out: &mut String,
    ) -> Result<(), Error> {
        self.placeholder_count += 1;
        if self.placeholder_count > MAX_PLACEHOLDERS {
            let message = format!("more than {MAX_PLACEHOLDERS} placeholders to expand");
            return Err(path.error(&message));
        }
        let Some(definition) = find_definition(documents, name) else {
            return self.expand_param(path, name, out);
        };
        let location = || definition.document.location(definition.key_offset);
        if self.params.contains_key(name) {
            return Err(Error::InvalidParam((
                name.to_owned(),
                format!(
                    "set as a parameter and also defined in {}; rename one of them",
                    location()
                ),
            )));
        }
        if let Some(other) = definition.also_in {
            let warning = format!(
                "`{{{{{name}}}}}` is defined in {} and in {}; using the first",
                location(),
                other.name()
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        match definition.content {
            DefinitionContent::Text(text) => self.append(path, &text, out),
            DefinitionContent::Template(template) => {
                path.enter(name, template, definition.document)?;
                self.expand_last(path, std::slice::from_ref(definition.document), out)?;
                path.references.pop();
                Ok(())
            }
        }
    }

    fn expand_param(
        &mut self,
        path: &ReferencePath<'a>,
        name: &'a str,
        out: &mut String,
    ) -> Result<(), Error> {
        if let Some(value) = self.params.get(name) {
            self.used_params.insert(name);
            return self.append(path, value, out);
        }
        // The outermost default applies, so that a prompt can override the defaults of the
        // prompts that it references.
        let default = path.references.iter().find_map(|reference| {
            let node = reference.template.defaults?.get(name)?;
            node.value.to_text()
        });
        match default {
            Some(text) => self.append(path, &text, out),
            None => {
                if self.missing_set.insert(name) {
                    self.missing_params.push(name.to_owned());
                }
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        path: &ReferencePath<'a>,
        text: &str,
        out: &mut String,
    ) -> Result<(), Error> {
        self.expanded_bytes += text.len();
        if self.expanded_bytes > MAX_EXPANDED_BYTES {
            let mebibytes = MAX_EXPANDED_BYTES / (1024 * 1024);
            return Err(path.error(&format!("the expanded prompt exceeds {mebibytes} MiB")));
        }
        out.push_str(text);
        Ok(())
    }
}

impl<'a> ReferencePath<'a> {
    fn enter(
        &mut self,
        name: &'a str,
        template: Template<'a>,
        document: &Document,
    ) -> Result<(), Error> {
        let is_same =
            |reference: &Reference<'_>| std::ptr::eq(reference.template.text, template.text);
        if let Some(first) = self.references.iter().position(is_same) {
            let mut names: Vec<&str> = self.references[first..]
                .iter()
                .map(|reference| reference.name)
                .collect();
            names.push(self.references[first].name);
            let message = format!("the prompt refers to itself: {}", names.join(" -> "));
            return Err(document.error(template.key_offset, message));
        }
        if self.references.len() >= MAX_DEPTH {
            let message = format!("references are nested more than {MAX_DEPTH} levels deep");
            return Err(document.error(template.key_offset, message));
        }
        self.references.push(Reference { name, template });
        Ok(())
    }

    /// Creates an error at the definition of the requested prompt.
    fn error(&self, message: &str) -> Error {
        let first = self.references.first();
        match (self.document, first) {
            (Some(document), Some(reference)) => {
                document.error(reference.template.key_offset, message)
            }
            _ => Error::InvalidFile(FileError {
                file: first
                    .map(|reference| reference.name.to_owned())
                    .unwrap_or_default(),
                line: None,
                column: None,
                message: message.to_owned(),
            }),
        }
    }
}

enum DefinitionContent<'a> {
    Template(Template<'a>),
    Text(String),
}

struct Definition<'a> {
    document: &'a Document,
    key_offset: usize,
    content: DefinitionContent<'a>,
    also_in: Option<&'a Document>,
}

/// Finds the first file that defines `name`. Tables that are not prompts are ignored.
fn find_definition<'a>(documents: &'a [Document], name: &str) -> Option<Definition<'a>> {
    let mut definitions = documents.iter().filter_map(|document| {
        let node = document.find(name)?;
        let content = match (Template::from_node(node), &node.value) {
            (Some(template), _) => DefinitionContent::Template(template),
            (None, Value::Table(_)) => return None,
            (None, value) => DefinitionContent::Text(value.to_text()?),
        };
        Some(Definition {
            document,
            key_offset: node.key_offset,
            content,
            also_in: None,
        })
    });
    let mut first = definitions.next()?;
    first.also_in = definitions.next().map(|other| other.document);
    Some(first)
}
