//! The models of a server and their loaded instances: which request lists them on
//! which kind of server.

mod json_fields;
mod llama_cpp;
mod lmstudio;
mod ollama;
mod openai;

use serde_json::json;

pub(super) use lmstudio::lmstudio_state;

use super::detected_server::Server;
use super::json_request::{LIST_TIMEOUT, get_json};
use super::listed_model::ListedModel;
use super::router_props;
use super::server_kind::ServerKind;
use crate::engine::Error;
use json_fields::{array_items, string_field, u32_field};
use llama_cpp::{list_llama_server, parse_llama_router};
use lmstudio::list_lmstudio;
use ollama::{apply_ollama_show, list_ollama};
use openai::parse_openai;

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

/// Returns the IDs and context lengths of the instances of all models.
pub(super) fn all_instances(models: &[ListedModel]) -> Vec<(String, Option<u32>)> {
    models
        .iter()
        .flat_map(|model| &model.instances)
        .map(|instance| (instance.id.clone(), instance.context))
        .collect()
}
