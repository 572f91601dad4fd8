//! The wire formats: builds the request bodies of each API and parses its
//! responses into events. Pure.

mod endpoint;
mod extra_settings;
mod fields;
mod lmstudio_chat;
mod number_settings;
mod ollama;
mod openai_chat;
mod openai_completion;
mod setting_support;
mod wire;

use serde_json::{Map, Value};

pub(super) use endpoint::Endpoint;
pub(super) use setting_support::setting_support;
pub(super) use wire::{Framing, WireEvent, WireRequest};

use super::fault;

impl Endpoint {
    /// Builds the request body.
    pub(super) fn request_body(self, request: &WireRequest<'_>) -> Map<String, Value> {
        match self {
            Self::OpenAiChat => openai_chat::request_body(request),
            Self::OpenAiCompletion => openai_completion::request_body(request),
            Self::LmStudioChat => lmstudio_chat::request_body(request),
            Self::OllamaChat | Self::OllamaGenerate => ollama::request_body(request, self),
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

#[cfg(test)]
mod tests {
    use lmstrix_inference::{FinishReason, Usage};

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
