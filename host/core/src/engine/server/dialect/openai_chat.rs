//! OpenAI's chat completions endpoint. Nearly all servers have it, each with
//! its own names for what OpenAI's API lacks.

use lmstrix_inference::{FinishReason, Message, Origin, Prompt, REPEAT_LAST_TOKENS, Usage};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value, json};

use super::endpoint::Endpoint;
use super::extra_settings::extra_settings;
use super::fields::{Lenient, Shape, Text};
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

/// A response or one piece of it: <https://platform.openai.com/docs/api-reference/chat-streaming>,
/// and the fields that other servers have instead.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Completion<'a> {
    #[serde(borrow)]
    model: Lenient<Text<'a>>,
    prompt_progress: Lenient<PromptProgress>,
    usage: Lenient<TokenCounts>,
    #[serde(borrow)]
    choices: Lenient<Vec<Lenient<Choice<'a>>>>,
}

/// llama-server's progress of the prompt in tokens.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct PromptProgress {
    processed: Lenient<Number>,
    total: Lenient<Number>,
}

impl Shape for PromptProgress {}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct TokenCounts {
    prompt_tokens: Lenient<Number>,
    completion_tokens: Lenient<Number>,
}

impl Shape for TokenCounts {}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Choice<'a> {
    index: Lenient<Number>,
    #[serde(borrow)]
    delta: Lenient<ChoiceMessage<'a>>,
    #[serde(borrow)]
    message: Lenient<ChoiceMessage<'a>>,
    #[serde(borrow)]
    text: Lenient<Text<'a>>,
    #[serde(borrow)]
    finish_reason: Lenient<Text<'a>>,
}

impl Shape for Choice<'_> {}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ChoiceMessage<'a> {
    #[serde(borrow)]
    reasoning_content: Lenient<Text<'a>>,
    #[serde(borrow)]
    reasoning: Lenient<Text<'a>>,
    #[serde(borrow)]
    content: Lenient<Content<'a>>,
    #[serde(borrow)]
    refusal: Lenient<Text<'a>>,
    tool_calls: Lenient<Vec<IgnoredAny>>,
}

impl Shape for ChoiceMessage<'_> {}

/// The content of a message: a text or, as in OpenAI's requests, a list of parts.
struct Content<'a>(Vec<Lenient<Part<'a>>>);

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = <&RawValue>::deserialize(deserializer)?.get();
        let parts = match content.starts_with('"') {
            true => serde_json::from_str(content).map(|text| {
                let text = Lenient(Some(text));
                vec![Lenient(Some(Part { text }))]
            }),
            false => serde_json::from_str(content),
        };
        parts.map(Self).map_err(D::Error::custom)
    }
}

impl Shape for Content<'_> {
    const BEGINNINGS: &'static [u8] = b"\"[";
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow)]
    text: Lenient<Text<'a>>,
}

impl Shape for Part<'_> {}

/// The field of a choice that has the answer. Some servers fill several of them.
#[derive(Clone, Copy)]
enum AnswerField {
    /// A piece of a chat.
    Delta,
    /// A chat that is not streamed; a few servers have it in `delta`.
    Message,
    /// A completion without a chat template.
    Text,
}

/// Reads one piece of a chat.
pub(super) fn read_chunk(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    read(text, AnswerField::Delta, events).map(drop)
}

/// Reads a chat that is not streamed.
pub(super) fn read_response(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    if read(text, AnswerField::Message, events)? {
        push_end(events);
    }
    Ok(())
}

/// Reads one piece of a completion.
pub(super) fn read_completion_chunk(
    text: &str,
    events: &mut Vec<WireEvent>,
) -> serde_json::Result<()> {
    read(text, AnswerField::Text, events).map(drop)
}

/// Reads a completion that is not streamed.
pub(super) fn read_completion(text: &str, events: &mut Vec<WireEvent>) -> serde_json::Result<()> {
    if read(text, AnswerField::Text, events)? {
        push_end(events);
    }
    Ok(())
}

/// Appends the events of a response or of a piece of it. Returns true if it has a choice.
fn read(text: &str, field: AnswerField, events: &mut Vec<WireEvent>) -> serde_json::Result<bool> {
    let completion: Completion<'_> = serde_json::from_str(text)?;
    events.extend(completion.model.non_empty().map(WireEvent::Model));
    if let Some(progress) = completion.prompt_progress.0 {
        let (done, total) = (progress.processed.count(), progress.total.count());
        events.push(WireEvent::Prefill {
            progress: progress_fraction(done, total),
            tokens: Some(total),
        });
    }
    if let Some(usage) = completion.usage.0 {
        events.push(WireEvent::Usage(Usage {
            prompt_tokens: usage.prompt_tokens.count(),
            completion_tokens: usage.completion_tokens.count(),
        }));
    }
    let choices = completion.choices.0.into_iter().flatten();
    // The request asks for one choice only.
    let is_first = |choice: &Choice<'_>| {
        let index = choice.index.0.as_ref();
        index.is_none_or(|index| index.as_f64() == Some(0.0))
    };
    let Some(choice) = choices.filter_map(|choice| choice.0).find(is_first) else {
        return Ok(false);
    };
    let message = match field {
        AnswerField::Delta => choice.delta.0,
        AnswerField::Message => choice.message.0.or(choice.delta.0),
        AnswerField::Text => {
            events.extend(choice.text.non_empty().map(WireEvent::Text));
            None
        }
    };
    if let Some(message) = message {
        push_message(message, events);
    }
    let end = choice.finish_reason.as_str().and_then(parse_finish_reason);
    events.extend(end.map(WireEvent::Finish));
    Ok(true)
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

#[expect(clippy::cast_precision_loss, reason = "the fraction is only displayed")]
fn progress_fraction(done: u32, total: u32) -> f32 {
    done as f32 / total.max(1) as f32
}

fn push_message(message: ChoiceMessage<'_>, events: &mut Vec<WireEvent>) {
    // Servers use either name; one that sends both sends the same text twice.
    let reasoning = message.reasoning_content.non_empty();
    let reasoning = reasoning.or(message.reasoning.non_empty());
    events.extend(reasoning.map(WireEvent::Reasoning));
    let parts = message.content.0.into_iter().flat_map(|content| content.0);
    let texts = parts.filter_map(|part| part.0?.text.non_empty());
    events.extend(texts.map(WireEvent::Text));
    // Some servers send a refusal in a separate field.
    events.extend(message.refusal.non_empty().map(WireEvent::Text));
    if message.tool_calls.0.is_some_and(|calls| !calls.is_empty()) {
        events.push(WireEvent::Warning(
            "the model called a tool although none was offered; ignoring the call".to_owned(),
        ));
    }
}
