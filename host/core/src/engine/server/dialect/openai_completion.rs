//! OpenAI's completions endpoint, which sends the prompt without a chat
//! template.

use lmstrix_inference::Prompt;
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::fields::non_empty_string;
use super::openai_chat::{
    first_choice, insert_common_fields, push_common_events, push_end, push_finish,
};
use super::wire::{WireEvent, WireRequest};

pub(super) fn request_body(request: &WireRequest<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    if let Prompt::Raw(prompt) = request.prompt {
        body.insert("prompt".to_owned(), prompt.as_str().into());
    }
    insert_common_fields(request, Endpoint::OpenAiCompletion, &mut body);
    body
}

pub(super) fn parse_chunk(value: &Value, events: &mut Vec<WireEvent>) {
    push_common_events(value, events);
    if let Some(choice) = first_choice(value) {
        events.extend(non_empty_string(choice, "text").map(WireEvent::Text));
        push_finish(choice, events);
    }
}

pub(super) fn parse_response(value: &Value, events: &mut Vec<WireEvent>) {
    parse_chunk(value, events);
    if first_choice(value).is_some() {
        push_end(events);
    }
}
