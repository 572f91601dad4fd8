//! LM Studio's native chat endpoint, `/api/v1/chat`. It streams named events
//! with progress and rejects unknown request keys.

use lmstrix_inference::{Message, Prompt, Role, Usage};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::endpoint::Endpoint;
use super::fields::{Lenient, Shape, Text};
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

/// An event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Lenient<Text<'a>>,
    #[serde(borrow)]
    model_instance_id: Lenient<Text<'a>>,
    progress: Lenient<f32>,
    #[serde(borrow)]
    content: Lenient<Text<'a>>,
    #[serde(borrow)]
    result: Lenient<ChatResult<'a>>,
}

/// A response that is not streamed, and the last event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ChatResult<'a> {
    #[serde(borrow)]
    model_instance_id: Lenient<Text<'a>>,
    #[serde(borrow)]
    output: Lenient<Vec<Lenient<OutputItem<'a>>>>,
    #[serde(borrow)]
    stats: Lenient<Statistics<'a>>,
}

impl Shape for ChatResult<'_> {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputItem<'a> {
    #[serde(borrow, rename = "type")]
    kind: Lenient<Text<'a>>,
    #[serde(borrow)]
    content: Lenient<Text<'a>>,
}

impl Shape for OutputItem<'_> {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics<'a> {
    #[serde(borrow)]
    stop_reason: Lenient<Text<'a>>,
    input_tokens: Lenient<Number>,
    total_output_tokens: Lenient<Number>,
}

impl Shape for Statistics<'_> {}

pub(super) fn read_event(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    let event: StreamEvent<'_> = serde_json::from_str(text)?;
    match event.kind.as_str() {
        Some("chat.start") => {
            events.extend(event.model_instance_id.non_empty().map(WireEvent::Model));
        }
        Some("model_load.start" | "model_load.progress") => {
            events.push(WireEvent::Loading(event.progress.0));
        }
        Some("prompt_processing.start" | "prompt_processing.progress") => {
            events.push(WireEvent::Prefill {
                progress: event.progress.0.unwrap_or(0.0),
                tokens: None,
            });
        }
        Some("reasoning.delta") => {
            events.extend(event.content.non_empty().map(WireEvent::Reasoning));
        }
        Some("message.delta") => events.extend(event.content.non_empty().map(WireEvent::Text)),
        Some("error") => {
            let fault = fault::find_in_json(&serde_json::from_str(text)?);
            let fault = fault.unwrap_or_else(|| fault::from_text("error without a message"));
            events.push(WireEvent::Fault(fault));
        }
        Some("chat.end") => {
            if let Some(result) = event.result.0 {
                events.extend(result.model_instance_id.non_empty().map(WireEvent::Model));
                push_statistics(result.stats, events);
            }
            push_end(events);
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn read_response(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    let result: ChatResult<'_> = serde_json::from_str(text)?;
    events.extend(result.model_instance_id.non_empty().map(WireEvent::Model));
    let items = result.output.0.into_iter().flatten();
    for item in items.filter_map(|item| item.0) {
        let content = item.content.non_empty();
        match item.kind.as_str() {
            Some("reasoning") => events.extend(content.map(WireEvent::Reasoning)),
            Some("message") => events.extend(content.map(WireEvent::Text)),
            _ => {}
        }
    }
    push_statistics(result.stats, events);
    push_end(events);
    Ok(())
}

fn push_statistics(statistics: Lenient<Statistics<'_>>, events: &mut Vec<WireEvent>) {
    let Some(statistics) = statistics.0 else {
        return;
    };
    let end = statistics
        .stop_reason
        .as_str()
        .and_then(parse_finish_reason);
    events.extend(end.map(WireEvent::Finish));
    events.push(WireEvent::Usage(Usage {
        prompt_tokens: statistics.input_tokens.count(),
        completion_tokens: statistics.total_output_tokens.count(),
    }));
}
