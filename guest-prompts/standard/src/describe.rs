//! Lists the prompts of the files, and the processors.

use std::collections::BTreeSet;

use crate::document::Document;
use crate::processor::{self, ProcessorKind};
use crate::prompt::{Prompt, Template};
use crate::template::{TemplatePiece, pieces};
use crate::value::Value;
use lmstrix_pack::{Entry, Error, File, ParamInfo, PromptInfo};

/// One-line description of the pack.
pub const SUMMARY: &str = "TOML prompt files and the common processors";

/// The maximum length of a summary that is taken from a prompt's text, in characters.
const MAX_SUMMARY_CHARS: usize = 60;

/// Returns the prompts of all files that a request can address, and all processors.
///
/// # Errors
/// Returns an error if a file is not valid TOML or contains an invalid prompt.
pub fn describe(files: &[File]) -> Result<(Vec<PromptInfo>, &'static [ProcessorKind]), Error> {
    let documents = Document::parse_all(files)?;
    let mut prompts: Vec<PromptInfo> = Vec::new();
    let mut seen = BTreeSet::new();
    for document in &documents {
        for prompt in Prompt::read_all(document)? {
            if seen.insert(prompt.name.clone()) {
                prompts.push(describe_prompt(&prompt));
            }
        }
    }
    Ok((prompts, &processor::PROCESSORS))
}

fn describe_prompt(prompt: &Prompt<'_>) -> PromptInfo {
    let mut collector = ParamCollector {
        document: prompt.document,
        params: Vec::new(),
        visited: BTreeSet::new(),
        open_templates: Vec::new(),
    };
    collector.collect(prompt.template);
    if let Some(system) = prompt.system {
        collector.collect(system);
    }
    let location = prompt.document.location(prompt.template.key_offset);
    let (file, line) = location.rsplit_once(':').unwrap_or((&location, ""));
    PromptInfo {
        name: prompt.name.clone(),
        summary: match prompt.description {
            Some(description) => description.to_owned(),
            None => first_line(prompt.template.text),
        },
        params: collector.params,
        extra: vec![Entry::new("file", file), Entry::new("line", line)],
    }
}

/// Returns the first line of `text` that is not blank, truncated to the maximum length.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(MAX_SUMMARY_CHARS) {
        None => line.to_owned(),
        Some(_) => {
            let kept: String = line.chars().take(MAX_SUMMARY_CHARS - 1).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// Collects the parameters of a text and of all texts that it references.
struct ParamCollector<'a> {
    document: &'a Document,
    params: Vec<ParamInfo>,
    /// Offsets of the texts already visited. Each text is visited once, which bounds the
    /// work for files with cycles or repeated references.
    visited: BTreeSet<usize>,
    /// The templates that are being read, the outermost first. The first default applies.
    open_templates: Vec<Template<'a>>,
}

impl<'a> ParamCollector<'a> {
    fn collect(&mut self, template: Template<'a>) {
        // References nested deeper than a request may be are ignored.
        let too_deep = self.open_templates.len() >= crate::expand::MAX_DEPTH;
        if template.raw || too_deep || !self.visited.insert(template.text_offset) {
            return;
        }
        self.open_templates.push(template);
        for piece in pieces(template.text) {
            let TemplatePiece::Placeholder(name) = piece else {
                continue;
            };
            match self.document.find(name) {
                Some(node)
                    if !matches!(node.value, Value::Table(_))
                        || Template::from_node(node).is_some() =>
                {
                    if let Some(template) = Template::from_node(node) {
                        self.collect(template);
                    }
                }
                _ => self.add_param(name),
            }
        }
        self.open_templates.pop();
    }

    fn add_param(&mut self, name: &str) {
        if self.params.iter().any(|param| param.name == name) {
            return;
        }
        let default = self
            .open_templates
            .iter()
            .find_map(|template| template.defaults?.get(name)?.value.to_text());
        self.params.push(ParamInfo {
            // A parameter without a default is required.
            required: default.is_none(),
            default,
            ..ParamInfo::optional(name, "")
        });
    }
}
