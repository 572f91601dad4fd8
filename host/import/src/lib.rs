//! Converts prompts of other programs into a prompt file of lmstrix-host: TOML, as the
//! standard pack reads it.
//!
//! In the order of an import: [`read()`] reads the files, the module of a [`Format`] converts
//! each into a `draft`, `names` gives the prompts valid and distinct names, and
//! `toml_writer` writes the file. All that is lost or changed on the way becomes a [`Note`].
//! A prompt whose meaning cannot be kept is skipped; the others are still converted.

mod braces;
mod dotprompt;
mod draft;
mod error;
mod fabric;
mod front_matter;
mod jinja;
mod json_schema;
mod llm;
mod messages;
mod names;
mod note;
mod prompty;
mod read;
mod settings;
mod template;
mod toml_writer;
mod yaml;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use error::Error;
pub use note::{Note, NoteKind};
pub use read::{MAX_FILE_BYTES, MAX_FILES, ReadSources, read};

use draft::Conversion;

/// The format of the prompts of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Patterns of Fabric: a folder for each, with `system.md` and sometimes `user.md`.
    Fabric,
    /// Templates of the command `llm`: a YAML file for each.
    Llm,
    /// Prompty: `.prompty` files, Markdown with front matter and role lines.
    Prompty,
    /// Dotprompt: `.prompt` files, Handlebars with front matter.
    Dotprompt,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Fabric, Self::Llm, Self::Prompty, Self::Dotprompt];

    /// Returns the name of the format in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fabric => "fabric",
            Self::Llm => "llm",
            Self::Prompty => "prompty",
            Self::Dotprompt => "dotprompt",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let mut formats = Self::ALL.into_iter();
        formats
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownFormat(name.to_owned()))
    }
}

/// A text file of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path for messages. Its last component tells `user.md` from `system.md`.
    pub path: String,
    /// The name of the prompt: that of the folder for Fabric, otherwise the path relative to
    /// the imported folder, with `/` between folders and without the extension.
    pub name: String,
    /// The content.
    pub text: String,
}

/// The result of a conversion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The prompt file.
    pub toml: String,
    /// The names of the prompts in the file, in its order.
    pub prompts: Vec<String>,
    /// The changes and losses, in the order of the sources.
    pub notes: Vec<Note>,
}

/// Reads the prompts of a file or folder and converts them.
///
/// # Errors
/// Returns an error if the path cannot be read or contains no prompts of the format. A file
/// that cannot be converted is not an error; it is reported in the notes.
pub fn import(format: Format, path: &Path) -> Result<Imported, Error> {
    let ReadSources { sources, mut notes } = read(format, path)?;
    let mut imported = convert(format, &sources);
    notes.append(&mut imported.notes);
    imported.notes = notes;
    Ok(imported)
}

/// Converts prompts into a prompt file.
pub fn convert(format: Format, sources: &[Source]) -> Imported {
    let sources: Vec<Source> = sources.iter().map(normalized).collect();
    let convert = match format {
        Format::Fabric => fabric::convert,
        Format::Llm => llm::convert,
        Format::Prompty => prompty::convert,
        Format::Dotprompt => dotprompt::convert,
    };
    let mut conversions: Vec<Conversion> = convert(&sources);
    let shared = names::assign(&mut conversions);
    let prompts = conversions.iter().filter_map(|conversion| {
        let draft = conversion.result.as_ref().ok()?;
        Some((conversion.name.as_str(), draft))
    });
    Imported {
        toml: toml_writer::write(format, prompts, &shared),
        prompts: conversions
            .iter()
            .filter(|conversion| conversion.result.is_ok())
            .map(|conversion| conversion.name.clone())
            .collect(),
        notes: conversions
            .into_iter()
            .flat_map(Conversion::into_notes)
            .collect(),
    }
}

/// Removes a byte order mark and converts CRLF to LF, as the standard pack does, so that a
/// prompt is the same text on all platforms.
fn normalized(source: &Source) -> Source {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    Source {
        text: text.replace("\r\n", "\n"),
        ..source.clone()
    }
}
