//! What a server has: its models and those of them that are loaded, in one
//! shape for all kinds of server.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Trouble, Whole};
use super::{Kind, Server, fault};
use crate::engine::Error;

/// How long a list may take: LM Studio looks through its folders.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// A model that a server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// What requests name.
    pub(super) id: String,
    /// Other names for exactly this model.
    pub(super) aliases: Vec<String>,
    /// Its instances, the first one first.
    pub(super) loaded: Vec<Loaded>,
    /// Tokens of context that it was made for.
    pub(super) declared: Option<u32>,
    pub(super) architecture: Option<String>,
    pub(super) quantization: Option<String>,
    /// Bytes on disk.
    pub(super) size_bytes: Option<u64>,
    pub(super) vision: bool,
    pub(super) tools: bool,
    /// Embedding models cannot answer.
    pub(super) embeds_only: bool,
    /// Levels of reasoning that it takes, where the server says so.
    pub(super) reasoning: Option<Vec<String>>,
    /// Whether LM Studio's own chat endpoint and its loading by request are there.
    pub(super) has_studio_chat: bool,
}

/// A model in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) id: String,
    pub(super) context: Option<u32>,
}

/// Marks of models that were trained to answer, in their names.
const INSTRUCT_MARKS: [&str; 6] = ["instruct", "chat", "-it", "assistant", "thinking", "coder"];
/// Marks of models that only go on with a text.
const BASE_MARKS: [&str; 3] = ["-base", "_base", "-pt"];

impl Listed {
    /// A guess by the name; few models that people run are base models.
    pub(super) fn is_instruct(&self) -> bool {
        let name = self.id.to_lowercase();
        INSTRUCT_MARKS.iter().any(|it| name.contains(it))
            || !BASE_MARKS.iter().any(|it| name.contains(it))
    }
}

/// Asks for the models.
///
/// # Errors
/// The server does not answer, or wants a key.
pub(super) async fn list(server: &Server) -> Result<Vec<Listed>, Error> {
    match server.kind {
        Kind::LmStudio => studio(server).await,
        Kind::Ollama => ollama(server).await,
        Kind::LlamaServer => llama_server(server).await,
        Kind::LlamaRouter => Ok(router(&get(server, "/models").await?)),
        Kind::Vllm | Kind::OpenAi => Ok(openai(&get(server, "/v1/models").await?)),
    }
}

/// Asks for what a list does not say, of the one model that was chosen. What
/// cannot be had stays unknown.
pub(super) async fn complete(server: &Server, listed: &mut Listed) {
    if server.kind != Kind::Ollama {
        return;
    }
    let body = json!({ "model": listed.id });
    let asked = async {
        let response = server.client.post("/api/show", &body).await.ok()?;
        server.client.whole(response).await.ok()?.json()
    };
    if let Ok(Some(shown)) = tokio::time::timeout(LIST_LIMIT, asked).await {
        read_show(&shown, listed);
    }
}

/// How many inferences an instance runs at once, where the server says so: LM
/// Studio in its list, llama-server and its router in their properties.
pub(super) async fn slots(server: &Server, instance: &str) -> Option<u32> {
    let slots = match server.kind {
        Kind::LmStudio => {
            let list = get(server, "/api/v1/models").await.ok()?;
            entries(&list, "models")
                .flat_map(|it| entries(it, "loaded_instances"))
                .find(|it| word(it, "id").as_deref() == Some(instance))
                .and_then(|it| number(it.get("config")?, "parallel"))
        }
        Kind::LlamaServer => number(&get(server, "/props").await.ok()?, "total_slots"),
        Kind::LlamaRouter => number(
            &super::router::props(server, instance).await?,
            "total_slots",
        ),
        Kind::Ollama | Kind::Vllm | Kind::OpenAi => None,
    };
    slots.filter(|it| *it > 0)
}

pub(super) async fn get(server: &Server, path: &str) -> Result<Value, Error> {
    let answer = server.client.get(path, LIST_LIMIT).await;
    let whole = answer.map_err(|trouble| unreachable(server, &trouble))?;
    read(server, path, &whole)
}

