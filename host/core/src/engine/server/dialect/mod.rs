//! The wire formats: builds the request bodies of each API and parses its
//! responses into events. Pure.

mod endpoint;
mod extra_settings;
mod fields;
mod finish;
mod images;
mod lmstudio_chat;
mod number_settings;
mod ollama;
mod openai_chat;
mod openai_completion;
mod setting_support;
mod wire;

use serde_json::{Map, Value};

pub(super) use endpoint::Endpoint;
pub(super) use fields::whole_number;
pub(super) use finish::{ReportedEnd, unknown_reason_warning};
pub(in crate::engine) use setting_support::llama_server_support;
pub(super) use setting_support::setting_support;
pub(super) use wire::{Framing, WireEvent, WireRequest};

use super::fault;
use fields::{ReadFields, read_json};

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

    /// Reads one frame of a stream and appends its events. `is_error` is true for a frame
    /// that the server marked as an error.
    ///
    /// # Errors
    /// Returns an error, before any event, if the frame is not JSON.
    pub(super) fn read_frame(
        self,
        is_error: bool,
        frame: &str,
        events: &mut Vec<WireEvent>,
    ) -> Result<(), serde_json::Error> {
        if is_error && self != Self::LmStudioChat {
            let value = serde_json::from_str(frame)?;
            let fault = fault::find_in_json(&value);
            events.push(WireEvent::Fault(
                fault.unwrap_or_else(|| fault::from_text(frame)),
            ));
            return Ok(());
        }
        let read: ReadFields = match self {
            Self::LmStudioChat => return read_json(frame, events, lmstudio_chat::read_event),
            Self::OpenAiChat => openai_chat::read_chunk,
            Self::OpenAiCompletion => openai_chat::read_completion_chunk,
            Self::OllamaChat | Self::OllamaGenerate => ollama::read_line,
        };
        read_unless_fault(frame, events, read)
    }

    /// Reads a response that is not streamed and appends its events.
    ///
    /// # Errors
    /// Returns an error, before any event, if the response is not JSON.
    pub(super) fn read_response(
        self,
        response: &str,
        events: &mut Vec<WireEvent>,
    ) -> Result<(), serde_json::Error> {
        let read: ReadFields = match self {
            Self::OpenAiChat => openai_chat::read_response,
            Self::OpenAiCompletion => openai_chat::read_completion,
            Self::LmStudioChat => lmstudio_chat::read_response,
            Self::OllamaChat | Self::OllamaGenerate => ollama::read_line,
        };
        read_unless_fault(response, events, read)
    }
}

/// Appends the error in a frame or a response, else the events that `read` finds. Errors have
/// many shapes, none of which is a valid answer, but all have the word as a key or a value; most
/// frames do not have it.
///
/// # Errors
/// Returns an error, before any event, if the text is not JSON.
fn read_unless_fault(
    text: &str,
    events: &mut Vec<WireEvent>,
    read: ReadFields,
) -> Result<(), serde_json::Error> {
    if text.contains("\"error\"")
        && let Some(fault) = fault::find_in_json(&serde_json::from_str(text)?)
    {
        events.push(WireEvent::Fault(fault));
        return Ok(());
    }
    read_json(text, events, read)
}

#[cfg(test)]
mod tests {
    use lmstrix_inference::{FinishReason, Usage};

    use super::*;

