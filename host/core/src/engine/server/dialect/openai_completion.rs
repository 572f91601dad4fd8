//! OpenAI's completions endpoint, which sends the prompt without a chat
//! template. `openai_chat` reads its responses, too: only the field of the text is another one.

use lmstrix_inference::Prompt;
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::openai_chat::insert_common_fields;
use super::wire::WireRequest;

pub(super) fn request_body(request: &WireRequest<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    if let Prompt::Raw(prompt) = request.prompt {
        body.insert("prompt".to_owned(), prompt.as_str().into());
    }
    insert_common_fields(request, Endpoint::OpenAiCompletion, &mut body);
    body
}
