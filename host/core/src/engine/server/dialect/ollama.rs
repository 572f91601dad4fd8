//! Ollama's native API. Its OpenAI-compatible API silently ignores top-k, min-p
//! and the context length.

use lmstrix_inference::{Message, Prompt, REPEAT_LAST_TOKENS, Usage};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::endpoint::Endpoint;
use super::extra_settings::extra_settings;
use super::fields::{Lenient, Shape, Text};
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

/// A line of a stream, and a response that is not streamed:
/// <https://docs.ollama.com/api/chat>.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    model: Lenient<Text<'a>>,
    #[serde(borrow)]
    message: Lenient<Answer<'a>>,
    done: Lenient<bool>,
    #[serde(borrow)]
    done_reason: Lenient<Text<'a>>,
    prompt_eval_count: Lenient<Number>,
    eval_count: Lenient<Number>,
}

/// The fields of the answer, within `message` for a chat.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    thinking: Lenient<Text<'a>>,
    #[serde(borrow)]
    content: Lenient<Text<'a>>,
    #[serde(borrow)]
    response: Lenient<Text<'a>>,
}

impl Shape for Answer<'_> {}

/// Reads one line of a stream, or a response that is not streamed.
pub(super) fn read_line(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    let line: Line<'_> = serde_json::from_str(text)?;
    let answer = match line.message.0 {
        Some(message) => message,
        None => serde_json::from_str(text)?,
    };
    events.extend(line.model.non_empty().map(WireEvent::Model));
    events.extend(answer.thinking.non_empty().map(WireEvent::Reasoning));
    let content = answer.content.non_empty().or(answer.response.non_empty());
    events.extend(content.map(WireEvent::Text));
    if line.done.0 != Some(true) {
        return Ok(());
    }
    if line.eval_count.0.is_some() || line.prompt_eval_count.0.is_some() {
        events.push(WireEvent::Usage(Usage {
            prompt_tokens: line.prompt_eval_count.count(),
            completion_tokens: line.eval_count.count(),
        }));
    }
    match line.done_reason.as_str() {
        // Versions before 0.1.40 give no reason.
        None => push_end(events),
        Some(reason) => {
            let end = parse_finish_reason(reason);
            events.extend(end.map(WireEvent::Finish));
            events.push(WireEvent::Done);
        }
    }
    Ok(())
}
