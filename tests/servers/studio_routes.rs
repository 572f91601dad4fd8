//! Routing of the fake LM Studio: records every request, checks the token, and calls the
//! endpoints. Also the formats of model lists and errors.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::studio::Model;
use super::studio_chat::{self, OpenAiEndpoint};
use super::studio_state::{Instance, RequestGuard, Shared};
use super::studio_v1;

pub(crate) async fn handle(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let guard = RequestGuard::new(&shared, &parts, &body);
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let token = parts.headers.get("authorization");
    let mut response = if is_authorized(&shared, path, token) {
        route(&shared, method, path, &body, guard).await
    } else {
        complete(guard, unauthorized())
    };
    let headers = response.headers_mut();
    headers.insert("x-powered-by", HeaderValue::from_static("Express"));
    response
}

async fn route(
    shared: &Arc<Shared>,
    method: &str,
    path: &str,
    body: &Value,
    guard: RequestGuard,
) -> Response {
    let is_v1 = path.starts_with("/api/v1/");
    if is_v1 && !shared.setup.has_v1 {
        return complete(guard, unknown_endpoint(method, path, StatusCode::OK));
    }
    match (method, path) {
        ("POST", "/v1/chat/completions") => {
            studio_chat::run(shared, OpenAiEndpoint::Chat, body, guard).await
        }
        ("POST", "/api/v0/chat/completions") => {
            studio_chat::run(shared, OpenAiEndpoint::ChatV0, body, guard).await
        }
        ("POST", "/v1/completions") => {
            studio_chat::run(shared, OpenAiEndpoint::Raw, body, guard).await
        }
        ("POST", "/api/v0/completions") => {
            studio_chat::run(shared, OpenAiEndpoint::RawV0, body, guard).await
        }
        ("POST", "/api/v1/chat") => studio_v1::chat(shared, body, guard).await,
        ("POST", "/api/v1/models/load") => {
            // Completed after the load: the client may disconnect during it.
            let response = studio_v1::load(shared, body).await;
            complete(guard, response)
        }
        ("POST", "/api/v1/models/unload") => complete(guard, studio_v1::unload(shared, body)),
        ("GET", _) => complete(guard, list(shared, path, is_v1)),
        _ => complete(
            guard,
            unknown_endpoint(method, path, unknown_endpoint_status(is_v1)),
        ),
    }
}

/// Marks the request as answered and returns its response.
pub(crate) fn complete(mut guard: RequestGuard, response: Response) -> Response {
    guard.close();
    response
}

fn list(shared: &Shared, path: &str, is_v1: bool) -> Response {
    let removed = shared.lock().removed.clone();
    let models = shared.setup.models.iter();
    let models: Vec<&Model> = models
        .filter(|model| !removed.contains(&model.key))
        .collect();
    match path {
        "/lmstudio-greeting" => ok(&json!({"lmstudio": true})),
        "/lms-status" => {
            let version = if shared.setup.has_v1 {
                "0.4.23"
            } else {
                "0.3.39"
            };
            ok(&json!({"package": "lmstudio", "version": version}))
        }
        "/api/v1/models" => {
            let all: Vec<Value> = models.iter().map(|model| model_v1(shared, model)).collect();
            ok(&json!({"models": all}))
        }
        "/api/v0/models" => {
            let all: Vec<Value> = models.iter().map(|model| model_v0(shared, model)).collect();
            ok(&json!({"object": "list", "data": all}))
        }
        "/v1/models" => {
            let keys = models.iter().map(|model| model.key.clone());
            let ids: Vec<String> = if shared.setup.jit {
                keys.collect()
            } else {
                shared
                    .lock()
                    .instances
                    .iter()
                    .map(|instance| instance.id.clone())
                    .collect()
            };
            let data = ids
                .iter()
                .map(|id| json!({"id": id, "object": "model", "owned_by": "organization_owner"}));
            ok(&json!({"object": "list", "data": data.collect::<Vec<Value>>()}))
        }
        _ => {
            if let Some(id) = path.strip_prefix("/api/v0/models/") {
                let id = percent_decode(id);
                return match shared.model(&id) {
                    Some(model) => ok(&model_v0(shared, model)),
                    None => {
                        let text = format!("Model \"{id}\" not found");
                        reply(StatusCode::NOT_FOUND, &json!({"error": text}))
                    }
                };
            }
            unknown_endpoint("GET", path, unknown_endpoint_status(is_v1))
        }
    }
}

fn instances(shared: &Shared, model: &Model) -> Vec<Instance> {
    let state = shared.lock();
    let instances = state.instances.iter();
    instances
        .filter(|instance| instance.key == model.key)
        .cloned()
        .collect()
}

