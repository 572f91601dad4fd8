//! Lists servers with their models, for the catalog of all engines.

use futures_util::stream::{self, StreamExt};

use super::detect::{ConnectTimeouts, detect_all};
use super::listed_model::ListedModel;
use super::model_list::{fill_details, list_models};
use super::server_address::ServerAddress;
use crate::engine::{CatalogEngine, CatalogModel, Error, LoadedInstance};

/// The number of concurrent requests for details of models.
const DETAIL_REQUESTS: usize = 16;

/// Lists the servers at `addresses` with their models.
///
/// # Errors
/// Returns an error if no server answers.
pub(in crate::engine) async fn catalog_servers(
    addresses: &[ServerAddress],
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Vec<CatalogEngine>, Error> {
    let mut servers = Vec::new();
    for server in detect_all(addresses, is_explicit, timeouts).await? {
        let models = match list_models(&server).await {
            Ok(mut listed) => {
                // Ollama's list has no context lengths.
                let incomplete = listed.iter_mut().filter(|model| model.declared.is_none());
                stream::iter(incomplete)
                    .for_each_concurrent(DETAIL_REQUESTS, |model| fill_details(&server, model))
                    .await;
                Ok(listed.into_iter().map(catalog_model).collect())
            }
            Err(error) => Err(error.to_string()),
        };
        servers.push(CatalogEngine {
            address: server.client.base_url().to_owned(),
            kind: server.kind.name(),
            display_name: server.display_name(),
            version: server.version,
            models,
            problems: Vec::new(),
        });
    }
    Ok(servers)
}

fn catalog_model(listed: ListedModel) -> CatalogModel {
    let instances = listed.instances.into_iter().map(|instance| LoadedInstance {
        id: instance.id,
        context: instance.context,
        is_owned: false,
    });
    CatalogModel {
        instances: instances.collect(),
        id: listed.id,
        aliases: listed.aliases,
        declared_context: listed.declared,
        architecture: listed.architecture,
        quantization: listed.quantization,
        size_bytes: listed.size_bytes,
        context_bytes_per_token: None,
        vision: listed.supports_vision,
        tools: listed.supports_tools,
        generates_no_text: listed.generates_no_text,
    }
}