pub(super) fn unreachable(server: &Server, trouble: &Trouble) -> Error {
    match trouble {
        Trouble::ConnectTimeout(limit) => Error::ConnectTimeout {
            engine: server.shown(),
            limit: *limit,
        },
        other => Error::Unreachable {
            engine: server.shown(),
            why: server.client.redact(&other.to_string()),
        },
    }
}

/// The JSON of a good answer; the error of a bad one.
pub(super) fn read(server: &Server, path: &str, whole: &Whole) -> Result<Value, Error> {
    let failed = |fault: fault::Fault| match fault.kind {
        fault::FaultKind::Auth => Error::Unauthorised {
            engine: server.shown(),
            had_key: server.client.has_key(),
            message: server.client.redact(&fault.message),
        },
        _ => Error::Server {
            engine: server.shown(),
            model: String::new(),
            fault: Box::new(fault::Fault {
                message: server.client.redact(&fault.message),
                ..fault
            }),
        },
    };
    if !(200..300).contains(&whole.status) {
        return Err(failed(fault::of_response(whole.status, None, &whole.body)));
    }
    let Some(value) = whole.json() else {
        return Err(Error::NotAServer {
            url: server.client.base().to_owned(),
            what: format!("{path} is no JSON"),
        });
    };
    match fault::in_value(&value) {
        Some(fault) => Err(failed(fault)),
        None => Ok(value),
    }
}

