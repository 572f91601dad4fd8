//! The OpenAI-compatible endpoints, `/v1` and `/api/v0`, chat and raw, streamed and not.
//! They ignore unknown keys.

use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::studio::Fault;
use super::studio_answer::{Generation, GenerationRequest, Token, count_tokens, stops};
use super::studio_routes::{complete, error, ok, reply};
use super::studio_state::{RequestGuard, Shared};
use super::studio_stream::{
    AnswerPieces, EventFormat, Piece, collect_answer, overflow_message, stream,
};

/// The four endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenAiEndpoint {
    Chat,
    ChatV0,
    Raw,
    RawV0,
}

impl OpenAiEndpoint {
    fn is_chat(self) -> bool {
        matches!(self, Self::Chat | Self::ChatV0)
    }

    fn is_v0(self) -> bool {
        matches!(self, Self::ChatV0 | Self::RawV0)
    }
}

pub(crate) async fn run(
    shared: &Arc<Shared>,
    endpoint: OpenAiEndpoint,
    body: &Value,
    guard: RequestGuard,
) -> Response {
    let streamed = body["stream"] == true;
    if let Some(response) = early_fault_response(shared, streamed).await {
        return complete(guard, response);
    }
    let format = body["response_format"]["type"].as_str();
    if format.is_some_and(|format| !matches!(format, "json_schema" | "text")) {
        let text = "'response_format.type' must be 'json_schema' or 'text'";
        return complete(
            guard,
            reply(StatusCode::BAD_REQUEST, &json!({ "error": text })),
        );
    }
    let instance = match shared.instance_for_request(body).await {
        Ok(instance) => instance,
        Err(response) => return complete(guard, response),
    };
    let request = generation_request(endpoint, body);
    let faults = shared.setup.prompt_faults.iter();
    let mut faults = faults.filter(|(text, _)| request.prompt.contains(text));
    let fault = match faults.next() {
        Some((_, fault)) => fault.clone(),
        None => shared.lock().fault.clone(),
    };
    if count_tokens(&request.prompt) >= instance.context as usize && fault == Fault::None {
        let text = overflow_message(count_tokens(&request.prompt), instance.context);
        return complete(
            guard,
            reply(StatusCode::BAD_REQUEST, &json!({ "error": text })),
        );
    }
    let mut generation = Generation::new(&shared.setup.answer, &request, instance.context);
    if fault == Fault::OverflowEmpty {
        generation = generation.without_tokens();
    }
    let model = match &fault {
        Fault::WrongModel(other) => other.clone(),
        _ => instance.id.clone(),
    };
    if streamed && fault != Fault::PlainBody {
        let events = OpenAiEvents {
            endpoint,
            model,
            includes_usage: body["stream_options"]["include_usage"] == true,
            reasoning_field: shared.setup.reasoning_field,
            is_first: true,
        };
        return stream(
            AnswerPieces::new(shared, events, generation, fault, &instance.id),
            guard,
        );
    }
    let (reasoning, text) = collect_answer(shared, &mut generation, &guard).await;
    let mut choice =
        json!({"index": 0, "logprobs": null, "finish_reason": generation.finish().reason()});
    if endpoint.is_chat() {
        choice["message"] = json!({"role": "assistant", "content": text});
        if !reasoning.is_empty() {
            choice["message"][shared.setup.reasoning_field] = json!(reasoning);
        }
    } else {
        choice["text"] = json!(text);
    }
    let mut answer = json!({
        "id": "chatcmpl-fake", "object": object(endpoint, false), "created": 1_731_990_317, "model": model,
        "choices": [choice], "usage": usage(&generation),
    });
    if endpoint.is_v0() {
        answer["stats"] = json!({
            "tokens_per_second": 51.4, "time_to_first_token": 0.111, "generation_time": 0.954,
            "stop_reason": generation.finish().stop_reason(),
        });
        answer["model_info"] = json!({"arch": "qwen3", "quant": "Q4_K_M", "format": "gguf", "context_length": instance.context});
        answer["runtime"] =
            json!({"name": "llama.cpp", "version": "1.3.0", "supported_formats": ["gguf"]});
    }
    complete(guard, ok(&answer))
}

