//! A converted prompt before it has its final name, and the notes of its conversion.

use std::collections::BTreeSet;

use crate::note::{Note, NoteKind};
use crate::settings::Settings;
use crate::template::Template;

/// The parameter of a prompt file that receives the user's text.
pub(crate) const TEXT: &str = "text";

/// The maximum number of notes on a prompt. Further ones are counted.
const MAX_NOTES: usize = 100;

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

/// The value of a default or of a setting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Texts(Vec<String>),
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

/// The reason why a prompt is not converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) line: Option<usize>,
    pub(crate) reason: String,
}

impl Skip {
    pub(crate) fn new(line: Option<usize>, reason: impl Into<String>) -> Self {
        Self {
            line,
            reason: reason.into(),
        }
    }
}

/// The notes of a conversion, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    entries: Vec<(Option<usize>, NoteKind, String)>,
    /// The number of notes beyond the maximum.
    omitted: usize,
}

impl Log {
    pub(crate) fn changed(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.add(line, NoteKind::Changed, message.into());
    }

    pub(crate) fn left_out(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.add(line, NoteKind::LeftOut, message.into());
    }

    /// Adds a note, unless the same one has been added.
    fn add(&mut self, line: Option<usize>, kind: NoteKind, message: String) {
        let entry = (line, kind, message);
        if self.entries.contains(&entry) {
            return;
        }
        match self.entries.len() < MAX_NOTES {
            true => self.entries.push(entry),
            false => self.omitted += 1,
        }
    }
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

    /// Returns the notes. Of a skipped prompt, only the reason is of interest.
    pub(crate) fn into_notes(self) -> Vec<Note> {
        let omitted = self.log.omitted;
        let further = (omitted > 0).then(|| {
            let message = format!("{omitted} further notes are not listed");
            (None, NoteKind::Changed, message)
        });
        let entries = match self.result {
            Ok(_) => self.log.entries.into_iter().chain(further).collect(),
            Err(skip) => vec![(skip.line, NoteKind::Skipped, skip.reason)],
        };
        let note = |(line, kind, message)| Note {
            file: self.file.clone(),
            line,
            prompt: Some(self.name.clone()),
            kind,
            message,
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

    /// Removes an empty system message and the defaults of parameters that do not occur, and
    /// adds a description if the listing of the prompt file would show a parameter instead.
    fn finish(&mut self) {
        self.system = self.system.take().filter(|system| !system.is_blank());
        let mut defaults = std::mem::take(&mut self.defaults);
        let params: BTreeSet<&str> = self.params().collect();
        defaults.retain(|(name, _)| params.contains(name.as_str()));
        self.defaults = defaults;
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
    if sentence.chars().count() <= MAX_DESCRIPTION_CHARS {
        return Some(sentence.to_owned());
    }
    let kept: String = sentence.chars().take(MAX_DESCRIPTION_CHARS - 1).collect();
    Some(format!("{}…", kept.trim_end()))
}