fn publisher(model: &Model) -> &str {
    model
        .key
        .split_once('/')
        .map_or("unknown", |(publisher, _)| publisher)
}

fn model_v1(shared: &Shared, model: &Model) -> Value {
    let loaded: Vec<Value> = instances(shared, model)
        .iter()
        .map(|instance| {
            let mut config = load_config(instance.context);
            if let Some(slots) = shared.setup.slots {
                config["parallel"] = json!(slots);
            }
            json!({"id": instance.id, "config": config})
        })
        .collect();
    let name = model.key.rsplit('/').next();
    let mut value = json!({
        "type": if model.kind == "embedding" { "embedding" } else { "llm" },
        "publisher": publisher(model),
        "key": model.key,
        "display_name": name,
        "quantization": {"name": model.quantization, "bits_per_weight": 4},
        "size_bytes": model.size_bytes,
        "params_string": "4B",
        "loaded_instances": loaded,
        "max_context_length": model.max_context,
        "format": "gguf",
    });
    if model.kind != "embedding" {
        value["architecture"] = json!(model.architecture);
        value["capabilities"] = json!({
            "vision": model.vision || model.kind == "vlm",
            "trained_for_tool_use": true,
        });
        if model.reasoning {
            value["capabilities"]["reasoning"] =
                json!({"allowed_options": ["off", "on"], "default": "on"});
        }
    }
    value
}

fn model_v0(shared: &Shared, model: &Model) -> Value {
    let loaded = instances(shared, model);
    let ready = loaded.iter().find(|instance| instance.ready);
    let state = match (ready, loaded.is_empty()) {
        (Some(_), _) => "loaded",
        (None, false) => "loading",
        (None, true) => "not-loaded",
    };
    let kind = match model.kind {
        "embedding" => "embeddings",
        "llm" if model.vision => "vlm",
        kind => kind,
    };
    let mut value = json!({
        "id": model.key,
        "object": "model",
        "type": kind,
        "publisher": publisher(model),
        "arch": model.architecture,
        "compatibility_type": "gguf",
        "quantization": model.quantization,
        "state": state,
        "max_context_length": model.max_context,
    });
    if let Some(instance) = ready {
        value["loaded_context_length"] = json!(instance.context);
    }
    if kind != "embeddings" {
        value["capabilities"] = json!(["tool_use"]);
    }
    value
}

pub(crate) fn load_config(context: u32) -> Value {
    json!({
        "context_length": context,
        "eval_batch_size": 512,
        "flash_attention": true,
        "offload_kv_cache_to_gpu": true,
    })
}

fn is_authorized(shared: &Shared, path: &str, header: Option<&HeaderValue>) -> bool {
    let Some(token) = &shared.setup.token else {
        return true;
    };
    let header = header.and_then(|header| header.to_str().ok());
    path == "/lmstudio-greeting" || header == Some(&format!("Bearer {token}"))
}

fn unauthorized() -> Response {
    let text = "An LM Studio API token is required to make requests to this server, but none was \
        provided using the Authorization header using the 'Bearer' scheme (i.e., 'Authorization: \
        Bearer $LM_API_TOKEN'). Learn more at: https://lmstudio.ai/docs/developer/core/authentication.";
    error(
        StatusCode::UNAUTHORIZED,
        "invalid_request",
        text,
        "invalid_api_key",
    )
}

/// Outside of `/api/v1/` LM Studio answers an unknown path with status 200.
fn unknown_endpoint_status(is_v1: bool) -> StatusCode {
    if is_v1 {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    }
}

fn unknown_endpoint(method: &str, path: &str, status: StatusCode) -> Response {
    let text = format!("Unexpected endpoint or method. ({method} {path})");
    reply(status, &json!({"error": text}))
}

pub(crate) fn ok(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

pub(crate) fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = [(CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, kind, body.to_string()).into_response()
}

/// Returns an error object; an empty `code` is left out.
pub(crate) fn error(status: StatusCode, kind: &str, message: &str, code: &str) -> Response {
    let mut body = json!({"error": {"type": kind, "message": message}});
    if !code.is_empty() {
        body["error"]["code"] = json!(code);
    }
    reply(status, &body)
}

/// Decodes `%2F` etc. Invalid UTF-8 is replaced and then matches no model.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text
            .get(at + 1..at + 3)
            .filter(|_| text.as_bytes()[at] == b'%');
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            at += 3;
        } else {
            bytes.push(text.as_bytes()[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
