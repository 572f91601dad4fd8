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
            Err(_) if let Some(value) = without_halves(data) => value,
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

/// A server that cuts its text between two tokens may cut a character in two,
/// each half an escape that is no character: each is replaced, and the rest of
/// the answer is not lost for it. `None` when that was not the reason.
fn without_halves(data: &str) -> Option<Value> {
    let mut mended = String::with_capacity(data.len());
    let mut rest = data;
    let mut found = false;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let unit = |text: &str| -> Option<u16> {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let length = match unit(escape) {
            Some(0xD800..=0xDBFF)
                if matches!(escape.get(6..).and_then(unit), Some(0xDC00..=0xDFFF)) =>
            {
                12
            }
            Some(0xD800..=0xDFFF) => {
                found = true;
                mended.push('\u{fffd}');
                rest = escape.get(6..)?;
                continue;
            }
            // An escaped backslash is two characters, and the next is free.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, left) = escape.split_at_checked(length)?;
        mended.push_str(escape);
        rest = left;
    }
    mended.push_str(rest);
    if !found {
        return None;
    }
    serde_json::from_str(&mended).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_does_not_cost_the_answer() {
        for (data, text) in [
            (
                r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#,
                "a\u{fffd}",
            ),
            (
                r#"{"choices":[{"delta":{"content":"\ude00\\ud83d"}}]}"#,
                "\u{fffd}\\ud83d",
            ),
            (
                r#"{"choices":[{"delta":{"content":"\ud83d\ude00\udc00"}}]}"#,
                "😀\u{fffd}",
            ),
        ] {
            let mut said = Vec::new();
            Road::Chat.frame("", data, &mut said).unwrap();
            assert_eq!(said, [Said::Text(text.to_owned())], "{data}");
        }
        assert!(
            Road::Chat
                .frame("", "{\"choices\": [\\ud83d", &mut Vec::new())
                .is_err()
        );
    }

    #[test]
    fn chunks_of_all_dialects_say_the_same() {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
        };
        for (road, event, data, expected) in [
            (
                Road::Chat,
                "",
                r#"{"model":"m","choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}"#,
                vec![
                    Said::Model("m".to_owned()),
                    Said::Reasoning("hm".to_owned()),
                ],
            ),
            (
                Road::Chat,
                "",
                r#"{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"x"}]},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                vec![
                    Said::Usage(usage),
                    Said::Text("x".to_owned()),
                    Said::Finish(Finish::Length),
                ],
            ),
            (
                Road::Completion,
                "",
                r#"{"choices":[{"index":0,"text":"x","finish_reason":null}]}"#,
                vec![Said::Text("x".to_owned())],
            ),
            (Road::Chat, "", "[DONE]", vec![Said::Done]),
            (
                Road::StudioChat,
                "model_load.progress",
                r#"{"type":"model_load.progress","progress":0.5}"#,
                vec![Said::Loading(Some(0.5))],
            ),
            (
                Road::StudioChat,
                "chat.end",
                r#"{"type":"chat.end","result":{"stats":{"input_tokens":3,"total_output_tokens":2}}}"#,
                vec![Said::Usage(usage), Said::Finish(Finish::End), Said::Done],
            ),
            (
                Road::StudioChat,
                "new.kind",
                r#"{"type":"new.kind"}"#,
                vec![],
            ),
            (
                Road::OllamaChat,
                "",
                r#"{"message":{"thinking":"hm","content":""},"done":false}"#,
                vec![Said::Reasoning("hm".to_owned())],
            ),
            (
                Road::OllamaGenerate,
                "",
                r#"{"response":"x","done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":2}"#,
                vec![
                    Said::Text("x".to_owned()),
                    Said::Usage(usage),
                    Said::Finish(Finish::Length),
                    Said::Done,
                ],
            ),
        ] {
            let mut said = Vec::new();
            road.frame(event, data, &mut said).unwrap();
            assert_eq!(said, expected, "{data}");
        }
    }
}
