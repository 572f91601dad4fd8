//! OpenAI's chat, which nearly all servers speak, each with names of its own
//! for what OpenAI has not.

use serde_json::{Map, Value, json};

use super::{Request, Said, count, others, text};
use crate::engine::server::Kind;
use crate::inference::{Finish, Origin, Prompt, REPEAT_LAST_TOKENS, Usage};

pub(super) fn body(request: &Request<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    if let Prompt::Chat(messages) = request.prompt {
        let messages: Vec<Value> = messages
            .iter()
            .map(|it| json!({ "role": it.role.as_str(), "content": it.content }))
            .collect();
        body.insert("messages".to_owned(), messages.into());
    }
    sampling(request, &mut body);
    reasoning(request, &mut body);
    body
}

/// What chat and completion have in common. All that a server honours is sent,
/// since each has defaults of its own.
pub(super) fn sampling(request: &Request<'_>, body: &mut Map<String, Value>) {
    let Request {
        kind,
        settings,
        stream,
        ..
    } = request;
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", request.model.into());
    put("stream", (*stream).into());
    if *stream {
        put("stream_options", json!({ "include_usage": true }));
    }
    put("temperature", settings.temperature.value.into());
    put("top_p", settings.top_p.value.into());
    if *kind != Kind::OpenAi {
        put("top_k", settings.top_k.value.into());
        put("min_p", settings.min_p.value.into());
        let name = match kind {
            Kind::Vllm => "repetition_penalty",
            _ => "repeat_penalty",
        };
        put(name, settings.repeat_penalty.value.into());
    }
    let penalty = |given: Option<crate::inference::Given<f64>>| given.map_or(0.0, |it| it.value);
    put(
        "presence_penalty",
        penalty(settings.presence_penalty).into(),
    );
    put(
        "frequency_penalty",
        penalty(settings.frequency_penalty).into(),
    );
    if let Some(seed) = settings.seed {
        put("seed", seed.value.into());
    }
    match (request.max_tokens, kind) {
        (Some(tokens), _) => put("max_tokens", tokens.into()),
        // Left out, the window's own limit would hold.
        (None, Kind::LmStudio | Kind::LlamaServer | Kind::LlamaRouter) => {
            put("max_tokens", (-1).into());
        }
        (None, _) => {}
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
    if matches!(kind, Kind::LlamaServer | Kind::LlamaRouter) {
        put("repeat_last_n", REPEAT_LAST_TOKENS.into());
        // What is taken from the cache is computed in other batches, and
        // rounding then changes what a seed draws.
        if settings.seed.is_some_and(|it| it.origin != Origin::Default) {
            put("cache_prompt", false.into());
        }
        if *stream {
            put("return_progress", true.into());
        }
    }
    for (key, value) in others(request) {
        put(key, value);
    }
}

fn reasoning(request: &Request<'_>, body: &mut Map<String, Value>) {
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
    // Templates know no levels, only whether.
    if matches!(
        request.kind,
        Kind::LlamaServer | Kind::LlamaRouter | Kind::Vllm
    ) {
        body.insert(
            "chat_template_kwargs".to_owned(),
            json!({ "enable_thinking": level != "off" }),
        );
    }
}

pub(super) fn chunk(value: &Value, said: &mut Vec<Said>) {
    common(value, said);
    if let Some(choice) = first_choice(value) {
        if let Some(delta) = choice.get("delta") {
            message(delta, said);
        }
        finish(choice, said);
    }
}

pub(super) fn whole(value: &Value, said: &mut Vec<Said>) {
    common(value, said);
    if let Some(choice) = first_choice(value) {
        if let Some(it) = choice.get("message").or_else(|| choice.get("delta")) {
            message(it, said);
        }
        finish(choice, said);
        ended(said);
    }
}

/// An answer that came whole has ended, also when nobody says why.
pub(super) fn ended(said: &mut Vec<Said>) {
    if !said.iter().any(|it| matches!(it, Said::Finish(_))) {
        said.push(Said::Finish(Finish::End));
    }
    said.push(Said::Done);
}

pub(super) fn first_choice(value: &Value) -> Option<&Value> {
    let choices = value.get("choices")?.as_array()?;
    // Only one answer was asked for.
    choices
        .iter()
        .find(|it| it.get("index").is_none_or(|it| it == 0))
}

pub(super) fn common(value: &Value, said: &mut Vec<Said>) {
    if let Some(model) = text(value, "model") {
        said.push(Said::Model(model));
    }
    if let Some(progress) = value.get("prompt_progress").filter(|it| it.is_object()) {
        let (done, total) = (count(progress, "processed"), count(progress, "total"));
        said.push(Said::Prefill {
            progress: share(done, total),
            tokens: Some(total),
        });
    }
    if let Some(usage) = value.get("usage").filter(|it| it.is_object()) {
        said.push(Said::Usage(Usage {
            prompt_tokens: count(usage, "prompt_tokens"),
            completion_tokens: count(usage, "completion_tokens"),
        }));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share that is shown to people"
)]
fn share(done: u32, total: u32) -> f32 {
    done as f32 / total.max(1) as f32
}

fn message(delta: &Value, said: &mut Vec<Said>) {
    // Two names for the same; a server that sends both says the same twice.
    let reasoning = text(delta, "reasoning_content").or_else(|| text(delta, "reasoning"));
    said.extend(reasoning.map(Said::Reasoning));
    match delta.get("content") {
        Some(Value::String(content)) if !content.is_empty() => {
            said.push(Said::Text(content.clone()));
        }
        // Some answer in parts, as OpenAI takes them.
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|it| text(it, "text"));
            said.extend(texts.map(Said::Text));
        }
        _ => {}
    }
    // Some tell of a refusal in a field of its own.
    said.extend(text(delta, "refusal").map(Said::Text));
    if delta
        .get("tool_calls")
        .and_then(Value::as_array)
        .is_some_and(|it| !it.is_empty())
    {
        said.push(Said::Warning(
            "the model called a tool, which nobody asked for; the call is left out".to_owned(),
        ));
    }
}

pub(super) fn finish(choice: &Value, said: &mut Vec<Said>) {
    let Some(reason) = text(choice, "finish_reason") else {
        return;
    };
    let known = match reason.as_str() {
        "stop" | "eos" | "eos_token" | "tool_calls" | "function_call" => Finish::End,
        "length" | "max_tokens" => Finish::Length,
        other => {
            said.push(Said::Warning(format!(
                "the server ended the answer for the reason `{other}`"
            )));
            Finish::End
        }
    };
    said.push(Said::Finish(known));
}
