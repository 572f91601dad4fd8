//! The wire formats: builds the request bodies of each API and parses its
//! responses into events. Pure.

mod extra_settings;
mod lmstudio_chat;
mod ollama;
mod openai_chat;
mod openai_completion;

pub(super) use extra_settings::extra_setting_names;
use lmstrix_inference::{FinishReason, Origin, Prompt, Role, Settings, Usage};
use serde_json::{Map, Value};

use super::fault::{self, ServerFault};
use super::server_kind::ServerKind;

/// The endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
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

/// An event of a response, independent of the API.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WireEvent {
    /// The model is loading, with the progress from 0 to 1.
    Loading(Option<f32>),
    /// The prompt is being processed.
    Prefill {
        /// From 0 to 1.
        progress: f32,
        /// The length of the prompt in tokens.
        tokens: Option<u32>,
    },
    Reasoning(String),
    Text(String),
    Usage(Usage),
    /// The model that answers, by the server's name.
    Model(String),
    Warning(String),
    Fault(ServerFault),
    /// The finish reason; token counts may still follow.
    Finish(FinishReason),
    /// The end of the response.
    Done,
}

/// The contents of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireRequest<'a> {
    pub(super) kind: ServerKind,
    pub(super) model: &'a str,
    pub(super) prompt: &'a Prompt,
    pub(super) settings: &'a Settings,
    /// The limit of output tokens; `None` is unlimited.
    pub(super) max_tokens: Option<u32>,
    /// The context length in tokens; only Ollama accepts it in a request.
    pub(super) context: Option<u32>,
    pub(super) stream: bool,
}

/// The framing of a streamed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    ServerSentEvents,
    NdjsonLines,
}

impl Endpoint {
    /// Selects the endpoint for a server and a prompt. LM Studio's native chat
    /// is used if min-p is set explicitly, which the other endpoint does not
    /// document, and if nothing is set that it would reject.
    pub(super) fn select(
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
        let is_explicit = |origin: Origin| origin != Origin::Default && origin != Origin::ModelFile;
        let is_supported = settings.stop.value.is_empty()
            && settings.seed.is_none_or(|seed| !is_explicit(seed.origin))
            && settings.json_schema.is_none()
            && settings.presence_penalty.is_none()
            && settings.frequency_penalty.is_none()
            && settings.other.is_empty()
            && settings.temperature.value <= 1.0;
        if kind == ServerKind::LmStudio
            && has_studio_chat
            && is_explicit(settings.min_p.origin)
            && is_single_turn
            && is_supported
        {
            Self::LmStudioChat
        } else {
            Self::OpenAiChat
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiCompletion => "/v1/completions",
            Self::LmStudioChat => "/api/v1/chat",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
        }
    }

    pub(super) fn framing(self) -> Framing {
        match self {
            Self::OpenAiChat | Self::OpenAiCompletion | Self::LmStudioChat => {
                Framing::ServerSentEvents
            }
            Self::OllamaChat | Self::OllamaGenerate => Framing::NdjsonLines,
        }
    }

    /// Builds the request body.
    pub(super) fn request_body(self, request: &WireRequest<'_>) -> Map<String, Value> {
        match self {
            Self::OpenAiChat => openai_chat::request_body(request),
            Self::OpenAiCompletion => openai_completion::request_body(request),
            Self::LmStudioChat => lmstudio_chat::request_body(request),
            Self::OllamaChat | Self::OllamaGenerate => ollama::request_body(request),
        }
    }

    /// Parses one frame of a stream and appends its events.
    ///
    /// # Errors
    /// Returns a description if the frame is not JSON.
    pub(super) fn parse_frame(
        self,
        event: &str,
        data: &str,
        events: &mut Vec<WireEvent>,
    ) -> Result<(), String> {
        let data = data.trim();
        if data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            events.push(WireEvent::Done);
            return Ok(());
        }
        let value: Value = match serde_json::from_str(data) {
            Ok(value) => value,
            Err(_) if let Some(value) = replace_lone_surrogates(data) => value,
            Err(_) if event == "error" => {
                events.push(WireEvent::Fault(fault::from_text(data)));
                return Ok(());
            }
            Err(error) => return Err(format!("{error} in {} bytes", data.len())),
        };
        if event == "error" && self != Self::LmStudioChat {
            events.push(WireEvent::Fault(
                fault::find_in_json(&value).unwrap_or_else(|| fault::from_text(data)),
            ));
            return Ok(());
        }
        match self {
            Self::LmStudioChat => lmstudio_chat::parse_event(&value, events),
            // Errors have many shapes, none of which is a valid answer.
            _ if let Some(fault) = fault::find_in_json(&value) => {
                events.push(WireEvent::Fault(fault))
            }
            Self::OpenAiChat => openai_chat::parse_chunk(&value, events),
            Self::OpenAiCompletion => openai_completion::parse_chunk(&value, events),
            Self::OllamaChat | Self::OllamaGenerate => ollama::parse_line(&value, events),
        }
        Ok(())
    }

    /// Parses a response that is not streamed and appends its events.
    pub(super) fn parse_response(self, value: &Value, events: &mut Vec<WireEvent>) {
        if let Some(fault) = fault::find_in_json(value) {
            events.push(WireEvent::Fault(fault));
            return;
        }
        match self {
            Self::OpenAiChat => openai_chat::parse_response(value, events),
            Self::OpenAiCompletion => openai_completion::parse_response(value, events),
            Self::LmStudioChat => lmstudio_chat::parse_response(value, events),
            Self::OllamaChat | Self::OllamaGenerate => ollama::parse_line(value, events),
        }
    }
}

