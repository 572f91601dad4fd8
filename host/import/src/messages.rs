//! Chat messages as the system and the user message of a prompt file.

use std::rc::Rc;

use crate::log::{Log, Skip};
use crate::template::Template;

/// The author of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    /// A role that a prompt file does not have, by its name in the source.
    Other(String),
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// The line on which it begins.
    pub(crate) line: usize,
    /// The start of its notes: empty, or the partial that contains it.
    pub(crate) prefix: Rc<str>,
    pub(crate) content: Template,
}

/// Returns the system and the user message.
///
/// # Errors
/// Returns the reason to skip the prompt if there is no text, or a message that is neither of
/// them.
pub(crate) fn system_and_user(
    mut messages: Vec<Message>,
    log: &mut Log,
) -> Result<(Option<Template>, Template), Skip> {
    for message in &mut messages {
        message.content.trim_matches(|c| c == '\n');
    }
    messages.retain(|message| !message.content.is_blank());
    let mut system: Option<Template> = None;
    let mut user: Option<Template> = None;
    for message in &messages {
        let line = Some(message.line);
        let prefix = &message.prefix;
        let (target, name) = match &message.role {
            Role::System => {
                if user.is_some() {
                    let text = "the system message moves before the user message";
                    log.changed(line, format!("{prefix}{text}"));
                }
                (&mut system, "system")
            }
            Role::User => (&mut user, "user"),
            Role::Other(role) => {
                let reason = format!(
                    "{prefix}a message of the role `{role}`; a prompt has a system and a user message"
                );
                return Err(Skip::new(line, reason));
            }
        };
        match target {
            None => *target = Some(message.content.clone()),
            Some(first) => {
                let text = format!("joined with the {name} message before it");
                log.changed(line, format!("{prefix}{text}"));
                first.push_text("\n\n");
                first.append(&message.content);
            }
        }
    }
    match (system, user) {
        (system, Some(user)) => Ok((system, user)),
        (Some(system), None) => {
            if let Some(Message { line, prefix, .. }) = messages.first() {
                let text = "the only message is the user message, not the system message";
                log.changed(Some(*line), format!("{prefix}{text}"));
            }
            Ok((None, system))
        }
        (None, None) => Err(Skip::new(None, "the prompt has no text")),
    }
}
