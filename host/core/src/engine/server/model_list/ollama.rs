//! Ollama's lists of models.

use serde_json::{Map, Value, json};

use super::json_fields::{array_items, size_field, string_array, string_field, u32_field};
use crate::engine::Error;
use crate::engine::reasoning::tag_opened_by_template;
use crate::engine::server::detected_server::Server;
use crate::engine::server::json_request::{LIST_TIMEOUT, get_json};
use crate::engine::server::listed_model::{ListedInstance, ListedModel, Listing};

/// The tag that Ollama adds to names without one.
const LATEST_TAG: &str = ":latest";

/// Lists the models. The details of models are kept by their digest.
pub(super) async fn list_ollama(
    server: &Server,
    mut kept: Map<String, Value>,
) -> Result<Listing, Error> {
    let tags = get_json(server, "/api/tags").await?;
    let running = get_json(server, "/api/ps").await?;
    let models = parse_ollama(&tags, &running);
    kept.retain(|digest, _| {
        models
            .iter()
            .any(|model| model.digest.as_ref() == Some(digest))
    });
    Ok(Listing {
        // Servers that imitate one of these lists do not have both.
        fingerprint: (models.iter().any(|model| model.digest.is_some()))
            .then(|| "/api/tags and /api/ps".to_owned()),
        models,
        kept,
    })
}

/// Requests the details of a model, as far as [`apply_ollama_show`] uses them.
pub(super) async fn show_model(server: &Server, id: &str) -> Option<Value> {
    let body = json!({ "model": id });
    let response = async {
        let response = server.client.post("/api/show", &body).await.ok()?;
        server.client.read_body(response).await.ok()?.json()
    };
    let details = tokio::time::timeout(LIST_TIMEOUT, response).await.ok()??;
    let info = details.get("model_info").and_then(Value::as_object);
    let is_used = |key: &str| key == "general.architecture" || key.ends_with(".context_length");
    let info: Map<String, Value> = info
        .into_iter()
        .flatten()
        .filter(|(key, _)| is_used(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut used = Map::from_iter([("model_info".to_owned(), info.into())]);
    for key in ["capabilities", "template"] {
        used.extend(
            details
                .get(key)
                .map(|value| (key.to_owned(), value.clone())),
        );
    }
    Some(used.into())
}

fn parse_ollama(tags: &Value, running: &Value) -> Vec<ListedModel> {
    let name = |model: &Value| string_field(model, "model").or_else(|| string_field(model, "name"));
    array_items(tags, "models")
        .filter_map(|model| {
            let id = name(model)?;
            let loaded = array_items(running, "models")
                .filter(|instance| name(instance).as_ref() == Some(&id))
                .map(|instance| ListedInstance {
                    id: id.clone(),
                    context: u32_field(instance, "context_length"),
                })
                .collect();
            let capabilities = string_array(model, "capabilities");
            let details = model.get("details").unwrap_or(&Value::Null);
            Some(ListedModel {
                aliases: id
                    .strip_suffix(LATEST_TAG)
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                instances: loaded,
                declared: u32_field(details, "context_length"),
                architecture: string_field(details, "family"),
                quantization: string_field(details, "quantization_level"),
                size_bytes: size_field(model, "size"),
                digest: string_field(model, "digest").filter(|digest| !digest.is_empty()),
                supports_vision: supports_vision(&capabilities),
                supports_tools: capabilities.iter().any(|name| name == "tools"),
                generates_no_text: generates_no_text(&capabilities, &id),
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

/// Returns whether the model takes images; `None` if the server reports no capabilities.
fn supports_vision(capabilities: &[String]) -> Option<bool> {
    (!capabilities.is_empty()).then(|| capabilities.iter().any(|name| name == "vision"))
}

/// Older versions report no capabilities in the list.
fn generates_no_text(capabilities: &[String], id: &str) -> bool {
    if capabilities.is_empty() {
        return ListedModel::generates_no_text_by_name(id);
    }
    !capabilities.iter().any(|name| name == "completion")
}

/// Applies Ollama's response to `/api/show` to a listed model.
pub(super) fn apply_ollama_show(details: &Value, listed: &mut ListedModel) {
    let info = details.get("model_info").unwrap_or(&Value::Null);
    if let Some(architecture) = string_field(info, "general.architecture") {
        let context = u32_field(info, &format!("{architecture}.context_length"));
        listed.declared = context.or(listed.declared);
        listed.architecture = Some(architecture);
    }
    if details.get("capabilities").is_some() {
        let capabilities = string_array(details, "capabilities");
        listed.generates_no_text = generates_no_text(&capabilities, &listed.id);
        listed.supports_vision = supports_vision(&capabilities);
        let can_reason = capabilities.iter().any(|name| name == "thinking");
        // Ollama does not list the levels of a model with reasoning.
        listed.reasoning_levels = (!can_reason).then(Vec::new);
        // Ollama itself separates the reasoning of a model with this capability.
        listed.opened_tag = string_field(details, "template")
            .filter(|_| !can_reason)
            .and_then(|template| tag_opened_by_template(&template));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ollama_latest_tag_is_optional() {
        let tags = json!({"models": [
            {"name": "llama3.2:latest", "model": "llama3.2:latest", "details": {"family": "llama", "quantization_level": "Q4_K_M"}},
            {"name": "nomic", "model": "nomic", "capabilities": ["embedding"]},
        ]});
        let running = json!({"models": [{"model": "llama3.2:latest", "context_length": 4096}]});
        let mut listed = parse_ollama(&tags, &running);
        assert_eq!(listed[0].aliases, ["llama3.2"]);
        assert_eq!(listed[0].instances[0].context, Some(4096));
        assert!(listed[1].generates_no_text);
        let vision = |listed: &[ListedModel]| listed[0].supports_vision;
        assert_eq!(
            vision(&listed),
            None,
            "older versions report no capabilities"
        );
        apply_ollama_show(
            &json!({"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}, "capabilities": ["completion"], "template": "{{ .Prompt }}<think>"}),
            &mut listed[0],
        );
        assert_eq!(listed[0].declared, Some(131_072));
        assert_eq!(vision(&listed), Some(false));
        assert_eq!(listed[0].reasoning_levels, Some(vec![]));
        assert_eq!(listed[0].opened_tag, Some("<think>"));
    }
}