/// Returns the response of a fault that occurs before the answer is generated.
pub(crate) async fn early_fault_response(shared: &Shared, streamed: bool) -> Option<Response> {
    let fault = {
        let mut state = shared.lock();
        let fault = state.fault.clone();
        match &mut state.fault {
            Fault::Busy { times, .. } | Fault::LoadingFor(times) => {
                *times = times.saturating_sub(1)
            }
            _ => {}
        }
        fault
    };
    match fault {
        Fault::SilentBeforeFirstByte => std::future::pending().await,
        Fault::OverflowString => {
            let text = overflow_message(9000, 4096);
            Some(reply(StatusCode::BAD_REQUEST, &json!({ "error": text })))
        }
        Fault::Html500 => {
            let page = "<!DOCTYPE html><html><head><title>Error</title></head><body><pre>Internal Server Error</pre></body></html>";
            let head = [(CONTENT_TYPE, "text/html; charset=utf-8")];
            Some((StatusCode::INTERNAL_SERVER_ERROR, head, page).into_response())
        }
        Fault::RefusesStream if streamed => Some(error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "streaming is not supported by this model",
            "",
        )),
        Fault::Busy { times, retry_after } if times > 0 => {
            let text = "Too many requests";
            let mut response = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit", text, "");
            if let Some(seconds) = retry_after {
                let value = HeaderValue::from_str(&seconds.to_string()).unwrap();
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            Some(response)
        }
        Fault::LoadingFor(times) if times > 0 => Some(reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        )),
        _ => None,
    }
}

fn generation_request(endpoint: OpenAiEndpoint, body: &Value) -> GenerationRequest {
    let texts: Vec<&str> = body["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|message| message["content"].as_str())
        .collect();
    let prompt = if endpoint.is_chat() {
        texts.join("\n")
    } else {
        body["prompt"].as_str().unwrap_or_default().to_owned()
    };
    GenerationRequest {
        last_message: texts
            .last()
            .map_or_else(|| prompt.clone(), |text| (*text).to_owned()),
        prompt,
        is_raw: !endpoint.is_chat(),
        temperature: body["temperature"].as_f64(),
        seed: body["seed"].as_i64(),
        // -1 means no limit.
        limit: body["max_tokens"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok()),
        stops: stops(&body["stop"]),
        reasons: endpoint.is_chat() && body["reasoning_effort"] != "none",
    }
}

fn object(endpoint: OpenAiEndpoint, streamed: bool) -> &'static str {
    match (endpoint.is_chat(), streamed) {
        (true, true) => "chat.completion.chunk",
        (true, false) => "chat.completion",
        (false, _) => "text_completion",
    }
}

fn usage(generation: &Generation) -> Value {
    let (prompt, completion) = (generation.prompt_tokens, generation.completion_tokens());
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// The event format of OpenAI.
struct OpenAiEvents {
    endpoint: OpenAiEndpoint,
    model: String,
    includes_usage: bool,
    reasoning_field: &'static str,
    is_first: bool,
}

impl OpenAiEvents {
    fn event(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut value = json!({
            "id": "chatcmpl-fake", "object": object(self.endpoint, true), "created": 1_731_990_317,
            "model": self.model, "system_fingerprint": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        format!("data: {value}\n\n")
    }
}

impl EventFormat for OpenAiEvents {
    fn head(&mut self) -> Vec<Piece> {
        Vec::new()
    }

    fn token(&mut self, token: &Token) -> String {
        let mut choice = json!({"index": 0, "logprobs": null, "finish_reason": null});
        if self.endpoint.is_chat() {
            let field = if token.reasoning {
                self.reasoning_field
            } else {
                "content"
            };
            choice["delta"] = json!({ field: token.text });
            if std::mem::take(&mut self.is_first) {
                choice["delta"]["role"] = json!("assistant");
            }
        } else {
            choice["text"] = json!(token.text);
        }
        self.event(&json!([choice]), None)
    }

    fn tail(&mut self, generation: &Generation, done: bool) -> String {
        let mut choice =
            json!({"index": 0, "logprobs": null, "finish_reason": generation.finish().reason()});
        if self.endpoint.is_chat() {
            choice["delta"] = json!({});
        } else {
            choice["text"] = json!("");
        }
        let mut text = self.event(&json!([choice]), None);
        if self.includes_usage {
            text += &self.event(&json!([]), Some(usage(generation)));
        }
        if done {
            text += "data: [DONE]\n\n";
        }
        text
    }

    fn error(&mut self, message: &str, _generation: &Generation) -> String {
        let data = json!({"error": {"message": message}});
        format!("event: error\ndata: {data}\n\n")
    }
}
