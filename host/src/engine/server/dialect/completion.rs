//! OpenAI's completion: the text as it stands, with no template around it.

use serde_json::{Map, Value};

use super::openai::{common, ended, finish, first_choice, sampling};
use super::{Request, Said, text};
use crate::inference::Prompt;

pub(super) fn body(request: &Request<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    if let Prompt::Raw(prompt) = request.prompt {
        body.insert("prompt".to_owned(), prompt.as_str().into());
    }
    sampling(request, &mut body);
    body
}

pub(super) fn chunk(value: &Value, said: &mut Vec<Said>) {
    common(value, said);
    if let Some(choice) = first_choice(value) {
        said.extend(text(choice, "text").map(Said::Text));
        finish(choice, said);
    }
}

pub(super) fn whole(value: &Value, said: &mut Vec<Said>) {
    chunk(value, said);
    if first_choice(value).is_some() {
        ended(said);
    }
}
