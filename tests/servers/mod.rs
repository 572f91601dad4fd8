//! Servers that tests talk to: [`scripted`] sends the bytes that a test asks
//! for, [`studio`] behaves as LM Studio does, with its quirks and faults.

pub(crate) mod scripted;
pub(crate) mod studio;

/// What the model of the double says, token by token.
mod studio_answer;
/// The OpenAI endpoints and `/api/v0`.
mod studio_chat;
/// Which path is what, the lists, and the shapes of errors.
mod studio_routes;
/// What is loaded, what was asked.
mod studio_state;
/// Answers that come in pieces, and everything that may go wrong with them.
mod studio_stream;
/// `/api/v1`: load, unload, chat.
mod studio_v1;