/// Replaces escapes of lone surrogates by U+FFFD and parses the result. A
/// server that splits its text between tokens may split a character into two
/// such escapes, which are not valid JSON. Returns `None` if there is none or
/// the result is not valid either.
fn replace_lone_surrogates(data: &str) -> Option<Value> {
    let mut repaired = String::with_capacity(data.len());
    let mut rest = data;
    let mut found = false;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        repaired.push_str(before);
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
                repaired.push('\u{fffd}');
                rest = escape.get(6..)?;
                continue;
            }
            // Skip the escaped character, which may be a backslash itself.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, tail) = escape.split_at_checked(length)?;
        repaired.push_str(escape);
        rest = tail;
    }
    repaired.push_str(rest);
    if !found {
        return None;
    }
    serde_json::from_str(&repaired).ok()
}

/// Parses a pack's setting as a JSON number or boolean. Other values are
/// rejected, so that a pack cannot put text into a request.
fn number_or_bool(value: &str) -> Option<Value> {
    match serde_json::from_str(value.trim()) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => Some(value),
        _ => None,
    }
}

/// Returns the settings of `other` that this kind of server accepts.
fn extra_settings<'a>(request: &WireRequest<'a>) -> impl Iterator<Item = (&'a String, Value)> {
    let known = extra_setting_names(request.kind);
    request
        .settings
        .other
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .filter_map(|(key, setting)| Some((key, number_or_bool(&setting.value)?)))
}

/// Returns a token count of a JSON object; 0 if it is missing.
fn u32_field(value: &Value, key: &str) -> u32 {
    let number = value.get(key).and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Returns a string of a JSON object unless it is missing or empty.
fn non_empty_string(value: &Value, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_replaced() {
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
            let mut events = Vec::new();
            Endpoint::OpenAiChat
                .parse_frame("", data, &mut events)
                .unwrap();
            assert_eq!(events, [WireEvent::Text(text.to_owned())], "{data}");
        }
        assert!(
            Endpoint::OpenAiChat
                .parse_frame("", "{\"choices\": [\\ud83d", &mut Vec::new())
                .is_err()
        );
    }

    #[test]
    fn frames_of_all_dialects_yield_the_same_events() {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
        };
        for (endpoint, event, data, expected) in [
            (
                Endpoint::OpenAiChat,
                "",
                r#"{"model":"m","choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}"#,
                vec![
                    WireEvent::Model("m".to_owned()),
                    WireEvent::Reasoning("hm".to_owned()),
                ],
            ),
            (
                Endpoint::OpenAiChat,
                "",
                r#"{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"x"}]},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                vec![
                    WireEvent::Usage(usage),
                    WireEvent::Text("x".to_owned()),
                    WireEvent::Finish(FinishReason::Length),
                ],
            ),
            (
                Endpoint::OpenAiCompletion,
                "",
                r#"{"choices":[{"index":0,"text":"x","finish_reason":null}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (Endpoint::OpenAiChat, "", "[DONE]", vec![WireEvent::Done]),
            (
                Endpoint::LmStudioChat,
                "model_load.progress",
                r#"{"type":"model_load.progress","progress":0.5}"#,
                vec![WireEvent::Loading(Some(0.5))],
            ),
            (
                Endpoint::LmStudioChat,
                "chat.end",
                r#"{"type":"chat.end","result":{"stats":{"input_tokens":3,"total_output_tokens":2}}}"#,
                vec![
                    WireEvent::Usage(usage),
                    WireEvent::Finish(FinishReason::End),
                    WireEvent::Done,
                ],
            ),
            (
                Endpoint::LmStudioChat,
                "new.kind",
                r#"{"type":"new.kind"}"#,
                vec![],
            ),
            (
                Endpoint::OllamaChat,
                "",
                r#"{"message":{"thinking":"hm","content":""},"done":false}"#,
                vec![WireEvent::Reasoning("hm".to_owned())],
            ),
            (
                Endpoint::OllamaGenerate,
                "",
                r#"{"response":"x","done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":2}"#,
                vec![
                    WireEvent::Text("x".to_owned()),
                    WireEvent::Usage(usage),
                    WireEvent::Finish(FinishReason::Length),
                    WireEvent::Done,
                ],
            ),
        ] {
            let mut events = Vec::new();
            endpoint.parse_frame(event, data, &mut events).unwrap();
            assert_eq!(events, expected, "{data}");
        }
    }
}
