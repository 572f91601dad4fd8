//! Filling in a text: references to the file first, then parameters.
//!
//! Each text is expanded where it is referred to, so that nothing which a
//! parameter brings in is ever looked at again.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::Document;
use crate::prompt::Source;
use crate::template::{Piece, pieces};
use crate::types::{Entry, Error, FileError};
use crate::value::Value;

/// The longest text that a prompt may become. Far beyond any model's context;
/// a file in which every line doubles the one before stops here.
pub const EXPANDED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most placeholders filled in for one request, for files that double
/// something empty.
pub const PLACEHOLDERS_MAX: usize = 100_000;
/// How deep references may go; each level uses the sandbox's small stack.
pub const DEPTH_MAX: usize = 64;

/// The state of one request: what was given, and what came up on the way.
#[derive(Debug)]
pub struct Expander<'a> {
    params: BTreeMap<&'a str, &'a str>,
    /// Parameters that the prompt needs and nobody gave, in order of appearance.
    pub missing: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    missing_names: BTreeSet<&'a str>,
    used: BTreeSet<&'a str>,
    texts: BTreeMap<(*const u8, usize), &'a str>,
    placeholders: usize,
    bytes: usize,
}

/// A text on the way to the one being expanded.
struct Level<'a> {
    name: &'a str,
    source: Source<'a>,
}

/// The way from the prompt that was asked for to the text being expanded.
struct Trail<'a> {
    /// Where the prompt stands; an inline prompt stands in no file.
    home: Option<&'a Document>,
    levels: Vec<Level<'a>>,
}

impl<'a> Expander<'a> {
    /// An expander for the parameters given; of a name given twice the later
    /// counts.
    pub fn new(params: &'a [Entry]) -> Self {
        Self {
            params: params
                .iter()
                .map(|param| (param.key.as_str(), param.value.as_str()))
                .collect(),
            missing: Vec::new(),
            warnings: Vec::new(),
            missing_names: BTreeSet::new(),
            used: BTreeSet::new(),
            texts: BTreeMap::new(),
            placeholders: 0,
            bytes: 0,
        }
    }

    /// Expands a prompt's text; names are looked up in its own file.
    pub fn expand(
        &mut self,
        document: &'a Document,
        name: &'a str,
        source: Source<'a>,
    ) -> Result<String, Error> {
        let trail = Trail {
            home: Some(document),
            levels: vec![Level { name, source }],
        };
        self.follow(trail, std::slice::from_ref(document))
    }

    /// Expands a text from outside the files; names are looked up in all of
    /// them, in order. `label` is what errors call it.
    pub fn expand_inline(
        &mut self,
        label: &'a str,
        text: &'a str,
        documents: &'a [Document],
    ) -> Result<String, Error> {
        let trail = Trail {
            home: None,
            levels: vec![Level {
                name: label,
                source: Source::plain(text),
            }],
        };
        self.follow(trail, documents)
    }

    fn follow(&mut self, mut trail: Trail<'a>, documents: &'a [Document]) -> Result<String, Error> {
        let mut out = String::new();
        self.expand_last(&mut trail, documents, &mut out)?;
        Ok(out)
    }

    /// Parameters that no placeholder asked for, and what may have been meant.
    pub fn unused_params(&self) -> Vec<String> {
        let unused = self.params.keys().filter(|name| !self.used.contains(*name));
        unused
            .map(|name| {
                let braced = format!("{{{name}}}");
                if self.texts.values().any(|text| text.contains(&braced)) {
                    format!(
                        "the parameter `{name}` is not used: the prompt says `{braced}`, \
                         which is plain text; did you mean `{{{braced}}}`?"
                    )
                } else {
                    format!("the parameter `{name}` is not used by the prompt")
                }
            })
            .collect()
    }

    fn expand_last(
        &mut self,
        trail: &mut Trail<'a>,
        documents: &'a [Document],
        out: &mut String,
    ) -> Result<(), Error> {
        let Some(source) = trail.levels.last().map(|level| level.source) else {
            return Ok(());
        };
        if source.raw {
            return self.push(trail, source.text, out);
        }
        self.texts
            .insert((source.text.as_ptr(), source.text.len()), source.text);
        for piece in pieces(source.text) {
            match piece {
                Piece::Literal(literal) => self.push(trail, literal, out)?,
                Piece::Name(name) => self.fill(trail, documents, name, out)?,
            }
        }
        Ok(())
    }

