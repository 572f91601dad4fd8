//! Selects a model on the servers at some addresses, with the context length that
//! was requested.

use std::sync::Arc;

use lmstrix_inference::ContextSize;
use serde_json::Map;

use super::confirm::{ConfirmedListing, DetectedServer};
use super::detect::{ConnectTimeouts, detect_or_confirm_all};
use super::detected_server::Server;
use super::listed_model::{ListedModel, Listing};
use super::model_list::{fill_and_keep_details, request_listing};
use super::remembered::RememberedServers;
use super::select_listing::{ListedServer, ModelNames, SelectedListing, select_listing};
use super::server_address::ServerAddress;
use super::server_target::ServerTarget;
use crate::engine::{Error, LifecycleOptions};

/// Detects the servers at `addresses` and selects a model by `names`.
///
/// # Errors
/// Returns an error if no server answers, none has the model, the names select
/// no model, or the requested context length exceeds the declared one.
pub(in crate::engine) async fn select_target(
    addresses: &[ServerAddress],
    is_explicit: bool,
    names: ModelNames<'_>,
    context: Option<ContextSize>,
    timeouts: ConnectTimeouts,
    lifecycle: Arc<LifecycleOptions>,
) -> Result<ServerTarget, Error> {
    let model = names.requested;
    let remembered = RememberedServers::new(&lifecycle.state_dir);
    let servers =
        detect_or_confirm_all(addresses, is_explicit, timeouts, Some(&remembered)).await?;
    let mut lists = list_all(servers, model).await?;
    let SelectedListing {
        server_index,
        mut listed,
        instance: listed_instance,
    } = select_listing(&lists, names)?;
    let Some(ListedServer {
        server, listing, ..
    }) = lists.get_mut(server_index)
    else {
        return Err(Error::NoEngine {
            addresses: Vec::new(),
        });
    };
    fill_and_keep_details(server, &mut listed, &mut listing.kept).await;
    let server = Arc::clone(server);
    for list in &lists {
        let of_list = |address: &&ServerAddress| address.base_url == list.server.client.base_url();
        if let Some(address) = addresses.iter().find(of_list) {
            remembered.remember(address, &list.server, &list.listing, list.recalled.as_ref());
        }
    }
    let requested_context = resolve_context(&server, &listed, context, &lifecycle)?;
    let is_instance = |name: &&str| {
        *name != listed.id
            && listed_instance
                .as_ref()
                .is_some_and(|instance| instance.id == **name)
    };
    Ok(ServerTarget {
        server,
        requested_instance: model.filter(is_instance).map(str::to_owned),
        listed,
        listed_instance,
        requested_context,
        lifecycle,
        lease: None,
        replacement: Arc::default(),
    })
}

/// Lists the models of each server. A server with a configured kind that has no list is asked
/// for a model by its name.
///
/// # Errors
/// Returns an error if no server could list its models.
async fn list_all(
    servers: Vec<DetectedServer>,
    requested: Option<&str>,
) -> Result<Vec<ListedServer>, Error> {
    let mut lists = Vec::new();
    let mut list_error = None;
    let mut without_list = None;
    for DetectedServer { server, confirmed } in servers {
        if let Some(ConfirmedListing { listing, recalled }) = confirmed {
            lists.push(ListedServer {
                server: Arc::new(server),
                listing,
                recalled: Some(recalled),
            });
            continue;
        }
        // A server that fails to list its models must not hide those of others.
        let listed = match (request_listing(&server, Map::new()).await, requested) {
            (Err(error @ (Error::Unreachable { .. } | Error::ConnectTimeout { .. })), _) => {
                Err(error)
            }
            (Err(error), Some(_)) if server.is_configured => {
                without_list.get_or_insert(server);
                list_error = Some(error);
                continue;
            }
            (listed, _) => listed,
        };
        match listed {
            Ok(listing) => lists.push(ListedServer::new(server, listing)),
            Err(error) => list_error = Some(error),
        }
    }
    // The server is asked for the model, unless another one lists it.
    if let (Some(server), Some(name)) = (without_list, requested)
        && !lists
            .iter()
            .flat_map(|list| &list.listing.models)
            .any(|model| model.is_named(name))
    {
        let listing = Listing {
            models: vec![ListedModel::unlisted(name)],
            ..Listing::default()
        };
        lists.push(ListedServer::new(server, listing));
    }
    match list_error {
        Some(error) if lists.is_empty() => Err(error),
        _ => Ok(lists),
    }
}

/// Returns the requested context length in tokens. A percentage refers to the tested
/// context length, if there is one, else to the declared one.
///
/// # Errors
/// Returns an error if a percentage cannot be resolved, or if the requested context
/// length exceeds the declared one and `force` is not set.
fn resolve_context(
    server: &Server,
    listed: &ListedModel,
    context: Option<ContextSize>,
    lifecycle: &LifecycleOptions,
) -> Result<Option<u32>, Error> {
    let tested = lifecycle
        .known_model(server.client.base_url(), &listed.id)
        .tested;
    let requested = match (context, tested.or(listed.declared)) {
        (None, _) => None,
        (Some(ContextSize::Tokens(tokens)), _) => Some(tokens),
        (Some(ContextSize::Percent(percent)), Some(declared)) => {
            let tokens = u64::from(declared) * u64::from(percent) / 100;
            Some(u32::try_from(tokens).unwrap_or(declared).max(1))
        }
        (Some(ContextSize::Percent(_)), None) => {
            return Err(Error::InvalidContext(format!(
                "{} does not report the context length of `{}`, so a percentage cannot be \
                 resolved; give a number of tokens",
                server.display_name(),
                listed.id
            )));
        }
    };
    if let (Some(requested), Some(declared), false) = (requested, listed.declared, lifecycle.force)
        && requested > declared
    {
        return Err(Error::exceeds_declared(requested, declared));
    }
    Ok(requested)
}
