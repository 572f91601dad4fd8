//! Selects all models of the engines, in a given order.

use super::error::ProbeError;
use crate::engine::{Catalog, ModelQuery};
use crate::registry::{ModelRecord, Registry, SortKey, SortRow, sort_models};

/// The models to probe out of a catalog, and their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFilter {
    /// Keywords that a model must have, as imported from lmstrix.
    pub keywords: Vec<String>,
    /// The sort key.
    pub sort_by: SortKey,
    /// True for the reversed order.
    pub is_reversed: bool,
}

/// Returns a query for each chat model of the catalog that the filter accepts. All other
/// properties of the queries are those of `query`.
///
/// # Errors
/// Returns the catalog's error if it has no engine.
pub fn model_queries(
    query: &ModelQuery,
    mut catalog: Catalog,
    registry: &Registry,
    filter: &ModelFilter,
) -> Result<Vec<ModelQuery>, ProbeError> {
    if let Some(error) = catalog.server_error.take()
        && catalog.engines.is_empty()
    {
        return Err(error.into());
    }
    let mut models: Vec<(&str, &str, ModelRecord)> = Vec::new();
    for engine in &catalog.engines {
        let listed = engine.models.iter().flatten();
        for model in listed.filter(|model| !model.generates_no_text) {
            let known = registry.model(&engine.address, &model.id).cloned();
            let known = known.unwrap_or_default();
            let record = ModelRecord {
                size_bytes: model.size_bytes.or(known.size_bytes),
                declared_context: model.declared_context.or(known.declared_context),
                ..known
            };
            let mut keywords = filter.keywords.iter();
            if keywords.all(|keyword| record.has_keyword(keyword)) {
                models.push((&engine.address, &model.id, record));
            }
        }
    }
    let mut rows: Vec<SortRow<'_>> = models
        .iter()
        .map(|(engine, id, model)| SortRow {
            engine,
            id,
            model,
            fits: true,
        })
        .collect();
    sort_models(&mut rows, filter.sort_by, filter.is_reversed);
    let queries = rows.iter().map(|row| ModelQuery {
        selection: query.selection.only(row.engine),
        model: Some(row.id.to_owned()),
        ..query.clone()
    });
    Ok(queries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        AUTO, CatalogEngine, CatalogModel, ConnectTimeouts, EMBEDDED, EngineSelection, Error,
        LifecycleOptions, ModelFolders, ServerAddress,
    };

    fn engine(address: &str, models: &[(&str, u64)]) -> CatalogEngine {
        let models = models.iter().map(|(id, size)| CatalogModel {
            id: (*id).to_owned(),
            size_bytes: Some(*size),
            generates_no_text: *id == "embedder",
            ..CatalogModel::default()
        });
        CatalogEngine {
            address: address.to_owned(),
            kind: EMBEDDED,
            display_name: address.to_owned(),
            version: None,
            models: Ok(models.collect()),
            problems: Vec::new(),
        }
    }

    #[test]
    fn each_chat_model_is_queried_at_its_own_engine() {
        let server = |url: &str| ServerAddress::parse(url).unwrap();
        let query = ModelQuery {
            selection: EngineSelection::Auto(vec![server("http://a:1"), server("http://a:12")]),
            model: None,
            default_model: None,
            context: None,
            folders: ModelFolders::default(),
            timeouts: ConnectTimeouts {
                connect: None,
                load: None,
            },
            last_used: None,
            lifecycle: LifecycleOptions::default(),
        };
        let filter = ModelFilter {
            keywords: Vec::new(),
            sort_by: SortKey::Size,
            is_reversed: false,
        };
        let unreachable = || Some(Error::UnknownEngine(AUTO.to_owned()));
        let catalog = Catalog {
            engines: vec![
                engine("http://a:1", &[("large", 9), ("embedder", 1)]),
                engine("http://a:12", &[("small", 2)]),
                engine(EMBEDDED, &[("demo", 5)]),
            ],
            server_error: unreachable(),
        };
        let registry = Registry::default();
        let queries = model_queries(&query, catalog, &registry, &filter).unwrap();
        let found: Vec<String> = queries
            .iter()
            .map(|query| {
                let servers = query.selection.servers().iter();
                let urls: Vec<&str> = servers.map(ServerAddress::base_url).collect();
                format!("{} {}", query.model.as_deref().unwrap(), urls.join(","))
            })
            .collect();
        assert_eq!(found, ["small http://a:12", "demo ", "large http://a:1"]);
        let catalog = Catalog {
            engines: Vec::new(),
            server_error: unreachable(),
        };
        assert!(model_queries(&query, catalog, &registry, &filter).is_err());
    }
}
