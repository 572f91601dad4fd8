//! The models of a server and their loaded instances: which request lists them on
//! which kind of server.

mod json_fields;
mod llama_cpp;
mod lmstudio;
mod ollama;
mod openai;

use serde_json::{Map, Value};

pub(super) use lmstudio::lmstudio_state;

use super::detected_server::Server;
use super::json_request::get_json;
use super::listed_model::{ListedModel, Listing};
use super::router_props;
use super::server_kind::ServerKind;
use crate::engine::Error;
use json_fields::{array_items, string_field, u32_field};
use llama_cpp::{list_llama_router, list_llama_server};
use lmstudio::list_lmstudio;
use ollama::{apply_ollama_show, list_ollama, show_model};
use openai::list_openai;

/// Lists the models of a server.
///
/// # Errors
/// Returns an error if the server does not answer or requires a key.
pub(super) async fn list_models(server: &Server) -> Result<Vec<ListedModel>, Error> {
    Ok(request_listing(server, Map::new()).await?.models)
}

/// Lists the models of a server. `kept` is [`Listing::kept`] of an earlier list, which is
/// valid if the fingerprint is the same.
///
/// # Errors
/// Returns an error if the server does not answer or requires a key.
pub(super) async fn request_listing(
    server: &Server,
    kept: Map<String, Value>,
) -> Result<Listing, Error> {
    match server.kind {
        ServerKind::LmStudio => list_lmstudio(server).await,
        ServerKind::Ollama => list_ollama(server, kept).await,
        ServerKind::LlamaServer => list_llama_server(server, kept).await,
        ServerKind::LlamaRouter => list_llama_router(server).await,
        ServerKind::Vllm | ServerKind::OpenAi => list_openai(server).await,
    }
}

/// Requests details of one model that the list lacks. Details that are not
/// available stay `None`.
pub(super) async fn fill_details(server: &Server, listed: &mut ListedModel) {
    if server.kind == ServerKind::Ollama
        && let Some(details) = show_model(server, &listed.id).await
    {
        apply_ollama_show(&details, listed);
    }
}

/// Fills details of one model of a listing, which keeps them.
pub(super) async fn fill_and_keep_details(
    server: &Server,
    listed: &mut ListedModel,
    kept: &mut Map<String, Value>,
) {
    let Some(digest) = listed.digest.clone() else {
        return fill_details(server, listed).await;
    };
    if !kept.contains_key(&digest)
        && let Some(details) = show_model(server, &listed.id).await
    {
        kept.insert(digest.clone(), details);
    }
    if let Some(details) = kept.get(&digest) {
        apply_ollama_show(details, listed);
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
