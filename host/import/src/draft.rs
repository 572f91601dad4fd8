//! A converted prompt before it has its final name, and the notes of its conversion.

use std::collections::BTreeSet;

use crate::log::{Log, LogEntry, Skip};
use crate::note::{Note, NoteKind};
use crate::settings::{Scalar, Settings};
use crate::template::Template;

/// The parameter of a prompt file that receives the user's text.
pub(crate) const TEXT: &str = "text";

/// The maximum length of a note, which can quote the source, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// The maximum length of a description that is taken from a text, in characters.
const MAX_DESCRIPTION_CHARS: usize = 72;

/// A converted prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Draft {
    pub(crate) description: Option<String>,
    pub(crate) system: Option<Template>,
    pub(crate) user: Template,
    pub(crate) defaults: Vec<(String, Scalar)>,
    pub(crate) settings: Settings,
    pub(crate) post: Vec<&'static str>,
    pub(crate) extension: Option<&'static str>,
    pub(crate) json_schema: Option<serde_json::Value>,
}

/// The conversion of one prompt.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// The path of the source.
    pub(crate) file: String,
    /// The name of the prompt, as in the source until `names` replaces it.
    pub(crate) name: String,
    /// The notes, without those on the name.
    pub(crate) log: Log,
    /// The prompt, or the reason why it is skipped.
    pub(crate) result: Result<Draft, Skip>,
}

impl Conversion {
    /// Converts a prompt.
    pub(crate) fn run(
        file: &str,
        name: &str,
        convert: impl FnOnce(&mut Log) -> Result<Draft, Skip>,
    ) -> Self {
        let mut log = Log::default();
        let result = convert(&mut log).map(|mut draft| {
            draft.finish();
            draft
        });
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            log,
            result,
        }
    }

    /// Returns the notes. A skipped prompt has a single note with the reason.
    pub(crate) fn into_notes(self) -> Vec<Note> {
        let entries = match self.result {
            Ok(_) => self.log.into_entries(),
            Err(skip) => vec![(skip.line, NoteKind::Skipped, skip.reason)],
        };
        let note = |(line, kind, message): LogEntry| Note {
            file: self.file.clone(),
            line,
            prompt: Some(self.name.clone()),
            kind,
            message: shortened(&message, MAX_MESSAGE_CHARS),
        };
        entries.into_iter().map(note).collect()
    }
}

impl Draft {
    /// Returns the templates.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.system.iter().chain(std::iter::once(&self.user))
    }

    /// Returns the names of the parameters, with repetitions.
    pub(crate) fn params(&self) -> impl Iterator<Item = &str> {
        self.templates().flat_map(Template::params)
    }

    /// Renames a parameter in the texts and the defaults.
    pub(crate) fn rename_param(&mut self, from: &str, to: &str) {
        self.user.rename(from, to);
        if let Some(system) = &mut self.system {
            system.rename(from, to);
        }
        for (name, _) in &mut self.defaults {
            if name == from {
                to.clone_into(name);
            }
        }
    }

    /// Removes the defaults of parameters that do not occur. Before a parameter is renamed, this
    /// keeps such a default from meeting the new name.
    pub(crate) fn drop_unused_defaults(&mut self) {
        let mut defaults = std::mem::take(&mut self.defaults);
        let params: BTreeSet<&str> = self.params().collect();
        defaults.retain(|(name, _)| params.contains(name.as_str()));
        self.defaults = defaults;
    }

    /// Removes an empty system message and the defaults of parameters that do not occur, and
    /// adds a description if the listing of the prompt file would show a parameter instead.
    fn finish(&mut self) {
        self.system = self.system.take().filter(|system| !system.is_blank());
        self.drop_unused_defaults();
        if self.description.is_none() && starts_with_param(&self.user) {
            self.description = self.system.as_ref().and_then(first_sentence);
        }
    }
}

fn starts_with_param(template: &Template) -> bool {
    let text = template.prompt_text(None);
    text.trim_start().starts_with("{{")
}

/// Returns the first sentence of the first line that is neither blank nor a heading.
fn first_sentence(template: &Template) -> Option<String> {
    let text = template.prompt_text(None);
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let end = line.find(". ").map(|dot| dot + 1);
    let sentence = end.and_then(|end| line.get(..end)).unwrap_or(&line);
    Some(shortened(sentence, MAX_DESCRIPTION_CHARS))
}

/// Returns a text of at most `max_chars` characters.
fn shortened(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars - 1).collect();
    format!("{}…", kept.trim_end())
}
