//! OpenAI's chat completions endpoint. Nearly all servers have it, each with
//! its own names for what OpenAI's API lacks.

use lmstrix_inference::{FinishReason, Message, Origin, Prompt, REPEAT_LAST_TOKENS, Usage};
use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::extra_settings::extra_settings;
use super::fields::{non_empty_string, u32_field, whole_number};
use super::finish::{ReportedEnd, parse_finish_reason};
use super::images::data_url;
use super::number_settings::{insert_number_settings, insert_penalties_off};
use super::wire::{WireEvent, WireRequest};
use crate::engine::server::server_kind::ServerKind;

pub(super) fn request_body(request: &WireRequest<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    if let Prompt::Chat(messages) = request.prompt {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                json!({ "role": message.role.as_str(), "content": content(request, message) })
            })
            .collect();
        body.insert("messages".to_owned(), messages.into());
    }
    insert_common_fields(request, Endpoint::OpenAiChat, &mut body);
    insert_reasoning(request, &mut body);
    body
}

/// Returns the content of a message: its text, or with images a list of parts.
fn content(request: &WireRequest<'_>, message: &Message) -> Value {
    let images = request.images_of(message);
    let mut parts: Vec<Value> = images
        .map(|image| json!({ "type": "image_url", "image_url": { "url": data_url(image) } }))
        .collect();
    if parts.is_empty() {
        return message.content.as_str().into();
    }
    if !message.content.is_empty() {
        parts.insert(0, json!({ "type": "text", "text": message.content }));
    }
    parts.into()
}

/// Inserts what chat and completion requests have in common.
pub(super) fn insert_common_fields(
    request: &WireRequest<'_>,
    endpoint: Endpoint,
    body: &mut Map<String, Value>,
) {
    let WireRequest {
        kind,
        settings,
        stream,
        ..
    } = request;
    insert_number_settings(request, endpoint, body);
    if *kind != ServerKind::OpenAi {
        insert_penalties_off(body);
    }
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    put("stream", (*stream).into());
    if *stream {
        put("stream_options", json!({ "include_usage": true }));
    }
    match (request.max_tokens, kind) {
        (Some(tokens), _) => put("max_tokens", tokens.into()),
        // Without the key, the server's own limit would apply.
        (None, ServerKind::LmStudio | ServerKind::LlamaServer | ServerKind::LlamaRouter) => {
            put("max_tokens", (-1).into());
        }
        (None, _) => {}
    }
    if let (Some(ttl), ServerKind::LmStudio) = (request.ttl, kind) {
        put("ttl", ttl.as_secs().max(1).into());
    }
    if !settings.stop.value.is_empty() {
        put("stop", settings.stop.value.clone().into());
    }
    if let Some(schema) = &settings.json_schema {
        let schema: Value = serde_json::from_str(&schema.value).unwrap_or_default();
        put(
            "response_format",
            json!({
                "type": "json_schema",
                "json_schema": { "name": "answer", "strict": true, "schema": schema },
            }),
        );
    }
    if matches!(kind, ServerKind::LlamaServer | ServerKind::LlamaRouter) {
        put("repeat_last_n", REPEAT_LAST_TOKENS.into());
        // Cached tokens were computed in other batches, and the different
        // rounding would change the samples of a seed.
        if settings
            .seed
            .is_some_and(|seed| seed.origin != Origin::Default)
        {
            put("cache_prompt", false.into());
        }
        if *stream {
            put("return_progress", true.into());
        }
    }
    for (key, value) in extra_settings(request) {
        put(key, value);
    }
}

fn insert_reasoning(request: &WireRequest<'_>, body: &mut Map<String, Value>) {
    let Some(level) = &request.settings.reasoning else {
        return;
    };
    let level = level.value.as_str();
    let effort = match level {
        "off" => "none",
        "on" => "medium",
        other => other,
    };
    body.insert("reasoning_effort".to_owned(), effort.into());
    // Chat templates have no levels, only a switch.
    if matches!(
        request.kind,
        ServerKind::LlamaServer | ServerKind::LlamaRouter | ServerKind::Vllm
    ) {
        body.insert(
            "chat_template_kwargs".to_owned(),
            json!({ "enable_thinking": level != "off" }),
        );
    }
}

