//! The registry's record of the model that is probed. Each probe is recorded before it
//! starts, so that a machine that crashes during a probe does not repeat it.

use jiff::Timestamp;

use super::event::{ProbeEvent, ProbeObserver, ProbeWarning};
use super::outcome::ProbeReport;
use super::probe_engine::FoundModel;
use super::trials::record_probe;
use crate::registry::{Error, ModelRecord, PendingProbe, RegistryStore, TestLevel};

/// The record of one model.
#[derive(Clone, Copy)]
pub(super) struct ModelRecords<'a> {
    pub(super) store: &'a RegistryStore,
    pub(super) model: &'a FoundModel,
    pub(super) observer: &'a dyn ProbeObserver,
}

impl<'a> ModelRecords<'a> {
    /// Returns the record; an empty one if the model is not in the registry.
    pub(super) fn read(&self) -> Result<ModelRecord, Error> {
        let registry = self.store.read()?.registry;
        let record = registry.model(&self.model.engine, &self.model.model);
        Ok(record.cloned().unwrap_or_default())
    }

    /// Changes the record.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut ModelRecord) -> T) -> Result<T, Error> {
        let FoundModel {
            engine,
            engine_kind,
            model,
            ..
        } = self.model;
        let (value, warnings) = self.store.update(|registry| {
            let record = registry.engines.entry(engine.clone()).or_default();
            if record.kind.is_empty() {
                record.kind = (*engine_kind).to_owned();
            }
            change(registry.model_mut(engine, model))
        })?;
        for warning in &warnings {
            let warning = ProbeWarning::Registry(warning);
            self.observer.event(ProbeEvent::Warning(warning));
        }
        Ok(value)
    }

    /// Records the start of a probe.
    pub(super) fn start_probe(
        self,
        context: u32,
        level: TestLevel,
    ) -> Result<PendingProbeGuard<'a>, Error> {
        let pending = PendingProbe {
            context,
            process: std::process::id(),
            at: Timestamp::now(),
        };
        self.update(|model| model.trials.entry(level).or_default().pending = Some(pending))?;
        Ok(PendingProbeGuard {
            records: self,
            level,
            is_pending: true,
        })
    }
}

/// A probe that is recorded as pending. Cancellation drops it, which clears the record: a
/// cancelled probe is not a failure.
pub(super) struct PendingProbeGuard<'a> {
    records: ModelRecords<'a>,
    level: TestLevel,
    is_pending: bool,
}

impl PendingProbeGuard<'_> {
    /// Records the outcome of the probe.
    pub(super) fn finish(mut self, probe: &ProbeReport) -> Result<(), Error> {
        self.is_pending = false;
        self.records
            .update(|model| record_probe(model.trials.entry(self.level).or_default(), probe))
    }

    /// Clears the record of a probe without an outcome.
    pub(super) fn abandon(mut self) -> Result<(), Error> {
        self.is_pending = false;
        self.clear()
    }

    fn clear(&self) -> Result<(), Error> {
        self.records
            .update(|model| model.trials.entry(self.level).or_default().pending = None)
    }
}

impl Drop for PendingProbeGuard<'_> {
    fn drop(&mut self) {
        if self.is_pending {
            // The next run treats a probe that stays pending as crashed.
            let _not_written = self.clear();
        }
    }
}
