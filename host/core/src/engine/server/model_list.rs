//! The models of a server and their loaded instances, in one form for all kinds
//! of server.

use serde_json::{Value, json};

use super::json_request::{LIST_TIMEOUT, get_json};
use super::{Server, ServerKind, router_props};
use crate::engine::Error;

/// A model in a server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedModel {
    /// The identifier that requests use.
    pub(super) id: String,
    /// Other names of exactly this model.
    pub(super) aliases: Vec<String>,
    /// The loaded instances in the server's order.
    pub(super) instances: Vec<ListedInstance>,
    /// Declared context length in tokens.
    pub(super) declared: Option<u32>,
    pub(super) architecture: Option<String>,
    pub(super) quantization: Option<String>,
    /// Size on disk in bytes.
    pub(super) size_bytes: Option<u64>,
    pub(super) supports_vision: bool,
    pub(super) supports_tools: bool,
    /// `true` for an embedding model, which cannot generate text.
    pub(super) is_embedding_only: bool,
    /// The reasoning levels that the model accepts, if the server reports them.
    pub(super) reasoning_levels: Option<Vec<String>>,
    /// `true` if the server has LM Studio's native chat and load endpoints
    /// (0.4.0 or newer).
    pub(super) has_lmstudio_chat: bool,
}

/// A loaded instance in a server's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedInstance {
    pub(super) id: String,
    /// Effective context length in tokens, if known.
    pub(super) context: Option<u32>,
}

/// Parts of the names of instruction-tuned models.
const INSTRUCT_MARKS: [&str; 6] = ["instruct", "chat", "-it", "assistant", "thinking", "coder"];
/// Parts of the names of base models, which only continue a text.
const BASE_MARKS: [&str; 3] = ["-base", "_base", "-pt"];

impl ListedModel {
    /// Returns `true` if the model is probably instruction-tuned, judged by its
    /// name. Few models in use are base models.
    pub(super) fn is_instruct(&self) -> bool {
        let name = self.id.to_lowercase();
        INSTRUCT_MARKS.iter().any(|mark| name.contains(mark))
            || !BASE_MARKS.iter().any(|mark| name.contains(mark))
    }
}

/// Lists the models of a server.
///
/// # Errors
/// Returns an error if the server does not answer or requires a key.
pub(super) async fn list_models(server: &Server) -> Result<Vec<ListedModel>, Error> {
    match server.kind {
        ServerKind::LmStudio => list_lmstudio(server).await,
        ServerKind::Ollama => list_ollama(server).await,
        ServerKind::LlamaServer => list_llama_server(server).await,
        ServerKind::LlamaRouter => Ok(parse_llama_router(&get_json(server, "/models").await?)),
        ServerKind::Vllm | ServerKind::OpenAi => {
            Ok(parse_openai(&get_json(server, "/v1/models").await?))
        }
    }
}

/// Requests details of one model that the list lacks. Details that are not
/// available stay `None`.
pub(super) async fn fill_details(server: &Server, listed: &mut ListedModel) {
    if server.kind != ServerKind::Ollama {
        return;
    }
    let body = json!({ "model": listed.id });
    let response = async {
        let response = server.client.post("/api/show", &body).await.ok()?;
        server.client.read_body(response).await.ok()?.json()
    };
    if let Ok(Some(details)) = tokio::time::timeout(LIST_TIMEOUT, response).await {
        apply_ollama_show(&details, listed);
    }
}

/// Returns the number of inferences that an instance runs in parallel, if the
/// server reports it: LM Studio in its list, llama-server and its router in
/// `/props`.
pub(super) async fn parallel_slots(server: &Server, instance: &str) -> Option<u32> {
    let slots = match server.kind {
        ServerKind::LmStudio => {
            let list = get_json(server, "/api/v1/models").await.ok()?;
            array_items(&list, "models")
                .flat_map(|model| array_items(model, "loaded_instances"))
                .find(|loaded| string_field(loaded, "id").as_deref() == Some(instance))
                .and_then(|loaded| u32_field(loaded.get("config")?, "parallel"))
        }
        ServerKind::LlamaServer => {
            u32_field(&get_json(server, "/props").await.ok()?, "total_slots")
        }
        ServerKind::LlamaRouter => {
            u32_field(&router_props::props(server, instance).await?, "total_slots")
        }
        ServerKind::Ollama | ServerKind::Vllm | ServerKind::OpenAi => None,
    };
    slots.filter(|count| *count > 0)
}

