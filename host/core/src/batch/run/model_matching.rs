//! Matches the names and patterns of a plan with the models that engines list.

use std::path::Path;

use super::batch_model::ALL;
use super::listed_model::{ListedModel, listed_models};
use crate::batch::{is_pattern, matches_model};
use crate::engine::{Catalog, CatalogModel, DEMO, EMBEDDED, EngineSelection, LLAMA_CPP};
use crate::error::{Error, ErrorKind};
use crate::suggest::similar_names;

/// Returns whether a model is named by its file.
fn names_file(name: &str, selection: &EngineSelection) -> bool {
    selection.can_mean_file()
        && name.ends_with(".gguf")
        && (!is_pattern(name) || Path::new(name).is_file())
}

/// The models that are named by their files.
pub(super) struct NamedFiles {
    /// The engine that runs them.
    engine: &'static str,
    models: Vec<CatalogModel>,
}

impl NamedFiles {
    /// Reads the files among the names of models.
    ///
    /// # Errors
    /// Returns an error if the engine cannot run a file.
    pub(super) fn read(
        names: &[String],
        selection: &EngineSelection,
        engine: &'static str,
    ) -> Result<Self, Error> {
        let files = names.iter().filter(|name| names_file(name, selection));
        let models = files.map(|name| {
            let path = std::path::absolute(name)
                .map_err(|error| Error::usage(format!("model file {name}: {error}")))?;
            Ok(CatalogModel::from_file(&path, engine)?)
        });
        Ok(Self {
            engine,
            models: models.collect::<Result<_, Error>>()?,
        })
    }
}

/// Returns the models that a pattern leaves out because they do not generate text, and that
/// no name selects.
pub(super) fn left_out<'a>(
    names: &[String],
    catalog: &'a Catalog,
    selected: &[ListedModel<'_>],
) -> Vec<&'a str> {
    let is_matching = |listed: &ListedModel<'_>| {
        let model = listed.model;
        names.iter().any(|name| {
            name == ALL || is_pattern(name) && matches_model(name, &model.id, &model.aliases)
        })
    };
    listed_models(catalog)
        .into_iter()
        .filter(|listed| listed.model.generates_no_text && is_matching(listed))
        .filter(|listed| !selected.iter().any(|known| known.is_same(listed)))
        .map(|listed| listed.model.id.as_str())
        .collect()
}

/// Returns the models that match, each once, in the order of the names.
///
/// # Errors
/// Returns an error if a name or pattern matches no model.
pub(super) fn match_names<'a>(
    names: &[String],
    catalog: &'a Catalog,
    files: &'a NamedFiles,
    selection: &EngineSelection,
) -> Result<Vec<ListedModel<'a>>, Error> {
    let all = listed_models(catalog);
    // Engines of model files take part in patterns only when they were named, since the files
    // may be those of a server; the demo model only by its own name: its answers must not pass
    // for a real model's.
    let in_patterns = |listed: &ListedModel<'_>| match (listed.kind, selection) {
        (EMBEDDED, EngineSelection::Embedded) => listed.model.id != DEMO,
        (LLAMA_CPP, EngineSelection::LlamaCpp) => !listed.model.generates_no_text,
        (EMBEDDED | LLAMA_CPP, _) => false,
        _ => !listed.model.generates_no_text,
    };
    let mut selected: Vec<ListedModel<'a>> = Vec::new();
    let mut select = |listed: &ListedModel<'a>| {
        if !selected.iter().any(|known| known.is_same(listed)) {
            selected.push(*listed);
        }
    };
    for name in names {
        if names_file(name, selection) {
            let path = std::path::absolute(name).unwrap_or_default();
            let path = path.display().to_string();
            for model in files.models.iter().filter(|model| model.id == path) {
                select(&ListedModel {
                    place: files.engine,
                    kind: files.engine,
                    model,
                });
            }
            continue;
        }
        // One of two engines that have the model, as labels name it.
        let at_place =
            |listed: &&ListedModel<'a>| *name == format!("{}@{}", listed.model.id, listed.place);
        if let Some(listed) = all.iter().find(at_place) {
            select(listed);
            continue;
        }
        let is_pattern = name == ALL || is_pattern(name);
        let mut matching = all.iter().filter(|listed| {
            let model = listed.model;
            if is_pattern {
                in_patterns(listed)
                    && (name == ALL || matches_model(name, &model.id, &model.aliases))
            } else {
                matches_model(name, &model.id, &model.aliases)
            }
        });
        let Some(first) = matching.next() else {
            return Err(no_model(name, &all));
        };
        select(first);
        // A name selects one model, at the first engine that has it.
        if is_pattern {
            matching.for_each(&mut select);
        }
    }
    Ok(selected)
}

fn no_model(name: &str, all: &[ListedModel<'_>]) -> Error {
    let failure = Error::new(ErrorKind::Model, format!("no model matches `{name}`"));
    let ids = || all.iter().map(|listed| listed.model.id.as_str());
    let similar = similar_names(name, ids());
    let failure = match similar.first() {
        Some(similar) => failure.hint(format!("did you mean `{similar}`?")),
        None => failure,
    };
    let known: Vec<&str> = ids().take(20).collect();
    failure.hint(format!("available models: {}", known.join(", ")))
}
