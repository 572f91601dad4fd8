//! LM Studio's own endpoints since 0.4.0, `/api/v1`: load, unload and chat. Each rejects
//! unknown keys.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::studio::Fault;
use super::studio_answer::{Generation, GenerationRequest, Token};
use super::studio_chat::early_fault_response;
use super::studio_routes::{complete, error, load_config, ok};
use super::studio_state::{LoadError, RequestGuard, Shared};
use super::studio_stream::{AnswerPieces, EventFormat, Piece, collect_answer, stream};

const LOAD_KEYS: [&str; 7] = [
    "model",
    "context_length",
    "eval_batch_size",
    "flash_attention",
    "num_experts",
    "offload_kv_cache_to_gpu",
    "echo_load_config",
];

const CHAT_KEYS: [&str; 15] = [
    "model",
    "input",
    "system_prompt",
    "integrations",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "max_output_tokens",
    "reasoning",
    "context_length",
    "store",
    "previous_response_id",
];

fn invalid_request(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request", message, "")
}

/// Returns the error for keys that are not in `known`.
fn unrecognized_keys(body: &Value, known: &[&str]) -> Option<Response> {
    let unknown: Vec<String> = body
        .as_object()?
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| format!("'{key}'"))
        .collect();
    (!unknown.is_empty()).then(|| {
        invalid_request(&format!(
            "Unrecognized key(s) in object: {}",
            unknown.join(", ")
        ))
    })
}

fn missing_parameter(param: &str) -> Response {
    error(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        &format!("\"{param}\" is required"),
        "missing_required_parameter",
    )
}

fn not_found(name: &str) -> Response {
    let text = format!("Model '{name}' not found");
    error(StatusCode::NOT_FOUND, "model_not_found", &text, "")
}

pub(crate) async fn load(shared: &Arc<Shared>, body: &Value) -> Response {
    if let Some(response) = unrecognized_keys(body, &LOAD_KEYS) {
        return response;
    }
    let Some(name) = body["model"].as_str() else {
        return missing_parameter("model");
    };
    let Some(model) = shared.model(name) else {
        return not_found(name);
    };
    let context = body["context_length"]
        .as_u64()
        .and_then(|tokens| u32::try_from(tokens).ok());
    // The load continues if the client disconnects.
    let (owned_shared, owned_model) = (Arc::clone(shared), model.clone());
    let load = tokio::spawn(async move { owned_shared.load(&owned_model, context, false).await });
    match load.await.unwrap() {
        Err(LoadError(message)) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            &message,
            "",
        ),
        Ok(instance) => {
            let mut answer = json!({
                "type": if model.kind == "embedding" { "embedding" } else { "llm" },
                "instance_id": instance.id, "load_time_seconds": 0.1, "status": "loaded",
            });
            if body["echo_load_config"] == true {
                answer["load_config"] = load_config(instance.context);
            }
            ok(&answer)
        }
    }
}

pub(crate) fn unload(shared: &Shared, body: &Value) -> Response {
    if let Some(response) = unrecognized_keys(body, &["instance_id"]) {
        return response;
    }
    let Some(id) = body["instance_id"].as_str() else {
        return missing_parameter("instance_id");
    };
    if shared.unload(id) {
        ok(&json!({ "instance_id": id }))
    } else {
        not_found(id)
    }
}

pub(crate) async fn chat(shared: &Arc<Shared>, body: &Value, guard: RequestGuard) -> Response {
    if let Some(response) = unrecognized_keys(body, &CHAT_KEYS) {
        return complete(guard, response);
    }
    let streamed = body["stream"] == true;
    if let Some(response) = early_fault_response(shared, streamed).await {
        return complete(guard, response);
    }
    if body["temperature"]
        .as_f64()
        .is_some_and(|temperature| !(0.0..=1.0).contains(&temperature))
    {
        return complete(
            guard,
            invalid_request("Number must be less than or equal to 1"),
        );
    }
    let Some(input) = input_text(&body["input"]) else {
        return complete(guard, missing_parameter("input"));
    };
    let was_cold = shared
        .find_instance(body["model"].as_str().unwrap_or_default())
        .is_none();
    let instance = match shared.instance_for_request(body).await {
        Ok(instance) => instance,
        Err(response) => return complete(guard, response),
    };
    let system = body["system_prompt"].as_str().unwrap_or_default();
    let request = GenerationRequest {
        prompt: format!("{system}\n{input}"),
        last_message: input,
        is_raw: false,
        temperature: body["temperature"].as_f64(),
        seed: None,
        limit: body["max_output_tokens"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok()),
        stops: Vec::new(),
        reasons: body["reasoning"] != "off",
    };
    let fault = shared.lock().fault.clone();
    let mut generation = Generation::new(&shared.setup.answer, &request, instance.context);
    if fault == Fault::OverflowEmpty {
        generation = generation.without_tokens();
    }
    let model = match &fault {
        Fault::WrongModel(other) => other.clone(),
        _ => instance.id.clone(),
    };
    let response_id = (body["store"] != false).then(|| {
        let mut state = shared.lock();
        let id = format!("resp_{}", state.responses.len());
        state.responses.push(id.clone());
        id
    });
    let mut events = V1Events {
        model,
        was_cold,
        response_id,
        reasoning: String::new(),
        text: String::new(),
        open_part: None,
    };
    if streamed && fault != Fault::PlainBody {
        return stream(
            AnswerPieces::new(shared, events, generation, fault, &instance.id),
            guard,
        );
    }
    let (reasoning, text) = collect_answer(shared, &mut generation, &guard).await;
    events.reasoning = reasoning;
    events.text = text;
    complete(guard, ok(&events.result(&generation)))
}

