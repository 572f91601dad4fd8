//! The protocols: what is asked in each, and how its answer reads. Pure: bodies
//! out, frames in.

mod completion;
mod ollama;
mod openai;
mod studio;

use serde_json::{Map, Value};

use super::fault::Fault;
use super::{Kind, fault};
use crate::inference::{Finish, Origin, Prompt, Role, Settings, Usage};

/// Which endpoint takes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// OpenAI's chat.
    Chat,
    /// OpenAI's completion: the text as it stands.
    Completion,
    /// LM Studio's own chat: certain of min-p, and without stop texts, seed,
    /// schema and history.
    StudioChat,
    /// Ollama's chat.
    OllamaChat,
    /// Ollama's completion, raw.
    OllamaGenerate,
}

/// What a frame said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Loading(Option<f32>),
    Prefill {
        progress: f32,
        tokens: Option<u32>,
    },
    Reasoning(String),
    Text(String),
    Usage(Usage),
    Model(String),
    Warning(String),
    Fault(Fault),
    /// Why the answer ended; counts may still follow.
    Finish(Finish),
    /// Nothing follows.
    Done,
}

/// What a request is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) model: &'a str,
    pub(super) prompt: &'a Prompt,
    pub(super) settings: &'a Settings,
    /// The limit as a number of tokens; `None` is no limit.
    pub(super) max_tokens: Option<u32>,
    /// The context that was asked for; only Ollama takes it here.
    pub(super) context: Option<u32>,
    pub(super) stream: bool,
}

/// How the answer is framed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    ServerSentEvents,
    Lines,
}

impl Road {
    /// The road for this server and prompt. LM Studio's own chat endpoint is
    /// taken when somebody asked for min-p, of which the other one says
    /// nothing, and for nothing that it would refuse.
    pub(super) fn of(
        kind: Kind,
        has_studio_chat: bool,
        prompt: &Prompt,
        settings: &Settings,
    ) -> Self {
        let messages = match (kind, prompt) {
            (Kind::Ollama, Prompt::Raw(_)) => return Self::OllamaGenerate,
            (Kind::Ollama, Prompt::Chat(_)) => return Self::OllamaChat,
            (_, Prompt::Raw(_)) => return Self::Completion,
            (_, Prompt::Chat(messages)) => messages,
        };
        let users = messages.iter().filter(|it| it.role == Role::User).count();
        let is_plain = users == 1
            && messages.last().is_some_and(|it| it.role == Role::User)
            && messages.iter().all(|it| it.role != Role::Assistant);
        let is_given = |origin: Origin| origin != Origin::Default && origin != Origin::ModelFile;
        let loses_nothing = settings.stop.value.is_empty()
            && settings.seed.is_none_or(|it| !is_given(it.origin))
            && settings.json_schema.is_none()
            && settings.presence_penalty.is_none()
            && settings.frequency_penalty.is_none()
            && settings.other.is_empty()
            && settings.temperature.value <= 1.0;
        if kind == Kind::LmStudio
            && has_studio_chat
            && is_given(settings.min_p.origin)
            && is_plain
            && loses_nothing
        {
            Self::StudioChat
        } else {
            Self::Chat
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
            Self::StudioChat => "/api/v1/chat",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
        }
    }

    pub(super) fn framing(self) -> Framing {
        match self {
            Self::Chat | Self::Completion | Self::StudioChat => Framing::ServerSentEvents,
            Self::OllamaChat | Self::OllamaGenerate => Framing::Lines,
        }
    }

    /// The request's body.
    pub(super) fn body(self, request: &Request<'_>) -> Map<String, Value> {
        match self {
            Self::Chat => openai::body(request),
            Self::Completion => completion::body(request),
            Self::StudioChat => studio::body(request),
            Self::OllamaChat | Self::OllamaGenerate => ollama::body(request),
        }
    }

    /// Reads one frame of a stream.
    ///
    /// # Errors
    /// It is no JSON; the text says what it is.
    pub(super) fn frame(self, event: &str, data: &str, said: &mut Vec<Said>) -> Result<(), String> {
        let data = data.trim();
        if data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            said.push(Said::Done);
            return Ok(());
        }
        let value: Value = match serde_json::from_str(data) {
            Ok(value) => value,
            Err(_) if event == "error" => {
                said.push(Said::Fault(fault::of_text(data)));
                return Ok(());
            }
            Err(e) => return Err(format!("{e} in {} bytes", data.len())),
        };
        if event == "error" && self != Self::StudioChat {
            said.push(Said::Fault(
                fault::in_value(&value).unwrap_or_else(|| fault::of_text(data)),
            ));
            return Ok(());
        }
        match self {
            Self::StudioChat => studio::event(&value, said),
            // What a server says when it has failed has many shapes, and none
            // of them is an answer.
            _ if let Some(fault) = fault::in_value(&value) => said.push(Said::Fault(fault)),
            Self::Chat => openai::chunk(&value, said),
            Self::Completion => completion::chunk(&value, said),
            Self::OllamaChat | Self::OllamaGenerate => ollama::line(&value, said),
        }
        Ok(())
    }

    /// Reads an answer that came in one piece.
    pub(super) fn whole(self, value: &Value, said: &mut Vec<Said>) {
        if let Some(fault) = fault::in_value(value) {
            said.push(Said::Fault(fault));
            return;
        }
        match self {
            Self::Chat => openai::whole(value, said),
            Self::Completion => completion::whole(value, said),
            Self::StudioChat => studio::whole(value, said),
            Self::OllamaChat | Self::OllamaGenerate => ollama::line(value, said),
        }
    }
}

/// A pack's setting as JSON: a number or a yes or no, and nothing else, so that
/// no text gets into a request by this way.
fn plain(value: &str) -> Option<Value> {
    match serde_json::from_str(value.trim()) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => Some(value),
        _ => None,
    }
}

/// Settings of `other` that this server knows.
fn others<'a>(request: &Request<'a>) -> impl Iterator<Item = (&'a String, Value)> {
    let known = super::support::others(request.kind);
    request
        .settings
        .other
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .filter_map(|(key, given)| Some((key, plain(&given.value)?)))
}

/// A count of tokens in a JSON object.
fn count(value: &Value, key: &str) -> u32 {
    let number = value.get(key).and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A text that is there and not empty.
fn text(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
}
