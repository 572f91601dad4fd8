//! Context probes: finds the largest context length that a model works with in practice.
//!
//! In the order of the data: `options` (the request), `select` (the models), `plan` (the
//! first probes), `run` (the probes of one model), `search` (the next context length),
//! `prober` (one probe), `probe_prompt` (its prompts), `outcome` (the results), `trials`
//! and `records` (changes of the registry), `event` (for observers). `probe_engine`
//! defines the operations that probes need of an engine; `live_engine` implements them.

mod error;
mod event;
#[cfg(test)]
mod fake_engine;
mod live_engine;
mod options;
mod outcome;
mod plan;
mod probe_engine;
mod probe_prompt;
mod prober;
mod process;
mod records;
mod run;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod trials;

use std::time::Duration;

pub use error::ProbeError;
pub use event::{ProbeEvent, ProbeObserver, ProbeWarning, Remaining};
use live_engine::LiveEngine;
pub use options::ProbeOptions;
pub use outcome::{LoweredLevel, ProbeFailure, ProbeOutcome, ProbeReport, ProbedModel};
pub use plan::ProbePlan;
use probe_engine::ProbeEngine;
pub use select::{ModelFilter, model_queries};

use crate::engine::ModelQuery;
use crate::job::Cancel;
use crate::registry::RegistryStore;

/// Time limit of the unload after the probes.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the unload after a cancellation: the caller must return within seconds.
const CANCELLED_UNLOAD_TIMEOUT: Duration = Duration::from_millis(1500);

/// Probes one model, records the results in the registry, and unloads the model if this
/// program loaded it, also after a cancellation.
///
/// # Errors
/// Returns an error if the model is not found, the options do not fit it, the engine or
/// the registry fails, or the probe is cancelled.
pub async fn probe_model(
    query: ModelQuery,
    options: &ProbeOptions,
    store: &RegistryStore,
    observer: &dyn ProbeObserver,
    cancel: Cancel<'_>,
) -> Result<ProbedModel, ProbeError> {
    probe_with(&LiveEngine::new(query), options, store, observer, cancel).await
}

async fn probe_with<E: ProbeEngine>(
    engine: &E,
    options: &ProbeOptions,
    store: &RegistryStore,
    observer: &dyn ProbeObserver,
    cancel: Cancel<'_>,
) -> Result<ProbedModel, ProbeError> {
    let (probed, unload_timeout) = tokio::select! {
        biased;
        () = cancel => (Err(ProbeError::Cancelled), CANCELLED_UNLOAD_TIMEOUT),
        probed = run::run(engine, options, store, observer) => (probed, UNLOAD_TIMEOUT),
    };
    let warning = |warning| observer.event(ProbeEvent::Warning(warning));
    match tokio::time::timeout(unload_timeout, engine.unload()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warning(ProbeWarning::NotUnloaded(&error)),
        Err(_) => warning(ProbeWarning::UnloadTimedOut),
    }
    probed
}