/// The named events of `/api/v1/chat`. They keep the answer, because the last event repeats
/// it.
struct V1Events {
    model: String,
    was_cold: bool,
    response_id: Option<String>,
    reasoning: String,
    text: String,
    open_part: Option<&'static str>,
}

impl V1Events {
    fn result(&self, generation: &Generation) -> Value {
        let mut output = Vec::new();
        if !self.reasoning.is_empty() {
            output.push(json!({"type": "reasoning", "content": self.reasoning}));
        }
        output.push(json!({"type": "message", "content": self.text}));
        let mut result = json!({
            "model_instance_id": self.model, "output": output,
            "stats": {
                "input_tokens": generation.prompt_tokens, "total_output_tokens": generation.generated_tokens,
                "reasoning_output_tokens": generation.reasoning_tokens, "tokens_per_second": 43.7,
                "time_to_first_token_seconds": 0.7,
            },
        });
        if let Some(id) = &self.response_id {
            result["response_id"] = json!(id);
        }
        result
    }

    fn end_part(&mut self) -> String {
        self.open_part
            .take()
            .map_or_else(String::new, |part| event(&format!("{part}.end"), json!({})))
    }
}

fn event(kind: &str, fields: Value) -> String {
    let mut value = fields;
    value["type"] = json!(kind);
    format!("event: {kind}\ndata: {value}\n\n")
}

impl EventFormat for V1Events {
    fn head(&mut self) -> Vec<Piece> {
        let id = json!({"model_instance_id": self.model});
        let mut text = event("chat.start", id.clone());
        if self.was_cold {
            text += &event("model_load.start", id.clone());
            let mut progress = id.clone();
            progress["progress"] = json!(0.5);
            text += &event("model_load.progress", progress);
            let mut end = id;
            end["load_time_seconds"] = json!(0.1);
            text += &event("model_load.end", end);
        }
        text += &event("prompt_processing.start", json!({}));
        text += &event("prompt_processing.progress", json!({"progress": 0.5}));
        text += &event("prompt_processing.end", json!({}));
        vec![Piece::Text(text)]
    }

    fn token(&mut self, token: &Token) -> String {
        let part = if token.reasoning {
            "reasoning"
        } else {
            "message"
        };
        let mut text = String::new();
        if self.open_part != Some(part) {
            text += &self.end_part();
            text += &event(&format!("{part}.start"), json!({}));
            self.open_part = Some(part);
        }
        let answer = if token.reasoning {
            &mut self.reasoning
        } else {
            &mut self.text
        };
        answer.push_str(&token.text);
        text + &event(&format!("{part}.delta"), json!({"content": token.text}))
    }

    fn tail(&mut self, generation: &Generation, done: bool) -> String {
        let mut text = self.end_part();
        if done {
            text += &event("chat.end", json!({"result": self.result(generation)}));
        }
        text
    }

    fn error(&mut self, message: &str, generation: &Generation) -> String {
        let fault = json!({"error": {"type": "unknown", "message": message}});
        let mut text = event("error", fault);
        text += &self.tail(generation, true);
        text
    }
}

/// Returns the text of an input: a string, or a list of messages and images.
fn input_text(input: &Value) -> Option<String> {
    if let Some(text) = input.as_str() {
        return Some(text.to_owned());
    }
    let items = input.as_array()?.iter();
    let texts = items.filter_map(|item| item["content"].as_str());
    Some(texts.collect::<Vec<_>>().join("\n"))
}
