//! Test servers: [`scripted`] sends exactly the bytes of a script, [`studio`] is a fake LM
//! Studio with its quirks and faults.

pub(crate) mod scripted;
pub(crate) mod studio;

/// The answers of the fake model, token by token.
mod studio_answer;
/// The OpenAI-compatible endpoints and `/api/v0`.
mod studio_chat;
/// Routing, model lists and error formats.
mod studio_routes;
/// Loaded instances and recorded requests.
mod studio_state;
/// Streamed answers and their faults.
mod studio_stream;
/// `/api/v1`: load, unload, chat.
mod studio_v1;
