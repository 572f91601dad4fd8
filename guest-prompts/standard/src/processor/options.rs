//! The options of a processor: texts by name, checked before anything runs.

use crate::types::{Entry, Error};

/// An option on offer.
#[derive(Debug)]
pub struct OptionInfo {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What is used when it is not given.
    pub default: Option<&'static str>,
    /// It must be given.
    pub required: bool,
}

impl OptionInfo {
    /// An option that may be left out.
    pub(super) const fn new(name: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            summary,
            default: None,
            required: false,
        }
    }

    /// The same with a default.
    pub(super) const fn or(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// The same, but it must be given.
    pub(super) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}

/// The options that were given, and those on offer.
#[derive(Debug)]
pub struct Options<'a> {
    known: &'static [OptionInfo],
    given: &'a [Entry],
}

impl<'a> Options<'a> {
    /// Fails on options that are unknown, or needed and not given.
    pub(super) fn new(known: &'static [OptionInfo], given: &'a [Entry]) -> Result<Self, Error> {
        let options = Self { known, given };
        let is_known = |entry: &&Entry| known.iter().any(|option| option.name == entry.key);
        if let Some(unknown) = given.iter().find(|entry| !is_known(entry)) {
            return Err(options.invalid(&unknown.key, "there is no such option"));
        }
        let needed = known.iter().filter(|option| option.required);
        for option in needed {
            if !given.iter().any(|entry| entry.key == option.name) {
                return Err(options.invalid(option.name, "it must be given"));
            }
        }
        Ok(options)
    }

    /// The text of an option, or its default. Of one given twice the later counts.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let given = self.given.iter().rev().find(|entry| entry.key == name);
        let default = || {
            self.known
                .iter()
                .find(|option| option.name == name)?
                .default
        };
        given.map(|entry| entry.value.as_str()).or_else(default)
    }

    /// Whether an option is `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.text(name) {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(other) => {
                Err(self.invalid(name, &format!("must be true or false, not `{other}`")))
            }
        }
    }

    /// The number that an option gives.
    pub(super) fn number(&self, name: &str, most: usize) -> Result<Option<usize>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => {
                let message = format!("must be a whole number from 0 to {most}, not `{text}`");
                Err(self.invalid(name, &message))
            }
        }
    }

    /// The error for an option; it lists the known ones.
    pub(super) fn invalid(&self, name: &str, message: &str) -> Error {
        let known: Vec<&str> = self.known.iter().map(|option| option.name).collect();
        let known = known.join(", ");
        Error::InvalidParam(name.to_owned(), format!("{message} (options: {known})"))
    }
}