    #[test]
    fn frames_of_all_dialects_yield_the_same_events() {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
        };
        for (endpoint, data, expected) in [
            (
                Endpoint::OpenAiChat,
                r#"{"model":"m","choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}"#,
                vec![
                    WireEvent::Model("m".to_owned()),
                    WireEvent::Reasoning("hm".to_owned()),
                ],
            ),
            (
                Endpoint::OpenAiChat,
                r#"{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"x"}]},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                vec![
                    WireEvent::Usage(usage),
                    WireEvent::Text("x".to_owned()),
                    WireEvent::Finish(ReportedEnd::Finished(FinishReason::Length)),
                ],
            ),
            (
                Endpoint::OpenAiCompletion,
                r#"{"choices":[{"index":0,"text":"x","finish_reason":null}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (
                Endpoint::LmStudioChat,
                r#"{"type":"model_load.progress","progress":0.5}"#,
                vec![WireEvent::Loading(Some(0.5))],
            ),
            (
                Endpoint::LmStudioChat,
                r#"{"type":"chat.end","result":{"model_instance_id":"m","stats":{"input_tokens":3,"total_output_tokens":2}}}"#,
                vec![
                    WireEvent::Model("m".to_owned()),
                    WireEvent::Usage(usage),
                    WireEvent::Finish(ReportedEnd::Finished(FinishReason::End)),
                    WireEvent::Done,
                ],
            ),
            (Endpoint::LmStudioChat, r#"{"type":"new.kind"}"#, vec![]),
            // Values of other types count as missing, and of repeated keys the last one counts.
            (
                Endpoint::OpenAiChat,
                r#"{"model":7,"usage":[],"choices":[null,{"index":"0","delta":{"content":"","reasoning":{},"content":"x"},"finish_reason":false}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (
                Endpoint::OpenAiChat,
                r#"["m",{},{},[{"delta":{"content":"x"}}]]"#,
                vec![],
            ),
            // Some servers send the text in two fields.
            (
                Endpoint::OpenAiChat,
                r#"{"choices":[{"index":0,"text":"x","delta":{"content":"x"},"message":{"content":"x"}}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (
                Endpoint::OpenAiCompletion,
                r#"{"choices":[{"index":0,"text":"x","delta":{"content":"x"}}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (
                Endpoint::OpenAiChat,
                r#"{"choices":[{"index":-1,"delta":{"content":"y"}},{"index":0.0,"delta":{"content":"x"}}]}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (Endpoint::OllamaChat, "null", vec![]),
            (
                Endpoint::OllamaChat,
                r#"{"message":"m","response":"x","done":"true","eval_count":"7"}"#,
                vec![WireEvent::Text("x".to_owned())],
            ),
            (
                Endpoint::LmStudioChat,
                r#"{"type":"message.delta","content":"\"\n\u00e4\"","progress":"half"}"#,
                vec![WireEvent::Text("\"\nä\"".to_owned())],
            ),
            (
                Endpoint::OllamaChat,
                r#"{"message":{"thinking":"hm","content":""},"done":false}"#,
                vec![WireEvent::Reasoning("hm".to_owned())],
            ),
            (
                Endpoint::OllamaGenerate,
                r#"{"response":"x","done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":2}"#,
                vec![
                    WireEvent::Text("x".to_owned()),
                    WireEvent::Usage(usage),
                    WireEvent::Finish(ReportedEnd::Finished(FinishReason::Length)),
                    WireEvent::Done,
                ],
            ),
        ] {
            let mut events = Vec::new();
            endpoint.read_frame(false, data, &mut events).unwrap();
            assert_eq!(events, expected, "{data}");
        }
    }

    #[test]
    fn a_response_that_is_not_streamed_has_its_answer_in_the_message() {
        let response = r#"{"choices":[{"message":{"content":"x"},"delta":{"content":""},"finish_reason":"stop"}]}"#;
        let mut events = Vec::new();
        Endpoint::OpenAiChat
            .read_response(response, &mut events)
            .unwrap();
        assert_eq!(events.first(), Some(&WireEvent::Text("x".to_owned())));
    }

    #[test]
    fn a_fault_with_half_a_character_is_an_error_that_can_be_repaired() {
        for endpoint in [
            Endpoint::OpenAiChat,
            Endpoint::OllamaChat,
            Endpoint::LmStudioChat,
        ] {
            let frame = r#"{"type":"error","error":{"message":"a \ud83d"}}"#;
            let mut events = Vec::new();
            assert!(endpoint.read_frame(false, frame, &mut events).is_err());
            assert_eq!(events, []);
        }
    }
}
