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
        let (raw, messages) = match self {
            Self::Raw(text) => (Some(text.as_str()), &[][..]),
            Self::Chat(messages) => (None, messages.as_slice()),
        };
        raw.into_iter()
            .chain(messages.iter().map(|message| message.content.as_str()))
    }

    /// Returns the length of all texts in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }
}
