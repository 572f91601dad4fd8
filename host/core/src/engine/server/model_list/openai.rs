//! The list of models of OpenAI's API.

use serde_json::Value;

use super::json_fields::{array_items, string_field, u32_field};
use crate::engine::Error;
use crate::engine::server::detected_server::Server;
use crate::engine::server::json_request::get_json;
use crate::engine::server::listed_model::{ListedInstance, ListedModel, Listing};

pub(super) async fn list_openai(server: &Server) -> Result<Listing, Error> {
    let models = get_json(server, "/v1/models").await?;
    Ok(Listing {
        models: parse_openai(&models),
        // Each kind of server names another owner.
        fingerprint: array_items(&models, "data")
            .next()
            .map(|model| string_field(model, "owned_by").unwrap_or_default()),
        ..Listing::default()
    })
}

/// Parses the list of an OpenAI-compatible server. Such servers have their
/// models loaded or do not report it, so that each model counts as loaded.
pub(super) fn parse_openai(models: &Value) -> Vec<ListedModel> {
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
                generates_no_text: ListedModel::generates_no_text_by_name(&id),
                id,
                ..ListedModel::default()
            })
        })
        .collect()
}
