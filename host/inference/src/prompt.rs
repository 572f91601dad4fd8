//! The input of a model.

use serde::{Deserialize, Serialize};

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Returns the name used by chat templates and servers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: String,
    /// Names of the images that are sent with the text, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

impl Message {
    /// Creates a message without attachments.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            attachments: Vec::new(),
        }
    }
}

/// The input of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// Messages, formatted with the model's chat template.
    Chat(Vec<Message>),
    /// A text sent without a chat template.
    Raw(String),
}

impl Prompt {
    /// Returns the texts that are sent, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let raw = match self {
            Self::Raw(text) => Some(text.as_str()),
            Self::Chat(_) => None,
        };
        let messages = self.messages().iter();
        raw.into_iter()
            .chain(messages.map(|message| message.content.as_str()))
    }

    /// Returns the properties of the messages that models do not expect: an end with the
    /// assistant, which some continue and others refuse, and a message without text and
    /// attachments.
    pub fn oddities(&self) -> impl Iterator<Item = &'static str> {
        let messages = self.messages();
        let last = messages.last();
        let ends_with_assistant = last.is_some_and(|message| message.role == Role::Assistant);
        let has_empty = messages
            .iter()
            .any(|message| message.content.trim().is_empty() && message.attachments.is_empty());
        let ends = ends_with_assistant.then_some(
            "ends with a message of the assistant; some models continue it, others refuse",
        );
        ends.into_iter()
            .chain(has_empty.then_some("has a message without text"))
    }

    /// Returns the messages; none for a raw text.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::Raw(_) => &[],
            Self::Chat(messages) => messages,
        }
    }

    /// Returns the number of images that are sent. An image in two messages counts twice.
    #[must_use]
    pub fn image_count(&self) -> usize {
        let messages = self.messages().iter();
        messages.map(|message| message.attachments.len()).sum()
    }

    /// Returns the length of all texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}
