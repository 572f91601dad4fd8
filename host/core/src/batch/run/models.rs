//! The models of a batch: what the engines have, matched with the plan, in the order in
//! which they run.

use std::path::Path;

use jiff::Timestamp;

use super::batch_model::{BatchModel, batch_model, model_name};
use super::event::SharedObserver;
use super::listed_model::ListedModel;
use super::model_matching::{NamedFiles, left_out, match_names};
use super::setup::BatchSetup;
use crate::batch::Plan;
use crate::client::{self, LoadPolicy, Notices, fits_memory, model_record};
use crate::engine::{
    ConnectTimeouts, Memory, ServerAddress, file_engine, query_catalog, select_model,
};
use crate::error::Error;
use crate::job::{Cancel, ModelReference};
use crate::registry::{ModelRecord, Registry, SortKey, SortRow, sort_models};

/// Asks the engines for their models and selects those of the plan.
///
/// # Errors
/// Returns an error if a name matches no model, or if no engine answers.
pub(super) async fn select_models(
    setup: &BatchSetup<'_>,
    connect: ConnectTimeouts,
    observer: &SharedObserver,
    mut cancel: Cancel<'_>,
) -> Result<Vec<BatchModel>, Error> {
    let BatchSetup {
        plan, env, config, ..
    } = setup;
    let notices = &observer.notices();
    let selection = client::engine_selection(plan.engine.as_deref(), env, config, notices)?;
    let names = match plan.models.as_slice() {
        [] => vec![default_model(setup, connect, notices, cancel.as_mut()).await?],
        names => names.to_vec(),
    };
    let folders = client::model_folders(env);
    let lifecycle = client::listing_options(env, config);
    let mut ignore_files = |_: &Path| {};
    let mut catalog = tokio::select! {
        biased;
        () = &mut cancel => return Err(Error::interrupted()),
        catalog = query_catalog(&selection, &folders, &lifecycle, connect, &mut ignore_files) => {
            catalog
        }
    };
    for engine in &catalog.engines {
        if let Err(cause) = &engine.models {
            observer.warning(&format!("{}: {cause}", engine.display_name));
        }
    }
    let files = NamedFiles::read(&names, &selection, file_engine(&selection, &lifecycle))?;
    let server_error = catalog.server_error.take();
    let listed = match (
        match_names(&names, &catalog, &files, &selection),
        server_error,
    ) {
        (Ok(listed), _) => listed,
        // No model matches because no server answered: that is the cause to report.
        (Err(_), Some(error)) => return Err(error.into()),
        (Err(failure), None) => return Err(failure),
    };
    let left_out = left_out(&names, &catalog, &listed);
    if !left_out.is_empty() {
        observer.warning(&format!(
            "left out models that do not generate text: {}",
            left_out.join(", ")
        ));
    }
    let mut registry = client::read_registry(env, notices);
    for engine in &catalog.engines {
        let records: Vec<(String, ModelRecord)> = engine
            .models
            .iter()
            .flatten()
            .map(|model| (model.id.clone(), model_record(model)))
            .collect();
        registry.apply_scan(
            &engine.address,
            engine.kind,
            engine.version.as_deref(),
            records,
            Timestamp::now(),
            // Files in LM Studio's folder were not examined here.
            |id| Path::new(id).is_absolute(),
        );
    }
    Ok(ordered(&listed, &registry, selection.servers(), plan))
}

/// Returns the model that `infer` would select.
async fn default_model(
    setup: &BatchSetup<'_>,
    connect: ConnectTimeouts,
    notices: &Notices,
    cancel: Cancel<'_>,
) -> Result<String, Error> {
    let model = ModelReference {
        engine: setup.plan.engine.clone(),
        ..ModelReference::default()
    };
    let load = LoadPolicy {
        force: setup.options.force,
        ..LoadPolicy::default()
    };
    let query = client::model_query(&model, load, setup.env, setup.config, connect, notices)?;
    tokio::select! {
        biased;
        () = cancel => Err(Error::interrupted()),
        model = select_model(query) => Ok(model?.model),
    }
}

/// Orders the models as `list` does with `smart`: loaded ones first, then those that
/// fit into memory, then the fastest.
fn ordered(
    listed: &[ListedModel<'_>],
    registry: &Registry,
    servers: &[ServerAddress],
    plan: &Plan,
) -> Vec<BatchModel> {
    let memory = Memory::detect();
    let records: Vec<ModelRecord> = listed
        .iter()
        .map(|listed| {
            let known = registry.model(listed.place, &listed.model.id).cloned();
            known.unwrap_or_else(|| model_record(listed.model))
        })
        .collect();
    let mut rows: Vec<SortRow<'_>> = listed
        .iter()
        .zip(&records)
        .map(|(listed, model)| SortRow {
            engine: listed.place,
            id: &listed.model.id,
            fits: fits_memory(listed.place, model, memory),
            model,
        })
        .collect();
    sort_models(&mut rows, SortKey::Smart, false);
    rows.iter()
        .filter_map(|row| {
            let of_row =
                |listed: &&ListedModel<'_>| listed.place == row.engine && listed.model.id == row.id;
            let model = listed.iter().find(of_row)?;
            let has_twin = listed.iter().any(|other| {
                model_name(&other.model.id) == model_name(row.id) && other.place != row.engine
            });
            Some(batch_model(model, has_twin, row.model, servers, plan))
        })
        .collect()
}