    fn fill(
        &mut self,
        trail: &mut Trail<'a>,
        documents: &'a [Document],
        name: &'a str,
        out: &mut String,
    ) -> Result<(), Error> {
        self.placeholders += 1;
        if self.placeholders > PLACEHOLDERS_MAX {
            let message = format!("more than {PLACEHOLDERS_MAX} placeholders to fill in");
            return Err(trail.error(&message));
        }
        let Some(found) = lookup(documents, name) else {
            return self.fill_param(trail, name, out);
        };
        // Only a message needs it.
        let place = || found.document.place(found.key_at);
        if self.params.contains_key(name) {
            return Err(Error::InvalidParam(
                name.to_owned(),
                format!(
                    "given by you, and defined in {}; rename one of the two",
                    place()
                ),
            ));
        }
        if let Some(other) = found.also_in {
            let other = other.name();
            let warning = format!(
                "`{{{{{name}}}}}` is taken from {}; {other} has it too",
                place()
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        match found.content {
            Content::Text(text) => self.push(trail, &text, out),
            Content::Source(source) => {
                trail.enter(name, source, found.document)?;
                self.expand_last(trail, std::slice::from_ref(found.document), out)?;
                trail.levels.pop();
                Ok(())
            }
        }
    }

    fn fill_param(
        &mut self,
        trail: &Trail<'a>,
        name: &'a str,
        out: &mut String,
    ) -> Result<(), Error> {
        if let Some(value) = self.params.get(name) {
            self.used.insert(name);
            return self.push(trail, value, out);
        }
        // The outermost default wins: who refers to a prompt may tune it.
        let default = trail.levels.iter().find_map(|level| {
            let node = level.source.defaults?.get(name)?;
            node.value.to_text()
        });
        match default {
            Some(text) => self.push(trail, &text, out),
            None => {
                if self.missing_names.insert(name) {
                    self.missing.push(name.to_owned());
                }
                Ok(())
            }
        }
    }

    fn push(&mut self, trail: &Trail<'a>, text: &str, out: &mut String) -> Result<(), Error> {
        self.bytes += text.len();
        if self.bytes > EXPANDED_BYTES_MAX {
            let mebibytes = EXPANDED_BYTES_MAX / (1024 * 1024);
            return Err(trail.error(&format!("the prompt grows beyond {mebibytes} MiB")));
        }
        out.push_str(text);
        Ok(())
    }
}

impl<'a> Trail<'a> {
    fn enter(
        &mut self,
        name: &'a str,
        source: Source<'a>,
        document: &Document,
    ) -> Result<(), Error> {
        let same = |level: &Level<'_>| std::ptr::eq(level.source.text, source.text);
        if let Some(first) = self.levels.iter().position(same) {
            let mut names: Vec<&str> = self.levels[first..]
                .iter()
                .map(|level| level.name)
                .collect();
            names.push(self.levels[first].name);
            let message = format!("the prompt refers to itself: {}", names.join(" -> "));
            return Err(document.error(source.key_at, message));
        }
        if self.levels.len() >= DEPTH_MAX {
            let message = format!("references go more than {DEPTH_MAX} levels deep");
            return Err(document.error(source.key_at, message));
        }
        self.levels.push(Level { name, source });
        Ok(())
    }

    /// An error about the prompt as a whole, at the place where it is defined.
    fn error(&self, message: &str) -> Error {
        let first = self.levels.first();
        match (self.home, first) {
            (Some(document), Some(level)) => document.error(level.source.key_at, message),
            _ => Error::InvalidFile(FileError {
                file: first.map(|level| level.name.to_owned()).unwrap_or_default(),
                line: None,
                column: None,
                message: message.to_owned(),
            }),
        }
    }
}

enum Content<'a> {
    Source(Source<'a>),
    Text(String),
}

struct Found<'a> {
    document: &'a Document,
    key_at: usize,
    content: Content<'a>,
    also_in: Option<&'a Document>,
}

/// The first file that has something to say for the name; a table that is no
/// prompt has not.
fn lookup<'a>(documents: &'a [Document], name: &str) -> Option<Found<'a>> {
    let mut hits = documents.iter().filter_map(|document| {
        let node = document.find(name)?;
        let content = match (Source::of(node), &node.value) {
            (Some(source), _) => Content::Source(source),
            (None, Value::Table(_)) => return None,
            (None, value) => Content::Text(value.to_text()?),
        };
        Some(Found {
            document,
            key_at: node.key_at,
            content,
            also_in: None,
        })
    });
    let mut first = hits.next()?;
    first.also_in = hits.next().map(|other| other.document);
    Some(first)
}