pub(super) fn parse_chunk(value: &Value, events: &mut Vec<WireEvent>) {
    push_common_events(value, events);
    if let Some(choice) = first_choice(value) {
        if let Some(delta) = choice.get("delta") {
            push_message(delta, events);
        }
        push_finish(choice, events);
    }
}

pub(super) fn parse_response(value: &Value, events: &mut Vec<WireEvent>) {
    push_common_events(value, events);
    if let Some(choice) = first_choice(value) {
        if let Some(message) = choice.get("message").or_else(|| choice.get("delta")) {
            push_message(message, events);
        }
        push_finish(choice, events);
        push_end(events);
    }
}

/// Appends the end of a response that is not streamed, which may lack a finish
/// reason.
pub(super) fn push_end(events: &mut Vec<WireEvent>) {
    if !events
        .iter()
        .any(|event| matches!(event, WireEvent::Finish(_)))
    {
        events.push(WireEvent::Finish(ReportedEnd::Finished(FinishReason::End)));
    }
    events.push(WireEvent::Done);
}

pub(super) fn first_choice(value: &Value) -> Option<&Value> {
    let choices = value.get("choices")?.as_array()?;
    // The request asks for one choice only.
    choices.iter().find(|choice| {
        let index = choice.get("index").filter(|index| !index.is_null());
        index.is_none_or(|index| whole_number(index) == Some(0))
    })
}

pub(super) fn push_common_events(value: &Value, events: &mut Vec<WireEvent>) {
    if let Some(model) = non_empty_string(value, "model") {
        events.push(WireEvent::Model(model));
    }
    if let Some(progress) = value
        .get("prompt_progress")
        .filter(|progress| progress.is_object())
    {
        let (done, total) = (
            u32_field(progress, "processed"),
            u32_field(progress, "total"),
        );
        events.push(WireEvent::Prefill {
            progress: progress_fraction(done, total),
            tokens: Some(total),
        });
    }
    if let Some(usage) = value.get("usage").filter(|usage| usage.is_object()) {
        events.push(WireEvent::Usage(Usage {
            prompt_tokens: u32_field(usage, "prompt_tokens"),
            completion_tokens: u32_field(usage, "completion_tokens"),
        }));
    }
}

#[expect(clippy::cast_precision_loss, reason = "the fraction is only displayed")]
fn progress_fraction(done: u32, total: u32) -> f32 {
    done as f32 / total.max(1) as f32
}

fn push_message(delta: &Value, events: &mut Vec<WireEvent>) {
    // Servers use either name; one that sends both sends the same text twice.
    let reasoning = non_empty_string(delta, "reasoning_content")
        .or_else(|| non_empty_string(delta, "reasoning"));
    events.extend(reasoning.map(WireEvent::Reasoning));
    match delta.get("content") {
        Some(Value::String(content)) if !content.is_empty() => {
            events.push(WireEvent::Text(content.clone()));
        }
        // Some servers answer with content parts, the form of OpenAI's
        // requests.
        Some(Value::Array(parts)) => {
            let texts = parts
                .iter()
                .filter_map(|part| non_empty_string(part, "text"));
            events.extend(texts.map(WireEvent::Text));
        }
        _ => {}
    }
    // Some servers send a refusal in a separate field.
    events.extend(non_empty_string(delta, "refusal").map(WireEvent::Text));
    if delta
        .get("tool_calls")
        .and_then(Value::as_array)
        .is_some_and(|calls| !calls.is_empty())
    {
        events.push(WireEvent::Warning(
            "the model called a tool although none was offered; ignoring the call".to_owned(),
        ));
    }
}

pub(super) fn push_finish(choice: &Value, events: &mut Vec<WireEvent>) {
    let reason = choice.get("finish_reason").and_then(Value::as_str);
    let end = reason.and_then(parse_finish_reason);
    events.extend(end.map(WireEvent::Finish));
}
