//! Ollama's own protocol: its OpenAI one drops top-k, min-p and the context
//! without a word.

use serde_json::{Map, Value, json};

use super::{Request, Said, count, others, text};
use crate::inference::{Finish, Prompt, REPEAT_LAST_TOKENS, Usage};

pub(super) fn body(request: &Request<'_>) -> Map<String, Value> {
    let settings = request.settings;
    let mut options = Map::new();
    let mut put = |key: &str, value: Value| {
        options.insert(key.to_owned(), value);
    };
    put("temperature", settings.temperature.value.into());
    put("top_k", settings.top_k.value.into());
    put("top_p", settings.top_p.value.into());
    put("min_p", settings.min_p.value.into());
    put("repeat_penalty", settings.repeat_penalty.value.into());
    put("repeat_last_n", REPEAT_LAST_TOKENS.into());
    put(
        "presence_penalty",
        settings.presence_penalty.map_or(0.0, |it| it.value).into(),
    );
    put(
        "frequency_penalty",
        settings.frequency_penalty.map_or(0.0, |it| it.value).into(),
    );
    if let Some(seed) = settings.seed {
        put("seed", seed.value.into());
    }
    let most = request.max_tokens.map_or(Value::from(-1), Value::from);
    put("num_predict", most);
    put("stop", settings.stop.value.clone().into());
    if let Some(context) = request.context {
        // Another number than the loaded one would load the model anew.
        put("num_ctx", context.into());
    }
    for (key, value) in others(request) {
        put(key, value);
    }
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    put("stream", request.stream.into());
    put("options", options.into());
    // A prompt that does not fit is refused, and not cut in silence.
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
                .map(|it| json!({ "role": it.role.as_str(), "content": it.content }))
                .collect();
            put("messages", messages.into());
            match settings.reasoning.as_ref().map(|it| it.value.as_str()) {
                None => {}
                Some("off") => put("think", false.into()),
                Some("on") => put("think", true.into()),
                Some(level) => put("think", level.into()),
            }
        }
    }
    body
}

/// One line of a stream; a whole answer is one, too.
pub(super) fn line(value: &Value, said: &mut Vec<Said>) {
    said.extend(text(value, "model").map(Said::Model));
    let message = value.get("message").unwrap_or(value);
    said.extend(text(message, "thinking").map(Said::Reasoning));
    let content = text(message, "content").or_else(|| text(message, "response"));
    said.extend(content.map(Said::Text));
    if value.get("done") != Some(&Value::Bool(true)) {
        return;
    }
    if value.get("eval_count").is_some() || value.get("prompt_eval_count").is_some() {
        said.push(Said::Usage(Usage {
            prompt_tokens: count(value, "prompt_eval_count"),
            completion_tokens: count(value, "eval_count"),
        }));
    }
    let finish = match text(value, "done_reason").as_deref() {
        Some("length") => Finish::Length,
        _ => Finish::End,
    };
    said.extend([Said::Finish(finish), Said::Done]);
}
