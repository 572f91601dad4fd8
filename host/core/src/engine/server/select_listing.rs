//! Selects a model in the servers' lists. Pure. Names must match exactly: a
//! part of a name never selects a model.

use std::sync::Arc;

use super::detected_server::Server;
use super::listed_model::{ListedInstance, ListedModel, Listing};
use super::remembered::RememberedServer;
use crate::engine::Error;
use crate::suggest::similar_names;

/// Maximum number of names in an error message.
const MAX_NAMES_SHOWN: usize = 20;

/// The names by which a model is selected, in the order of precedence.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct ModelNames<'a> {
    /// The name given for this run, of a model or an instance.
    pub(in crate::engine) requested: Option<&'a str>,
    /// The configured default, used if no name is given and not exactly one
    /// model is loaded.
    pub(in crate::engine) fallback: Option<&'a str>,
    /// The model used last, used if nothing else selects a model.
    pub(in crate::engine) last_used: Option<&'a str>,
}

/// A server with its list.
#[derive(Debug)]
pub(super) struct ListedServer {
    pub(super) server: Arc<Server>,
    pub(super) listing: Listing,
    /// The server as it was remembered, if its list confirmed it.
    pub(super) recalled: Option<RememberedServer>,
}

impl ListedServer {
    /// A server that was not remembered.
    pub(super) fn new(server: Server, listing: Listing) -> Self {
        Self {
            server: Arc::new(server),
            listing,
            recalled: None,
        }
    }
}

/// A selected model.
#[derive(Debug, PartialEq)]
pub(super) struct SelectedListing {
    /// The index of the server in the lists.
    pub(super) server_index: usize,
    pub(super) listed: ListedModel,
    pub(super) instance: Option<ListedInstance>,
}

/// Selects the requested model, else the only loaded one, else the configured
/// default, else the model used last.
///
/// # Errors
/// Returns an error if no server has the requested or configured model, or if
/// nothing selects a model.
pub(super) fn select_listing(
    lists: &[ListedServer],
    names: ModelNames<'_>,
) -> Result<SelectedListing, Error> {
    let servers: Vec<String> = lists
        .iter()
        .map(|list| list.server.display_name())
        .collect();
    let models: Vec<&[ListedModel]> = lists.iter().map(|list| &list.listing.models[..]).collect();
    select_among(&models, names, &servers.join(", "))
}

fn select_among(
    lists: &[&[ListedModel]],
    names: ModelNames<'_>,
    engines: &str,
) -> Result<SelectedListing, Error> {
    let all = || {
        lists
            .iter()
            .enumerate()
            .flat_map(|(index, listed)| listed.iter().map(move |model| (index, model)))
    };
    if let Some(name) = names.requested {
        return find_by_name(all(), name, engines);
    }
    let with_text = || all().filter(|(_, model)| !model.generates_no_text);
    let mut loaded = with_text().filter(|(_, model)| !model.instances.is_empty());
    if let (Some((index, listed)), None) = (loaded.next(), loaded.next()) {
        return Ok(selected(index, listed, None));
    }
    if let Some(name) = names.fallback {
        return find_by_name(all(), name, engines);
    }
    // The model used last may no longer exist, which is not an error.
    if let Some(Ok(last)) = names
        .last_used
        .map(|name| find_by_name(all(), name, engines))
    {
        return Ok(last);
    }
    let names_of = |is_loaded: bool| -> Vec<String> {
        with_text()
            .filter(|(_, model)| model.instances.is_empty() != is_loaded)
            .map(|(_, model)| model.id.clone())
            .take(MAX_NAMES_SHOWN)
            .collect()
    };
    Err(Error::ModelNotSpecified {
        engine: engines.to_owned(),
        loaded: names_of(true),
        not_loaded: names_of(false),
    })
}