fn string_field(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn u32_field(value: &Value, key: &str) -> Option<u32> {
    u32::try_from(value.get(key)?.as_u64()?).ok()
}

fn size_field(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64().filter(|size| *size > 0)
}

fn is_true_at(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

fn array_items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn string_array(value: &Value, key: &str) -> Vec<String> {
    array_items(value, key)
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// Lists the models by the newest API that this LM Studio has: `/api/v1` since
/// 0.4.0, `/api/v0` since 0.3.6.
async fn list_lmstudio(server: &Server) -> Result<Vec<ListedModel>, Error> {
    let newest = get_json(server, "/api/v1/models").await;
    if let Ok(value) = &newest
        && value.get("models").is_some_and(Value::is_array)
    {
        return Ok(parse_lmstudio_v1(value));
    }
    if let Err(error @ (Error::Unauthorised { .. } | Error::Unreachable { .. })) = newest {
        return Err(error);
    }
    let older = get_json(server, "/api/v0/models").await;
    if let Ok(value) = &older
        && value.get("data").is_some_and(Value::is_array)
    {
        return Ok(parse_lmstudio_v0(value));
    }
    Ok(parse_openai(&get_json(server, "/v1/models").await?)
        .into_iter()
        .map(|model| ListedModel {
            // This list has all downloaded models, loaded or not.
            instances: Vec::new(),
            ..model
        })
        .collect())
}

/// Returns the state of the first of `names` that LM Studio's `/api/v0` list
/// contains: `not-loaded`, `loading` or `loaded`.
pub(super) async fn lmstudio_state(
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
                supports_vision: is_true_at(model, "/capabilities/vision"),
                supports_tools: is_true_at(model, "/capabilities/trained_for_tool_use"),
                is_embedding_only: string_field(model, "type").as_deref() == Some("embedding"),
                reasoning_levels: model
                    .pointer("/capabilities/reasoning")
                    .map(|reasoning| string_array(reasoning, "allowed_options")),
                has_lmstudio_chat: true,
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
                supports_vision: string_field(model, "type").as_deref() == Some("vlm"),
                supports_tools: string_array(model, "capabilities")
                    .iter()
                    .any(|capability| capability == "tool_use"),
                is_embedding_only: string_field(model, "type").as_deref() == Some("embeddings"),
                ..ListedModel::default()
            })
        })
        .collect()
}

/// The tag that Ollama adds to names without one.
const LATEST_TAG: &str = ":latest";

