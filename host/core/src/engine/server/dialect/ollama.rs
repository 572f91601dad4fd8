//! Ollama's native API. Its OpenAI-compatible API silently ignores top-k, min-p
//! and the context length.

use lmstrix_inference::{Message, Prompt, REPEAT_LAST_TOKENS, Usage};
use serde_json::{Map, Value, json};

use super::endpoint::Endpoint;
use super::extra_settings::extra_settings;
use super::fields::{non_empty_string, u32_field};
use super::finish::parse_finish_reason;
use super::images::base64;
use super::number_settings::{insert_number_settings, insert_penalties_off};
use super::openai_chat::push_end;
use super::wire::{WireEvent, WireRequest};

pub(super) fn request_body(request: &WireRequest<'_>, endpoint: Endpoint) -> Map<String, Value> {
    let settings = request.settings;
    let mut options = Map::new();
    insert_number_settings(request, endpoint, &mut options);
    insert_penalties_off(&mut options);
    let mut put = |key: &str, value: Value| {
        options.insert(key.to_owned(), value);
    };
    put("repeat_last_n", REPEAT_LAST_TOKENS.into());
    let num_predict = request.max_tokens.map_or(Value::from(-1), Value::from);
    put("num_predict", num_predict);
    put("stop", settings.stop.value.clone().into());
    if let Some(context) = request.context {
        // A number other than that of the loaded instance would reload the
        // model.
        put("num_ctx", context.into());
    }
    for (key, value) in extra_settings(request) {
        put(key, value);
    }
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    put("stream", request.stream.into());
    if let Some(ttl) = request.ttl {
        put("keep_alive", ttl.as_secs_f64().into());
    }
    put("options", options.into());
    // Reject a prompt that exceeds the context instead of truncating it
    // silently.
    put("truncate", false.into());
    put("shift", false.into());
    if let Some(schema) = &settings.json_schema {
        put(
            "format",
            serde_json::from_str(&schema.value).unwrap_or_default(),
        );
    }
    match request.prompt {
        Prompt::Raw(prompt) => {
            put("prompt", prompt.as_str().into());
            put("raw", true.into());
        }
        Prompt::Chat(messages) => {
            let messages: Vec<Value> = messages
                .iter()
                .map(|message| message_object(request, message))
                .collect();
            put("messages", messages.into());
            match settings
                .reasoning
                .as_ref()
                .map(|reasoning| reasoning.value.as_str())
            {
                None => {}
                Some("off") => put("think", false.into()),
                Some("on") => put("think", true.into()),
                Some(level) => put("think", level.into()),
            }
        }
    }
    body
}

fn message_object(request: &WireRequest<'_>, message: &Message) -> Value {
    let mut object = json!({ "role": message.role.as_str(), "content": message.content });
    let images: Vec<Value> = request
        .images_of(message)
        .map(|image| base64(image).into())
        .collect();
    if !images.is_empty() {
        object["images"] = images.into();
    }
    object
}

/// Parses one line of a stream. A response that is not streamed is such a line,
/// too.
pub(super) fn parse_line(value: &Value, events: &mut Vec<WireEvent>) {
    events.extend(non_empty_string(value, "model").map(WireEvent::Model));
    let message = value.get("message").unwrap_or(value);
    events.extend(non_empty_string(message, "thinking").map(WireEvent::Reasoning));
    let content =
        non_empty_string(message, "content").or_else(|| non_empty_string(message, "response"));
    events.extend(content.map(WireEvent::Text));
    if value.get("done") != Some(&Value::Bool(true)) {
        return;
    }
    if value.get("eval_count").is_some() || value.get("prompt_eval_count").is_some() {
        events.push(WireEvent::Usage(Usage {
            prompt_tokens: u32_field(value, "prompt_eval_count"),
            completion_tokens: u32_field(value, "eval_count"),
        }));
    }
    match value.get("done_reason").and_then(Value::as_str) {
        // Versions before 0.1.40 give no reason.
        None => push_end(events),
        Some(reason) => {
            let end = parse_finish_reason(reason);
            events.extend(end.map(WireEvent::Finish));
            events.push(WireEvent::Done);
        }
    }
}
