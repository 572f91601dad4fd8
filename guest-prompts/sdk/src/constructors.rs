//! Short ways to create values of the contract.

use crate::{
    Context, Entry, Error, Input, Message, Model, Outcome, ParamInfo, ProcessorInfo, ProcessorRef,
    PromptInfo, Pushed, Request, Resolved, Role, Setting, Stop,
};

impl Entry {
    /// Creates an entry.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

impl PromptInfo {
    /// Creates the description of a prompt without parameters. `summary` is one line.
    pub fn new(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            params: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn param(mut self, param: ParamInfo) -> Self {
        self.params.push(param);
        self
    }

    /// Accepts parameters that are not declared, without a warning.
    #[must_use]
    pub fn any_params(mut self) -> Self {
        self.extra.push(Entry::new("any-params", "true"));
        self
    }
}

impl ProcessorInfo {
    /// Creates the description of a processor without options. `summary` is one line.
    pub fn new(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            options: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, option: ParamInfo) -> Self {
        self.options.push(option);
        self
    }
}

impl ParamInfo {
    /// Creates a parameter or option that must be set.
    pub fn required(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            required: true,
            ..Self::optional(name, summary)
        }
    }

    /// Creates a parameter or option that may be absent.
    pub fn optional(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            required: false,
            default: None,
            extra: Vec::new(),
        }
    }

    /// Creates a parameter or option with a default, which the host sets.
    pub fn with_default(
        name: impl Into<String>,
        summary: impl Into<String>,
        default: impl Into<String>,
    ) -> Self {
        Self {
            default: Some(default.into()),
            ..Self::optional(name, summary)
        }
    }
}

impl Request {
    /// Returns a parameter.
    ///
    /// # Errors
    /// Returns [`Error::MissingParams`] if it is not set.
    pub fn param(&self, name: &str) -> Result<&str, Error> {
        let missing = || Error::MissingParams(vec![name.to_owned()]);
        self.optional_param(name).ok_or_else(missing)
    }

    /// Returns a parameter, or `None` if it is not set.
    pub fn optional_param(&self, name: &str) -> Option<&str> {
        value(&self.params, name)
    }
}

impl Context {
    /// Returns an option of the processor.
    ///
    /// # Errors
    /// Returns [`Error::InvalidParam`] if it is not set.
    pub fn option(&self, name: &str) -> Result<&str, Error> {
        let missing = || Error::invalid_param(name, "this option is required");
        self.optional_option(name).ok_or_else(missing)
    }

    /// Returns an option of the processor, or `None` if it is not set.
    pub fn optional_option(&self, name: &str) -> Option<&str> {
        value(&self.options, name)
    }

    /// Returns a parameter of the prompt, or `None` if it is not set.
    pub fn optional_param(&self, name: &str) -> Option<&str> {
        value(&self.params, name)
    }
}

impl Model {
    /// Returns one of the further facts, such as `engine` or `max-tokens`, if it is known.
    pub fn fact(&self, key: &str) -> Option<&str> {
        value(&self.extra, key)
    }
}

impl Error {
    /// Creates the error for an answer that does not pass a check.
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected(reason.into())
    }

    /// Creates the error for a parameter or an option with an invalid value.
    pub fn invalid_param(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidParam((name.into(), message.into()))
    }

    /// Creates an error with a stable code.
    pub fn other(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Other((code.into(), message.into()))
    }
}

/// Returns the last value of a key.
fn value<'a>(entries: &'a [Entry], key: &str) -> Option<&'a str> {
    let entry = entries.iter().rev().find(|entry| entry.key == key)?;
    Some(&entry.value)
}

impl Message {
    /// Creates a message without attachments.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            attachments: Vec::new(),
            extra: Vec::new(),
        }
    }
}

impl Resolved {
    /// Creates a chat with one user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::chat(vec![Message::new(Role::User, content)])
    }

    /// Creates a chat.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self {
            input: Input::Chat(messages),
            settings: Vec::new(),
            post: Vec::new(),
            extension: None,
            warnings: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Puts a system message before the others. Does nothing for a raw input.
    #[must_use]
    pub fn system(mut self, content: impl Into<String>) -> Self {
        if let Input::Chat(messages) = &mut self.input {
            messages.insert(0, Message::new(Role::System, content));
        }
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn setting(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }

    /// Adds a processor with options: `name` of this pack, or `pack/name`.
    #[must_use]
    pub fn post(mut self, name: impl Into<String>, options: &[(&str, &str)]) -> Self {
        let option = |(key, value): &(&str, &str)| Entry::new(*key, *value);
        self.post.push(ProcessorRef {
            name: name.into(),
            options: options.iter().map(option).collect(),
        });
        self
    }

    /// Sets the extension of the output file, such as `md`.
    #[must_use]
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = Some(extension.into());
        self
    }

    /// Adds a warning for the user.
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

impl Stop {
    /// Returns true if the answer is complete: the model ended it, or a processor needs no
    /// more of it.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::End | Self::Enough)
    }
}

impl From<String> for Pushed {
    fn from(text: String) -> Self {
        Self { text, done: false }
    }
}

impl Pushed {
    /// Creates the last text: nothing further is needed of the answer.
    pub fn done(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            done: true,
        }
    }
}

impl Outcome {
    /// Creates the end of an answer with text that was held back until now.
    pub fn tail(tail: impl Into<String>) -> Self {
        Self {
            tail: tail.into(),
            ..Self::default()
        }
    }

    /// Adds a warning for the user.
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}
