//! Converts prompts of other programs into a prompt file of lmstrix-host: TOML, as the
//! standard pack reads it.
//!
//! In the order of an import: [`read()`] reads the files, the module of a [`Format`] converts
//! each into a `draft`, `names` gives the prompts valid and distinct names, and
//! `toml_writer` writes the file. Everything that is changed or left out becomes a [`Note`].
//! A prompt whose meaning cannot be kept is skipped; the others are still converted.

mod braces;
mod dotprompt;
mod draft;
mod error;
mod fabric;
mod format;
mod front_matter;
mod jinja;
mod json_schema;
mod llm;
mod log;
mod messages;
mod names;
mod note;
mod prompty;
mod read;
mod settings;
mod syntax;
mod template;
mod toml_writer;
mod yaml;

use std::path::Path;

pub use error::Error;
pub use format::{Format, Source};
pub use note::{Note, NoteKind};
pub use read::{MAX_FILE_BYTES, MAX_FILES, ReadSources, read};

use draft::Conversion;

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