async fn list_ollama(server: &Server) -> Result<Vec<ListedModel>, Error> {
    let tags = get_json(server, "/api/tags").await?;
    let running = get_json(server, "/api/ps").await?;
    Ok(parse_ollama(&tags, &running))
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
                supports_vision: capabilities.iter().any(|name| name == "vision"),
                supports_tools: capabilities.iter().any(|name| name == "tools"),
                is_embedding_only: is_embedding_only(&capabilities),
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

fn is_embedding_only(capabilities: &[String]) -> bool {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    has("embedding") && !has("completion")
}

/// Applies Ollama's response to `/api/show` to a listed model.
fn apply_ollama_show(details: &Value, listed: &mut ListedModel) {
    let info = details.get("model_info").unwrap_or(&Value::Null);
    if let Some(architecture) = string_field(info, "general.architecture") {
        let context = u32_field(info, &format!("{architecture}.context_length"));
        listed.declared = context.or(listed.declared);
        listed.architecture = Some(architecture);
    }
    if details.get("capabilities").is_some() {
        let capabilities = string_array(details, "capabilities");
        let can_reason = capabilities.iter().any(|name| name == "thinking");
        // Ollama does not list the levels of a model with reasoning.
        listed.reasoning_levels = (!can_reason).then(Vec::new);
    }
}

async fn list_llama_server(server: &Server) -> Result<Vec<ListedModel>, Error> {
    let models = get_json(server, "/v1/models").await?;
    // Old builds and proxies may not provide `/props`.
    let props = get_json(server, "/props").await.unwrap_or_default();
    Ok(parse_llama_server(&models, &props))
}

fn parse_llama_server(models: &Value, props: &Value) -> Vec<ListedModel> {
    let context = props
        .get("default_generation_settings")
        .and_then(|settings| u32_field(settings, "n_ctx"));
    array_items(models, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let mut aliases = string_array(model, "aliases");
            let path = string_field(props, "model_path");
            for name in [Some(id.clone()), path, string_field(props, "model_alias")]
                .into_iter()
                .flatten()
            {
                // The server uses the path as the model's name; users use the
                // file name.
                let file_name = name.rsplit(['/', '\\']).next().unwrap_or_default();
                aliases.extend([file_name, file_name.trim_end_matches(".gguf")].map(str::to_owned));
                aliases.push(name);
            }
            aliases.retain(|alias| !alias.is_empty() && *alias != id);
            Some(ListedModel {
                instances: vec![ListedInstance {
                    id: id.clone(),
                    context,
                }],
                declared: model
                    .get("meta")
                    .and_then(|meta| u32_field(meta, "n_ctx_train")),
                size_bytes: model.get("meta").and_then(|meta| size_field(meta, "size")),
                aliases,
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

fn parse_llama_router(models: &Value) -> Vec<ListedModel> {
    array_items(models, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let status = model.pointer("/status/value").and_then(Value::as_str);
            // Loading models count, as with LM Studio; the caller waits for
            // them.
            let is_loaded = matches!(status, Some("loaded" | "sleeping" | "loading"));
            Some(ListedModel {
                instances: is_loaded
                    .then(|| ListedInstance {
                        id: id.clone(),
                        context: None,
                    })
                    .into_iter()
                    .collect(),
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

/// Parses the list of an OpenAI-compatible server. Such servers have their
/// models loaded or do not report it, so that each model counts as loaded.
fn parse_openai(models: &Value) -> Vec<ListedModel> {
    array_items(models, "data")
        .filter_map(|model| {
            let id = string_field(model, "id")?;
            let context = u32_field(model, "max_model_len");
            Some(ListedModel {
                instances: vec![ListedInstance {
                    id: id.clone(),
                    context,
                }],
                declared: context,
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
        assert!(listed[1].is_embedding_only);
        let value = json!({"object": "list", "data": [
            {"id": "a", "state": "loaded", "loaded_context_length": 4096, "max_context_length": 8192, "type": "llm"},
            {"id": "b", "state": "not-loaded", "type": "vlm"},
        ]});
        let listed = parse_lmstudio_v0(&value);
        assert_eq!(listed[0].instances[0].context, Some(4096));
        assert!(listed[1].instances.is_empty() && !listed[1].has_lmstudio_chat);
    }

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
        assert!(listed[1].is_embedding_only);
        apply_ollama_show(
            &json!({"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}, "capabilities": ["completion"]}),
            &mut listed[0],
        );
        assert_eq!(listed[0].declared, Some(131_072));
        assert_eq!(listed[0].reasoning_levels, Some(vec![]));
    }

    #[test]
    fn llama_server_model_has_file_name_aliases() {
        let models = json!({"data": [{"id": "/m/demo.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048}}]});
        let props =
            json!({"default_generation_settings": {"n_ctx": 1024}, "model_path": "/m/demo.gguf"});
        let listed = parse_llama_server(&models, &props);
        assert!(listed[0].aliases.iter().any(|alias| alias == "demo"));
        assert_eq!(
            (listed[0].declared, listed[0].instances[0].context),
            (Some(2048), Some(1024))
        );
    }
}
