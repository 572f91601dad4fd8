//! The options of a processor.

use lmstrix_pack::{Entry, Error, ParamInfo};

/// Description of an option.
#[derive(Debug)]
pub struct OptionInfo {
    /// The name.
    pub name: &'static str,
    /// A one-line description.
    pub summary: &'static str,
    /// The default.
    pub default: Option<&'static str>,
    /// True if the option must be set.
    pub required: bool,
}

impl OptionInfo {
    /// Creates an option that is not required and has no default.
    pub(super) const fn new(name: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            summary,
            default: None,
            required: false,
        }
    }

    /// Sets the default.
    pub(super) const fn with_default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// Makes the option required.
    pub(super) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// Returns the description for `describe`.
    pub(super) fn info(&self) -> ParamInfo {
        ParamInfo {
            required: self.required,
            default: self.default.map(str::to_owned),
            ..ParamInfo::optional(self.name, self.summary)
        }
    }
}

/// The declared options of a processor, and the values that are set.
#[derive(Debug)]
pub struct ProcessorOptions<'a> {
    declared: &'static [OptionInfo],
    values: &'a [Entry],
}

impl<'a> ProcessorOptions<'a> {
    /// Validates the names of the options.
    ///
    /// # Errors
    /// Returns an error if an option is unknown, or if a required option is not set.
    pub(super) fn new(declared: &'static [OptionInfo], values: &'a [Entry]) -> Result<Self, Error> {
        let options = Self { declared, values };
        let is_declared = |entry: &&Entry| declared.iter().any(|option| option.name == entry.key);
        if let Some(unknown) = values.iter().find(|entry| !is_declared(entry)) {
            return Err(options.invalid_option(&unknown.key, "unknown option"));
        }
        let required = declared.iter().filter(|option| option.required);
        for option in required {
            if !values.iter().any(|entry| entry.key == option.name) {
                return Err(options.invalid_option(option.name, "this option is required"));
            }
        }
        Ok(options)
    }

    /// Returns the value of an option, or its default. If the option is set more than once,
    /// the last value applies.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let entry = self.values.iter().rev().find(|entry| entry.key == name);
        let default = || {
            self.declared
                .iter()
                .find(|option| option.name == name)?
                .default
        };
        entry.map(|entry| entry.value.as_str()).or_else(default)
    }

    /// Returns the value of a boolean option; false if it is not set.
    ///
    /// # Errors
    /// Returns an error unless the value is `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.text(name) {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(other) => {
                Err(self.invalid_option(name, &format!("must be true or false, not `{other}`")))
            }
        }
    }

    /// Returns the value of a numeric option.
    ///
    /// # Errors
    /// Returns an error unless the value is an integer from 0 to `max`.
    pub(super) fn number(&self, name: &str, max: usize) -> Result<Option<usize>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => {
                let message = format!("must be an integer from 0 to {max}, not `{text}`");
                Err(self.invalid_option(name, &message))
            }
        }
    }

    /// Creates the error for an invalid option. It lists the options of the processor.
    pub(super) fn invalid_option(&self, name: &str, message: &str) -> Error {
        let names: Vec<&str> = self.declared.iter().map(|option| option.name).collect();
        let names = names.join(", ");
        Error::InvalidParam((name.to_owned(), format!("{message} (options: {names})")))
    }
}
