//! The formats, and the files that are converted.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

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
    /// The path for messages. Its last component distinguishes `user.md` from `system.md`.
    pub path: String,
    /// The name of the prompt: that of the folder for Fabric, otherwise the path relative to
    /// the imported folder, with `/` between folders and without the extension.
    pub name: String,
    /// The content.
    pub text: String,
}
