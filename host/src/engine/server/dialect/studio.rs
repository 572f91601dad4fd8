//! LM Studio's own chat, `/api/v1/chat`: named events, with progress, and a
//! closed list of keys.

use serde_json::{Map, Value};

use super::{Request, Said, count, text};
use crate::engine::server::fault;
use crate::inference::{Finish, Prompt, Role, Usage};

pub(super) fn body(request: &Request<'_>) -> Map<String, Value> {
    let settings = request.settings;
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    if let Prompt::Chat(messages) = request.prompt {
        let of = |role: Role| -> String {
            messages
                .iter()
                .filter(|it| it.role == role)
                .map(|it| it.content.as_str())
                .collect::<Vec<_>>()
                .join("\n\n")
        };
        put("input", of(Role::User).into());
        let system = of(Role::System);
        if !system.is_empty() {
            put("system_prompt", system.into());
        }
    }
    put("stream", request.stream.into());
    // Nothing of ours stays in the server's history.
    put("store", false.into());
    put("temperature", settings.temperature.value.into());
    put("top_p", settings.top_p.value.into());
    put("top_k", settings.top_k.value.into());
    put("min_p", settings.min_p.value.into());
    put("repeat_penalty", settings.repeat_penalty.value.into());
    if let Some(tokens) = request.max_tokens {
        put("max_output_tokens", tokens.into());
    }
    if let Some(level) = &settings.reasoning {
        put("reasoning", level.value.as_str().into());
    }
    body
}

pub(super) fn event(value: &Value, said: &mut Vec<Said>) {
    let progress = || value.get("progress").and_then(Value::as_f64);
    let content = || text(value, "content");
    match value.get("type").and_then(Value::as_str) {
        Some("chat.start") => said.extend(text(value, "model_instance_id").map(Said::Model)),
        Some("model_load.start" | "model_load.progress") => {
            said.push(Said::Loading(progress().map(narrow)));
        }
        Some("prompt_processing.start" | "prompt_processing.progress") => {
            said.push(Said::Prefill {
                progress: progress().map_or(0.0, narrow),
                tokens: None,
            });
        }
        Some("reasoning.delta") => said.extend(content().map(Said::Reasoning)),
        Some("message.delta") => said.extend(content().map(Said::Text)),
        Some("error") => said.push(Said::Fault(
            fault::in_value(value).unwrap_or_else(|| fault::of_text("an error without a word")),
        )),
        Some("chat.end") => {
            if let Some(result) = value.get("result") {
                counts(result, said);
            }
            said.extend([Said::Finish(Finish::End), Said::Done]);
        }
        _ => {}
    }
}

pub(super) fn whole(value: &Value, said: &mut Vec<Said>) {
    said.extend(text(value, "model_instance_id").map(Said::Model));
    for part in value
        .get("output")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let content = text(part, "content");
        match part.get("type").and_then(Value::as_str) {
            Some("reasoning") => said.extend(content.map(Said::Reasoning)),
            Some("message") => said.extend(content.map(Said::Text)),
            _ => {}
        }
    }
    counts(value, said);
    said.extend([Said::Finish(Finish::End), Said::Done]);
}

fn counts(result: &Value, said: &mut Vec<Said>) {
    if let Some(stats) = result.get("stats") {
        said.push(Said::Usage(Usage {
            prompt_tokens: count(stats, "input_tokens"),
            completion_tokens: count(stats, "total_output_tokens"),
        }));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
fn narrow(progress: f64) -> f32 {
    progress as f32
}
