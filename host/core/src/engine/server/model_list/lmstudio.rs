//! LM Studio's lists of models.

use serde_json::Value;

use super::json_fields::{
    array_items, is_true_at, size_field, string_array, string_field, u32_field,
};
use super::openai::parse_openai;
use crate::engine::Error;
use crate::engine::server::detected_server::Server;
use crate::engine::server::json_request::get_json;
use crate::engine::server::listed_model::{ListedInstance, ListedModel, Listing};

/// Lists the models by the newest API that this LM Studio has: `/api/v1` since
/// 0.4.0, `/api/v0` since 0.3.6.
pub(super) async fn list_lmstudio(server: &Server) -> Result<Listing, Error> {
    let newest = get_json(server, "/api/v1/models").await;
    if let Ok(value) = &newest
        && value.get("models").is_some_and(Value::is_array)
    {
        let models = parse_lmstudio_v1(value);
        return Ok(Listing {
            // No other server has this list.
            fingerprint: (!models.is_empty()).then(|| "/api/v1/models".to_owned()),
            models,
            ..Listing::default()
        });
    }
    if let Err(
        error @ (Error::Unauthorised { .. }
        | Error::Unreachable { .. }
        | Error::ConnectTimeout { .. }),
    ) = newest
    {
        return Err(error);
    }
    let older = get_json(server, "/api/v0/models").await;
    if let Ok(value) = &older
        && value.get("data").is_some_and(Value::is_array)
    {
        return Ok(Listing {
            models: parse_lmstudio_v0(value),
            ..Listing::default()
        });
    }
    let models = parse_openai(&get_json(server, "/v1/models").await?).into_iter();
    let models = models.map(|model| ListedModel {
        // This list has all downloaded models, loaded or not.
        instances: Vec::new(),
        ..model
    });
    Ok(Listing {
        models: models.collect(),
        ..Listing::default()
    })
}

/// Returns the state of the first of `names` that LM Studio's `/api/v0` list
/// contains: `not-loaded`, `loading` or `loaded`.
pub(in crate::engine::server) async fn lmstudio_state(
    server: &Server,
    names: &[&str],
) -> Result<Option<String>, Error> {
    let list = get_json(server, "/api/v0/models").await?;
    Ok(names.iter().find_map(|name| {
        let entry = array_items(&list, "data")
            .find(|model| string_field(model, "id").as_deref() == Some(name))?;
        string_field(entry, "state")
    }))
}

fn parse_lmstudio_v1(value: &Value) -> Vec<ListedModel> {
    array_items(value, "models")
        .filter_map(|model| {
            let mut aliases = string_array(model, "variants");
            aliases.extend(string_field(model, "selected_variant"));
            Some(ListedModel {
                id: string_field(model, "key")?,
                aliases,
                instances: array_items(model, "loaded_instances")
                    .filter_map(|instance| {
                        Some(ListedInstance {
                            id: string_field(instance, "id")?,
                            context: instance
                                .get("config")
                                .and_then(|config| u32_field(config, "context_length")),
                        })
                    })
                    .collect(),
                declared: u32_field(model, "max_context_length"),
                architecture: string_field(model, "architecture"),
                quantization: model
                    .get("quantization")
                    .and_then(|quantization| string_field(quantization, "name")),
                size_bytes: size_field(model, "size_bytes"),
                supports_vision: model
                    .pointer("/capabilities/vision")
                    .and_then(Value::as_bool),
                supports_tools: is_true_at(model, "/capabilities/trained_for_tool_use"),
                generates_no_text: generates_no_text(model),
                reasoning_levels: model
                    .pointer("/capabilities/reasoning")
                    .map(|reasoning| string_array(reasoning, "allowed_options")),
                has_lmstudio_chat: true,
                ..ListedModel::default()
            })
        })
        .collect()
}

fn parse_lmstudio_v0(value: &Value) -> Vec<ListedModel> {
    array_items(value, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let is_loaded = string_field(model, "state").as_deref() == Some("loaded");
            let loaded = is_loaded.then(|| ListedInstance {
                id: id.clone(),
                context: u32_field(model, "loaded_context_length"),
            });
            Some(ListedModel {
                id,
                instances: loaded.into_iter().collect(),
                declared: u32_field(model, "max_context_length"),
                architecture: string_field(model, "arch"),
                quantization: string_field(model, "quantization"),
                supports_vision: string_field(model, "type").map(|model_type| model_type == "vlm"),
                supports_tools: string_array(model, "capabilities")
                    .iter()
                    .any(|capability| capability == "tool_use"),
                generates_no_text: generates_no_text(model),
                ..ListedModel::default()
            })
        })
        .collect()
}

/// The types of models that answer are `llm`, and `vlm` with vision.
fn generates_no_text(model: &Value) -> bool {
    let model_type = string_field(model, "type");
    model_type.is_some_and(|name| !matches!(name.as_str(), "llm" | "vlm"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parses_lmstudio_lists() {
        let value = json!({"models": [
            {"type": "llm", "key": "qwen/qwen3-4b", "architecture": "qwen3", "max_context_length": 40960,
             "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
             "variants": ["qwen/qwen3-4b@q4_k_m"], "capabilities": {"reasoning": {"allowed_options": ["off", "on"]}},
             "loaded_instances": [{"id": "qwen/qwen3-4b:2", "config": {"context_length": 8192}}]},
            {"type": "embedding", "key": "nomic", "loaded_instances": [], "quantization": null},
            {"no": "key"},
        ]});
        let listed = parse_lmstudio_v1(&value);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].aliases, ["qwen/qwen3-4b@q4_k_m"]);
        assert_eq!(listed[0].instances[0].context, Some(8192));
        assert_eq!(
            listed[0].reasoning_levels.as_deref().unwrap(),
            ["off", "on"]
        );
        assert!(listed[1].generates_no_text);
        let value = json!({"object": "list", "data": [
            {"id": "a", "state": "loaded", "loaded_context_length": 4096, "max_context_length": 8192, "type": "llm"},
            {"id": "b", "state": "not-loaded", "type": "vlm"},
        ]});
        let listed = parse_lmstudio_v0(&value);
        assert_eq!(listed[0].instances[0].context, Some(4096));
        assert!(listed[1].instances.is_empty() && !listed[1].has_lmstudio_chat);
        let vision: Vec<_> = listed.iter().map(|model| model.supports_vision).collect();
        assert_eq!(vision, [Some(false), Some(true)]);
    }
}
