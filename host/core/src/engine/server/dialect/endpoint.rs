//! The endpoints of servers.

use lmstrix_inference::{Prompt, Role, Settings};

use super::wire::Framing;
use crate::engine::server::server_kind::ServerKind;

/// The endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::server) enum Endpoint {
    /// OpenAI's chat completions.
    OpenAiChat,
    /// OpenAI's completions, without a chat template.
    OpenAiCompletion,
    /// LM Studio's native chat. It is certain to honour min-p, but has no stop
    /// sequences, seed, JSON schema or chat history.
    LmStudioChat,
    /// Ollama's native chat.
    OllamaChat,
    /// Ollama's native completion in raw mode, without a chat template.
    OllamaGenerate,
}

impl Endpoint {
    /// Selects the endpoint for a server and a prompt. LM Studio's native chat
    /// is used if min-p is set explicitly, which the other endpoint does not
    /// document, and if nothing is set that it would reject.
    pub(in crate::engine::server) fn select(
        kind: ServerKind,
        has_studio_chat: bool,
        prompt: &Prompt,
        settings: &Settings,
    ) -> Self {
        let messages = match (kind, prompt) {
            (ServerKind::Ollama, Prompt::Raw(_)) => return Self::OllamaGenerate,
            (ServerKind::Ollama, Prompt::Chat(_)) => return Self::OllamaChat,
            (_, Prompt::Raw(_)) => return Self::OpenAiCompletion,
            (_, Prompt::Chat(messages)) => messages,
        };
        let users = messages
            .iter()
            .filter(|message| message.role == Role::User)
            .count();
        let is_single_turn = users == 1
            && messages
                .last()
                .is_some_and(|message| message.role == Role::User)
            && messages
                .iter()
                .all(|message| message.role != Role::Assistant);
        let is_supported = settings.stop.value.is_empty()
            && settings.seed.is_none_or(|seed| !seed.origin.is_explicit())
            && settings.json_schema.is_none()
            && settings.presence_penalty.is_none()
            && settings.frequency_penalty.is_none()
            && settings.other.is_empty()
            && settings.temperature.value <= 1.0;
        if kind == ServerKind::LmStudio
            && has_studio_chat
            && settings.min_p.origin.is_explicit()
            && is_single_turn
            && is_supported
        {
            Self::LmStudioChat
        } else {
            Self::OpenAiChat
        }
    }

    pub(in crate::engine::server) fn path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiCompletion => "/v1/completions",
            Self::LmStudioChat => "/api/v1/chat",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
        }
    }

    pub(in crate::engine::server) fn framing(self) -> Framing {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletion | Self::LmStudioChat => {
                Framing::ServerSentEvents
            }
            Self::OllamaChat | Self::OllamaGenerate => Framing::NdjsonLines,
        }
    }
}