fn find_by_name<'a>(
    all: impl Iterator<Item = (usize, &'a ListedModel)> + Clone,
    name: &str,
    engines: &str,
) -> Result<SelectedListing, Error> {
    let matching: Vec<(usize, &ListedModel)> = all
        .clone()
        .filter(|(_, model)| model.is_named(name))
        .collect();
    // Of several servers that have the model, prefer one that has it loaded.
    let best = matching
        .iter()
        .find(|(_, model)| !model.instances.is_empty())
        .or(matching.first());
    if let Some((index, listed)) = best {
        return Ok(selected(*index, listed, Some(name)));
    }
    let known: Vec<&str> = all.map(|(_, model)| model.id.as_str()).collect();
    Err(Error::UnknownServerModel {
        engine: engines.to_owned(),
        name: name.to_owned(),
        similar: similar_names(name, known.iter().copied()),
        available: known
            .into_iter()
            .take(MAX_NAMES_SHOWN)
            .map(str::to_owned)
            .collect(),
    })
}

fn selected(server_index: usize, listed: &ListedModel, name: Option<&str>) -> SelectedListing {
    let by_name = listed
        .instances
        .iter()
        .find(|instance| Some(instance.id.as_str()) == name);
    SelectedListing {
        server_index,
        listed: listed.clone(),
        instance: by_name.or(listed.instances.first()).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, loaded: &[&str]) -> ListedModel {
        let loaded = loaded.iter().map(|id| ListedInstance {
            id: (*id).to_owned(),
            context: None,
        });
        ListedModel {
            id: id.to_owned(),
            aliases: vec![format!("{id}@q4")],
            instances: loaded.collect(),
            ..ListedModel::default()
        }
    }

    #[test]
    fn selects_by_name_then_loaded_then_fallback() {
        let embedding = ListedModel {
            generates_no_text: true,
            ..model("embed", &["embed"])
        };
        let studio = [
            model("qwen3-4b", &[]),
            model("gemma", &["gemma", "gemma:2"]),
            embedding,
        ];
        let ollama = [model("llama", &["llama"]), model("qwen3-4b", &["qwen3-4b"])];
        let first: &[&[ListedModel]] = &[&studio];
        let both: &[&[ListedModel]] = &[&studio, &ollama];
        for (lists, name, fallback, last, expected) in [
            (
                first,
                Some("qwen3-4b"),
                None,
                None,
                Ok((0, "qwen3-4b", None)),
            ),
            (
                first,
                Some("qwen3-4b@q4"),
                None,
                None,
                Ok((0, "qwen3-4b", None)),
            ),
            (
                first,
                Some("gemma:2"),
                None,
                None,
                Ok((0, "gemma", Some("gemma:2"))),
            ),
            (
                first,
                None,
                Some("qwen3-4b"),
                None,
                Ok((0, "gemma", Some("gemma"))),
            ),
            (
                both,
                None,
                Some("gemma"),
                None,
                Ok((0, "gemma", Some("gemma"))),
            ),
            (
                both,
                Some("qwen3-4b"),
                None,
                None,
                Ok((1, "qwen3-4b", Some("qwen3-4b"))),
            ),
            (first, Some("qwen"), None, None, Err("unknown")),
            // An explicit name beats the type.
            (
                first,
                Some("embed"),
                None,
                None,
                Ok((0, "embed", Some("embed"))),
            ),
            (both, None, None, None, Err("which")),
            (
                both,
                None,
                None,
                Some("llama"),
                Ok((1, "llama", Some("llama"))),
            ),
            (both, None, None, Some("gone"), Err("which")),
            (&[], None, None, None, Err("which")),
        ] {
            let names = ModelNames {
                requested: name,
                fallback,
                last_used: last,
            };
            let result = select_among(lists, names, "server");
            let result = match &result {
                Ok(selected) => Ok((
                    selected.server_index,
                    selected.listed.id.as_str(),
                    selected
                        .instance
                        .as_ref()
                        .map(|instance| instance.id.as_str()),
                )),
                Err(Error::UnknownServerModel { .. }) => Err("unknown"),
                Err(_) => Err("which"),
            };
            assert_eq!(result, expected, "{name:?} {fallback:?}");
        }
    }
}