fn word(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn number(value: &Value, key: &str) -> Option<u32> {
    u32::try_from(value.get(key)?.as_u64()?).ok()
}

fn bytes(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64().filter(|it| *it > 0)
}

fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn words(value: &Value, key: &str) -> Vec<String> {
    entries(value, key)
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect()
}

/// The newest list that this LM Studio has: 0.4.0 brought `/api/v1`, 0.3.6
/// `/api/v0`.
async fn studio(server: &Server) -> Result<Vec<Listed>, Error> {
    let newest = get(server, "/api/v1/models").await;
    if let Ok(value) = &newest
        && value.get("models").is_some_and(Value::is_array)
    {
        return Ok(studio_v1(value));
    }
    if let Err(error @ (Error::Unauthorised { .. } | Error::Unreachable { .. })) = newest {
        return Err(error);
    }
    let older = get(server, "/api/v0/models").await;
    if let Ok(value) = &older
        && value.get("data").is_some_and(Value::is_array)
    {
        return Ok(studio_v0(value));
    }
    Ok(openai(&get(server, "/v1/models").await?)
        .into_iter()
        .map(|it| Listed {
            // This list holds all that is downloaded.
            loaded: Vec::new(),
            ..it
        })
        .collect())
}

/// What LM Studio's list with states says of the first of these names that it
/// has: `not-loaded`, `loading` or `loaded`.
pub(super) async fn studio_state(server: &Server, names: &[&str]) -> Result<Option<String>, Error> {
    let list = get(server, "/api/v0/models").await?;
    Ok(names.iter().find_map(|name| {
        let entry = entries(&list, "data").find(|it| word(it, "id").as_deref() == Some(name))?;
        word(entry, "state")
    }))
}

fn studio_v1(value: &Value) -> Vec<Listed> {
    entries(value, "models")
        .filter_map(|model| {
            let mut aliases = words(model, "variants");
            aliases.extend(word(model, "selected_variant"));
            Some(Listed {
                id: word(model, "key")?,
                aliases,
                loaded: entries(model, "loaded_instances")
                    .filter_map(|it| {
                        Some(Loaded {
                            id: word(it, "id")?,
                            context: it.get("config").and_then(|it| number(it, "context_length")),
                        })
                    })
                    .collect(),
                declared: number(model, "max_context_length"),
                architecture: word(model, "architecture"),
                quantization: model.get("quantization").and_then(|it| word(it, "name")),
                size_bytes: bytes(model, "size_bytes"),
                vision: is_true(model, "/capabilities/vision"),
                tools: is_true(model, "/capabilities/trained_for_tool_use"),
                embeds_only: word(model, "type").as_deref() == Some("embedding"),
                reasoning: model
                    .pointer("/capabilities/reasoning")
                    .map(|it| words(it, "allowed_options")),
                has_studio_chat: true,
            })
        })
        .collect()
}

fn studio_v0(value: &Value) -> Vec<Listed> {
    entries(value, "data")
        .filter_map(|model| {
            let id = word(model, "id")?;
            let is_loaded = word(model, "state").as_deref() == Some("loaded");
            let loaded = is_loaded.then(|| Loaded {
                id: id.clone(),
                context: number(model, "loaded_context_length"),
            });
            Some(Listed {
                id,
                loaded: loaded.into_iter().collect(),
                declared: number(model, "max_context_length"),
                architecture: word(model, "arch"),
                quantization: word(model, "quantization"),
                vision: word(model, "type").as_deref() == Some("vlm"),
                tools: words(model, "capabilities")
                    .iter()
                    .any(|it| it == "tool_use"),
                embeds_only: word(model, "type").as_deref() == Some("embeddings"),
                ..Listed::default()
            })
        })
        .collect()
}

/// The tag that Ollama adds to a name that has none.
const LATEST: &str = ":latest";

async fn ollama(server: &Server) -> Result<Vec<Listed>, Error> {
    let tags = get(server, "/api/tags").await?;
    let running = get(server, "/api/ps").await?;
    Ok(ollama_lists(&tags, &running))
}

fn ollama_lists(tags: &Value, running: &Value) -> Vec<Listed> {
    let name = |it: &Value| word(it, "model").or_else(|| word(it, "name"));
    entries(tags, "models")
        .filter_map(|model| {
            let id = name(model)?;
            let loaded = entries(running, "models")
                .filter(|it| name(it).as_ref() == Some(&id))
                .map(|it| Loaded {
                    id: id.clone(),
                    context: number(it, "context_length"),
                })
                .collect();
            let capabilities = words(model, "capabilities");
            let details = model.get("details").unwrap_or(&Value::Null);
            Some(Listed {
                aliases: id
                    .strip_suffix(LATEST)
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                loaded,
                declared: number(details, "context_length"),
                architecture: word(details, "family"),
                quantization: word(details, "quantization_level"),
                size_bytes: bytes(model, "size"),
                vision: capabilities.iter().any(|it| it == "vision"),
                tools: capabilities.iter().any(|it| it == "tools"),
                embeds_only: embeds_only(&capabilities),
                id,
                ..Listed::default()
            })
        })
        .collect()
}

fn embeds_only(capabilities: &[String]) -> bool {
    let has = |name: &str| capabilities.iter().any(|it| it == name);
    has("embedding") && !has("completion")
}

fn read_show(shown: &Value, listed: &mut Listed) {
    let info = shown.get("model_info").unwrap_or(&Value::Null);
    if let Some(architecture) = word(info, "general.architecture") {
        let context = number(info, &format!("{architecture}.context_length"));
        listed.declared = context.or(listed.declared);
        listed.architecture = Some(architecture);
    }
    if shown.get("capabilities").is_some() {
        let capabilities = words(shown, "capabilities");
        let thinks = capabilities.iter().any(|it| it == "thinking");
        // One that thinks takes levels that nobody lists.
        listed.reasoning = (!thinks).then(Vec::new);
    }
}

async fn llama_server(server: &Server) -> Result<Vec<Listed>, Error> {
    let models = get(server, "/v1/models").await?;
    // Old builds, and those behind a proxy, may keep it to themselves.
    let props = get(server, "/props").await.unwrap_or_default();
    Ok(llama_lists(&models, &props))
}

fn llama_lists(models: &Value, props: &Value) -> Vec<Listed> {
    let context = props
        .get("default_generation_settings")
        .and_then(|it| number(it, "n_ctx"));
    entries(models, "data")
        .filter_map(|model| {
            let id = word(model, "id")?;
            let mut aliases = words(model, "aliases");
            let path = word(props, "model_path");
            for name in [Some(id.clone()), path, word(props, "model_alias")]
                .into_iter()
                .flatten()
            {
                // The server names a model by its file; people by the file's name.
                let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
                aliases.extend([file, file.trim_end_matches(".gguf")].map(str::to_owned));
                aliases.push(name);
            }
            aliases.retain(|it| !it.is_empty() && *it != id);
            Some(Listed {
                loaded: vec![Loaded {
                    id: id.clone(),
                    context,
                }],
                declared: model.get("meta").and_then(|it| number(it, "n_ctx_train")),
                size_bytes: model.get("meta").and_then(|it| bytes(it, "size")),
                aliases,
                id,
                ..Listed::default()
            })
        })
        .collect()
}

fn router(models: &Value) -> Vec<Listed> {
    entries(models, "data")
        .filter_map(|model| {
            let id = word(model, "id")?;
            let status = model.pointer("/status/value").and_then(Value::as_str);
            // One that is being loaded is waited for, as LM Studio's are.
            let is_loaded = matches!(status, Some("loaded" | "sleeping" | "loading"));
            Some(Listed {
                loaded: is_loaded
                    .then(|| Loaded {
                        id: id.clone(),
                        context: None,
                    })
                    .into_iter()
                    .collect(),
                id,
                ..Listed::default()
            })
        })
        .collect()
}

/// These servers have their models loaded, or do not say.
fn openai(models: &Value) -> Vec<Listed> {
    entries(models, "data")
        .filter_map(|model| {
            let id = word(model, "id")?;
            let context = number(model, "max_model_len");
            Some(Listed {
                loaded: vec![Loaded {
                    id: id.clone(),
                    context,
                }],
                declared: context,
                id,
                ..Listed::default()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lm_studio_lists_models_and_instances() {
        let value = json!({"models": [
            {"type": "llm", "key": "qwen/qwen3-4b", "architecture": "qwen3", "max_context_length": 40960,
             "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
             "variants": ["qwen/qwen3-4b@q4_k_m"], "capabilities": {"reasoning": {"allowed_options": ["off", "on"]}},
             "loaded_instances": [{"id": "qwen/qwen3-4b:2", "config": {"context_length": 8192}}]},
            {"type": "embedding", "key": "nomic", "loaded_instances": [], "quantization": null},
            {"no": "key"},
        ]});
        let listed = studio_v1(&value);
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].aliases, ["qwen/qwen3-4b@q4_k_m"]);
        assert_eq!(listed[0].loaded[0].context, Some(8192));
        assert_eq!(listed[0].reasoning.as_deref().unwrap(), ["off", "on"]);
        assert!(listed[1].embeds_only);
        let value = json!({"object": "list", "data": [
            {"id": "a", "state": "loaded", "loaded_context_length": 4096, "max_context_length": 8192, "type": "llm"},
            {"id": "b", "state": "not-loaded", "type": "vlm"},
        ]});
        let listed = studio_v0(&value);
        assert_eq!(listed[0].loaded[0].context, Some(4096));
        assert!(listed[1].loaded.is_empty() && !listed[1].has_studio_chat);
    }

    #[test]
    fn ollama_names_may_leave_out_latest() {
        let tags = json!({"models": [
            {"name": "llama3.2:latest", "model": "llama3.2:latest", "details": {"family": "llama", "quantization_level": "Q4_K_M"}},
            {"name": "nomic", "model": "nomic", "capabilities": ["embedding"]},
        ]});
        let running = json!({"models": [{"model": "llama3.2:latest", "context_length": 4096}]});
        let mut listed = ollama_lists(&tags, &running);
        assert_eq!(listed[0].aliases, ["llama3.2"]);
        assert_eq!(listed[0].loaded[0].context, Some(4096));
        assert!(listed[1].embeds_only);
        read_show(
            &json!({"model_info": {"general.architecture": "llama", "llama.context_length": 131_072}, "capabilities": ["completion"]}),
            &mut listed[0],
        );
        assert_eq!(listed[0].declared, Some(131_072));
        assert_eq!(listed[0].reasoning, Some(vec![]));
    }

    #[test]
    fn a_llama_server_answers_to_its_files_name() {
        let models = json!({"data": [{"id": "/m/demo.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048}}]});
        let props =
            json!({"default_generation_settings": {"n_ctx": 1024}, "model_path": "/m/demo.gguf"});
        let listed = llama_lists(&models, &props);
        assert!(listed[0].aliases.iter().any(|it| it == "demo"));
        assert_eq!(
            (listed[0].declared, listed[0].loaded[0].context),
            (Some(2048), Some(1024))
        );
    }
}
