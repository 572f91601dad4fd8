//! A model that an engine lists.

use crate::engine::{Catalog, CatalogModel};

/// A model that an engine lists.
#[derive(Clone, Copy)]
pub(super) struct ListedModel<'a> {
    pub(super) place: &'a str,
    pub(super) kind: &'static str,
    pub(super) model: &'a CatalogModel,
}

impl ListedModel<'_> {
    /// Returns whether `other` is the same model of the same engine.
    pub(super) fn is_same(&self, other: &ListedModel<'_>) -> bool {
        self.place == other.place && self.model.id == other.model.id
    }
}

/// Returns the models of all engines, in the order of the engines.
pub(super) fn listed_models(catalog: &Catalog) -> Vec<ListedModel<'_>> {
    let mut all = Vec::new();
    for engine in &catalog.engines {
        all.extend(engine.models.iter().flatten().map(|model| ListedModel {
            place: &engine.address,
            kind: engine.kind,
            model,
        }));
    }
    all
}
