//! The placement of attachments: a pack places them in messages by name, and the others go
//! to the last user message.

use lmstrix_inference::{Message, Prompt, Role};

use crate::attachment::{Attachment, AttachmentError, check_total_size, names};

/// An error of attachments in the messages of a prompt.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The attachments are too large together.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// The prompt is a raw text.
    #[error("a raw prompt is sent as text only, without attachments: {names}")]
    Raw {
        /// The names of the attachments.
        names: String,
    },
    /// A message names an attachment that was not given.
    #[error(
        "the prompt places the attachment `{name}`, which was not given{}",
        given_names(given)
    )]
    NotGiven {
        /// The name in the message.
        name: String,
        /// The names of the attachments that were given.
        given: String,
    },
    /// A message that is not the user's has an attachment.
    #[error(
        "the prompt places the attachment `{name}` in a message of the {role}; models see images \
         in user messages only"
    )]
    NotUserMessage {
        /// The name in the message.
        name: String,
        /// The author of the message.
        role: &'static str,
    },
    /// No message can have the attachments.
    #[error("the prompt has no user message for the attachments: {names}")]
    NoUserMessage {
        /// The names of the attachments that are in no message.
        names: String,
    },
}

fn given_names(given: &str) -> String {
    match given {
        "" => String::new(),
        given => format!(" (given: {given})"),
    }
}

impl PlacementError {
    /// Returns a hint for the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Attachment(error) => error.hint(),
            Self::NotGiven { .. } => Some("add `--attach` with a file of this name"),
            Self::Raw { .. } => Some("remove --raw, or the attachments"),
            Self::NotUserMessage { .. } | Self::NoUserMessage { .. } => None,
        }
    }
}

/// Places the attachments of a job in the messages of its prompt.
///
/// # Errors
/// Returns an error if a message names an attachment that was not given or is not the
/// user's, if there is no user message for the others, or if they are too large together.
pub(super) fn place_attachments(
    prompt: &mut Prompt,
    attachments: &[Attachment],
) -> Result<(), PlacementError> {
    let messages = match prompt {
        Prompt::Raw(_) if attachments.is_empty() => return Ok(()),
        Prompt::Raw(_) => {
            return Err(PlacementError::Raw {
                names: names(attachments),
            });
        }
        Prompt::Chat(messages) => messages,
    };
    for message in &*messages {
        check_placed(message, attachments)?;
    }
    let is_placed = |name: &String| {
        messages
            .iter()
            .any(|message| message.attachments.contains(name))
    };
    let others: Vec<String> = attachments
        .iter()
        .map(|attachment| attachment.name.clone())
        .filter(|name| !is_placed(name))
        .collect();
    let last_user = messages
        .iter_mut()
        .rfind(|message| message.role == Role::User);
    match last_user {
        Some(message) => message.attachments.extend(others),
        None if others.is_empty() => {}
        None => {
            return Err(PlacementError::NoUserMessage {
                names: others.join(", "),
            });
        }
    }
    Ok(check_total_size(messages, attachments)?)
}

/// Checks the attachments that a pack placed in a message.
fn check_placed(message: &Message, attachments: &[Attachment]) -> Result<(), PlacementError> {
    let is_given = |name: &String| attachments.iter().any(|given| given.name == *name);
    for name in &message.attachments {
        if message.role != Role::User {
            return Err(PlacementError::NotUserMessage {
                name: name.clone(),
                role: message.role.as_str(),
            });
        }
        if !is_given(name) {
            return Err(PlacementError::NotGiven {
                name: name.clone(),
                given: names(attachments),
            });
        }
    }
    Ok(())
}
