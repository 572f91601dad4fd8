//! LM Studio's native chat endpoint, `/api/v1/chat`. It streams named events
//! with progress and rejects unknown request keys.

use lmstrix_inference::{Message, Prompt, Role, Usage};
use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::fields::{non_empty_string, u32_field};
use super::finish::parse_finish_reason;
use super::images::data_url;
use super::number_settings::insert_number_settings;
use super::openai_chat::push_end;
use super::wire::{WireEvent, WireRequest};
use crate::engine::server::fault;

pub(super) fn request_body(request: &WireRequest<'_>) -> Map<String, Value> {
    let settings = request.settings;
    let mut body = Map::new();
    insert_number_settings(request, Endpoint::LmStudioChat, &mut body);
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    if let Prompt::Chat(messages) = request.prompt {
        let text_of = |role: Role| -> String {
            messages
                .iter()
                .filter(|message| message.role == role)
                .map(|message| message.content.as_str())
                .collect::<Vec<_>>()
                .join("\n\n")
        };
        put("input", input(text_of(Role::User), request, messages));
        let system = text_of(Role::System);
        if !system.is_empty() {
            put("system_prompt", system.into());
        }
    }
    put("stream", request.stream.into());
    // Keep the request out of the server's chat history.
    put("store", false.into());
    if let Some(tokens) = request.max_tokens {
        put("max_output_tokens", tokens.into());
    }
    if let Some(level) = &settings.reasoning {
        put("reasoning", level.value.as_str().into());
    }
    body
}

/// Returns the input: a text, or with images a list of items.
fn input(text: String, request: &WireRequest<'_>, messages: &[Message]) -> Value {
    let images = messages
        .iter()
        .flat_map(|message| request.images_of(message));
    let mut items: Vec<Value> = images
        .map(|image| json!({ "type": "image", "data_url": data_url(image) }))
        .collect();
    if items.is_empty() {
        return text.into();
    }
    if !text.is_empty() {
        items.insert(0, json!({ "type": "message", "content": text }));
    }
    items.into()
}

pub(super) fn parse_event(value: &Value, events: &mut Vec<WireEvent>) {
    let progress = || value.get("progress").and_then(Value::as_f64);
    let content = || non_empty_string(value, "content");
    match value.get("type").and_then(Value::as_str) {
        Some("chat.start") => {
            events.extend(non_empty_string(value, "model_instance_id").map(WireEvent::Model))
        }
        Some("model_load.start" | "model_load.progress") => {
            events.push(WireEvent::Loading(progress().map(to_f32)));
        }
        Some("prompt_processing.start" | "prompt_processing.progress") => {
            events.push(WireEvent::Prefill {
                progress: progress().map_or(0.0, to_f32),
                tokens: None,
            });
        }
        Some("reasoning.delta") => events.extend(content().map(WireEvent::Reasoning)),
        Some("message.delta") => events.extend(content().map(WireEvent::Text)),
        Some("error") => events
            .push(WireEvent::Fault(fault::find_in_json(value).unwrap_or_else(
                || fault::from_text("error without a message"),
            ))),
        Some("chat.end") => {
            if let Some(result) = value.get("result") {
                events.extend(non_empty_string(result, "model_instance_id").map(WireEvent::Model));
                push_stats(result, events);
            }
            push_end(events);
        }
        _ => {}
    }
}

pub(super) fn parse_response(value: &Value, events: &mut Vec<WireEvent>) {
    events.extend(non_empty_string(value, "model_instance_id").map(WireEvent::Model));
    for part in value
        .get("output")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let content = non_empty_string(part, "content");
        match part.get("type").and_then(Value::as_str) {
            Some("reasoning") => events.extend(content.map(WireEvent::Reasoning)),
            Some("message") => events.extend(content.map(WireEvent::Text)),
            _ => {}
        }
    }
    push_stats(value, events);
    push_end(events);
}

fn push_stats(result: &Value, events: &mut Vec<WireEvent>) {
    if let Some(stats) = result.get("stats") {
        let reason = stats.get("stop_reason").and_then(Value::as_str);
        let end = reason.and_then(parse_finish_reason);
        events.extend(end.map(WireEvent::Finish));
        events.push(WireEvent::Usage(Usage {
            prompt_tokens: u32_field(stats, "input_tokens"),
            completion_tokens: u32_field(stats, "total_output_tokens"),
        }));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "f32 is precise enough for a progress fraction"
)]
fn to_f32(progress: f64) -> f32 {
    progress as f32
}
