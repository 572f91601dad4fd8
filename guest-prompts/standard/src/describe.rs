//! What there is: the prompts of the files, and the processors.

use std::collections::BTreeSet;

use crate::document::Document;
use crate::processor::{self, Kind};
use crate::prompt::{Prompt, Source};
use crate::template::{Piece, pieces};
use crate::types::{Entry, Error, File};
use crate::value::Value;

/// One line about the pack.
pub const SUMMARY: &str = "TOML prompt files and the common processors";

/// The longest summary taken from a prompt's text, in characters.
const SUMMARY_CHARS_MAX: usize = 60;

/// A prompt as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptInfo {
    /// Its dotted path.
    pub name: String,
    /// Its description, or how its text begins.
    pub summary: String,
    /// What it needs, in order of appearance.
    pub params: Vec<ParamInfo>,
    /// `file` and `line`, where it stands.
    pub extra: Vec<Entry>,
}

/// A parameter of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// What is used when it is not given; without one it must be.
    pub default: Option<String>,
}

/// The prompts of all files that a request could reach, and all processors.
pub fn describe(files: &[File]) -> Result<(Vec<PromptInfo>, &'static [Kind]), Error> {
    let documents = Document::parse_all(files)?;
    let mut prompts: Vec<PromptInfo> = Vec::new();
    let mut seen = BTreeSet::new();
    for document in &documents {
        for prompt in Prompt::all(document)? {
            if seen.insert(prompt.name.clone()) {
                prompts.push(describe_prompt(&prompt));
            }
        }
    }
    Ok((prompts, &processor::KINDS))
}

fn describe_prompt(prompt: &Prompt<'_>) -> PromptInfo {
    let mut needs = Needs {
        document: prompt.document,
        params: Vec::new(),
        visited: BTreeSet::new(),
        defaults: Vec::new(),
    };
    needs.collect(prompt.source);
    if let Some(system) = prompt.system {
        needs.collect(system);
    }
    let place = prompt.document.place(prompt.source.key_at);
    let (file, line) = place.rsplit_once(':').unwrap_or((&place, ""));
    PromptInfo {
        name: prompt.name.clone(),
        summary: match prompt.description {
            Some(description) => description.to_owned(),
            None => first_line(prompt.source.text),
        },
        params: needs.params,
        extra: vec![Entry::new("file", file), Entry::new("line", line)],
    }
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(SUMMARY_CHARS_MAX) {
        None => line.to_owned(),
        Some(_) => {
            let kept: String = line.chars().take(SUMMARY_CHARS_MAX - 1).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// The parameters of a text and of all that it refers to.
struct Needs<'a> {
    document: &'a Document,
    params: Vec<ParamInfo>,
    /// Every text counts once, so that cycles and doubling files end.
    visited: BTreeSet<usize>,
    /// Sources being read, the outermost first; their defaults apply in that order.
    defaults: Vec<Source<'a>>,
}

impl<'a> Needs<'a> {
    fn collect(&mut self, source: Source<'a>) {
        // A file that goes deeper than a request may is described as far as that.
        let too_deep = self.defaults.len() >= crate::expand::DEPTH_MAX;
        if source.raw || too_deep || !self.visited.insert(source.text_at) {
            return;
        }
        self.defaults.push(source);
        for piece in pieces(source.text) {
            let Piece::Name(name) = piece else { continue };
            match self.document.find(name) {
                Some(node)
                    if !matches!(node.value, Value::Table(_)) || Source::of(node).is_some() =>
                {
                    if let Some(source) = Source::of(node) {
                        self.collect(source);
                    }
                }
                _ => self.need(name),
            }
        }
        self.defaults.pop();
    }

    fn need(&mut self, name: &str) {
        if self.params.iter().any(|param| param.name == name) {
            return;
        }
        let default = self
            .defaults
            .iter()
            .find_map(|source| source.defaults?.get(name)?.value.to_text());
        self.params.push(ParamInfo {
            name: name.to_owned(),
            default,
        });
    }
}
