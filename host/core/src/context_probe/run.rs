//! Probes one model: prepares its record, chooses the level, and searches for the largest
//! context length that passes.

use std::time::Duration;

use super::error::ProbeError;
use super::event::{ProbeEvent, ProbeObserver, ProbeWarning, Remaining};
use super::options::{ContextRange, ProbeOptions, RangeError, context_range};
use super::outcome::{LoweredLevel, ProbeOutcome, ProbedModel};
use super::plan::{plan_probes, small_context};
use super::probe_engine::{FoundModel, ProbeEngine};
use super::prober::Prober;
use super::process::is_running;
use super::records::ModelRecords;
use super::search::{max_probes_left, next_context};
use super::trials::{
    context_bounds, record_search, record_single, settle_earlier_trials, smallest_failure,
};
use crate::registry::{RegistryStore, TestLevel};

/// Finds the model and probes it. Does not unload it.
pub(super) async fn run<E: ProbeEngine>(
    engine: &E,
    options: &ProbeOptions,
    store: &RegistryStore,
    observer: &dyn ProbeObserver,
) -> Result<ProbedModel, ProbeError> {
    let model = engine.find().await?;
    let range = range_of(&model, options)?;
    if let Some(foreign) = model.foreign_instance {
        observer.event(ProbeEvent::Warning(ProbeWarning::ReplacesForeignInstance {
            model: &model.model,
            context: foreign.context,
            engine: &model.engine_name,
        }));
    }
    let records = ModelRecords {
        store,
        model: &model,
        observer,
    };
    let result = ProbedModel {
        model: model.model.clone(),
        engine: model.engine.clone(),
        level: options.level,
        context: None,
        complete: false,
        lowered: None,
        probes: Vec::new(),
    };
    if options.dry_run {
        let mut record = records.read()?;
        // The run itself reports the crashed probes.
        settle_earlier_trials(&mut record, options, is_running);
        let bounds = context_bounds(&record, options.level);
        observer.event(ProbeEvent::Planned {
            engine: &model.engine,
            model: &model.model,
            level: options.level,
            can_set_context: model.can_set_context,
            plan: plan_probes(bounds, range.max_context, options),
        });
        return Ok(result);
    }
    prepare_record(records, options)?;
    let mut run = ModelRun {
        prober: Prober::new(engine, model.can_set_context, options.timeout),
        records,
        options,
        range,
        observer,
        result,
    };
    match options.context {
        Some(context) => run.probe_single(context).await?,
        None => run.search().await?,
    }
    Ok(run.result)
}

/// Returns the range to search.
fn range_of(model: &FoundModel, options: &ProbeOptions) -> Result<ContextRange, ProbeError> {
    let declared = match model.can_set_context {
        true => model.declared_context,
        false => model.expected_context,
    };
    context_range(declared, options).map_err(|error| match error {
        RangeError::NoLimit => ProbeError::UnknownContext {
            engine: model.engine_name.clone(),
            model: model.model.clone(),
        },
        RangeError::TooLarge {
            requested,
            declared,
        } => ProbeError::ContextTooLarge {
            model: model.model.clone(),
            requested,
            declared,
        },
    })
}

/// Records the model's facts, and settles what earlier runs left.
fn prepare_record(records: ModelRecords<'_>, options: &ProbeOptions) -> Result<(), ProbeError> {
    let found = records.model;
    let crashed = records.update(|record| {
        if found.architecture.is_some() {
            record.architecture.clone_from(&found.architecture);
        }
        if found.quantization.is_some() {
            record.quantization.clone_from(&found.quantization);
        }
        record.declared_context = found.declared_context.or(record.declared_context);
        settle_earlier_trials(record, options, is_running)
    })?;
    for probe in crashed {
        let warning = ProbeWarning::EarlierCrash {
            model: &found.model,
            context: probe.context,
            level: probe.level,
        };
        records.observer.event(ProbeEvent::Warning(warning));
    }
    Ok(())
}

/// A run with one model.
struct ModelRun<'a, E> {
    prober: Prober<'a, E>,
    records: ModelRecords<'a>,
    options: &'a ProbeOptions,
    range: ContextRange,
    observer: &'a dyn ProbeObserver,
    result: ProbedModel,
}

impl<E: ProbeEngine> ModelRun<'_, E> {
    /// Searches for the largest context length that passes, and records it.
    async fn search(&mut self) -> Result<(), ProbeError> {
        self.choose_level().await?;
        let level = self.result.level;
        self.report_earlier_failure()?;
        let max_context = self.range.max_context;
        loop {
            let bounds = context_bounds(&self.records.read()?, level);
            let Some(context) = next_context(bounds, max_context) else {
                self.result.context = bounds.largest_passed;
                // A search with a lower maximum is incomplete.
                self.result.complete = next_context(bounds, self.range.upper_limit).is_none();
                break;
            };
            let max_probes = max_probes_left(bounds, max_context);
            let remaining = Remaining {
                max_probes,
                time: self.estimate_time(context, max_probes),
            };
            self.probe(context, level, Some(remaining)).await?;
        }
        let result = &self.result;
        self.records.update(|model| record_search(model, result))?;
        Ok(())
    }

    /// Runs a single probe, and records it as a lower bound if it passes.
    async fn probe_single(&mut self, context: u32) -> Result<(), ProbeError> {
        let level = self.options.level;
        let failed = smallest_failure(&self.records.read()?, level);
        if let Some(failed) = failed
            && failed.context <= context
            && !self.options.force
        {
            return Err(ProbeError::FailedEarlier {
                model: self.result.model.clone(),
                failed: failed.context,
                cause: failed.cause,
            });
        }
        if self.probe(context, level, None).await? == ProbeOutcome::Passed {
            self.result.complete = true;
            self.result.context = Some(context);
            self.records
                .update(|model| record_single(model, context, level))?;
        }
        Ok(())
    }

    /// Lowers the level if the model does not reach it with a small context: then it does
    /// not reach it with more.
    async fn choose_level(&mut self) -> Result<(), ProbeError> {
        let level = self.options.level;
        let bounds = context_bounds(&self.records.read()?, level);
        let Some(context) = small_context(bounds, self.range.max_context, level) else {
            return Ok(());
        };
        let (refusal, level) = match self.probe(context, TestLevel::Recalls, None).await? {
            ProbeOutcome::WrongAnswer(_) => (None, TestLevel::Accepts),
            // If the context is the cause, the search continues with fewer tokens.
            ProbeOutcome::Refused(failure) if !failure.is_context_limit => {
                let level = match self.probe(context, TestLevel::Accepts, None).await? {
                    ProbeOutcome::Refused(failure) if !failure.is_context_limit => TestLevel::Loads,
                    _ => TestLevel::Accepts,
                };
                (Some(failure.message), level)
            }
            _ => return Ok(()),
        };
        self.result.level = level;
        let lowered = LoweredLevel {
            level,
            context,
            refusal,
        };
        self.observer.event(ProbeEvent::LevelLowered {
            model: &self.result.model,
            lowered: &lowered,
        });
        self.result.lowered = Some(lowered);
        Ok(())
    }

    /// Reports that a failure in an earlier run limits this one, so that it is not taken
    /// for a result of this run.
    fn report_earlier_failure(&self) -> Result<(), ProbeError> {
        let record = self.records.read()?;
        let is_of_this_run = |context: u32| {
            let probes = &self.result.probes;
            probes.iter().any(|probe| probe.context == context)
        };
        if let Some(failed) = smallest_failure(&record, self.result.level)
            && failed.context <= self.range.max_context
            && !is_of_this_run(failed.context)
        {
            self.observer.event(ProbeEvent::LimitedByEarlierFailure {
                model: &self.result.model,
                context: failed.context,
                cause: failed.cause.as_deref(),
            });
        }
        Ok(())
    }

    /// Estimates the time of the remaining probes from the last one.
    fn estimate_time(&self, context: u32, max_probes: u32) -> Option<Duration> {
        /// Below this duration, the load and the latency determine the time, not the context.
        const MIN_SECONDS: f64 = 1.0;
        const MAX_SECONDS: f64 = 1e6;
        let last = self.result.probes.last()?;
        let seconds = last.elapsed.as_secs_f64();
        let each = seconds * f64::from(context) / f64::from(last.context.max(1));
        let all = (each * f64::from(max_probes)).min(MAX_SECONDS);
        (seconds > MIN_SECONDS).then(|| Duration::from_secs_f64(all))
    }

    /// Runs one probe; the registry records its start and its outcome.
    async fn probe(
        &mut self,
        context: u32,
        level: TestLevel,
        remaining: Option<Remaining>,
    ) -> Result<ProbeOutcome, ProbeError> {
        self.observer.event(ProbeEvent::Started {
            model: &self.result.model,
            context,
            level,
            remaining,
        });
        let pending = self.records.start_probe(context, level)?;
        let probe = match self.prober.probe(context, level).await {
            Ok(probe) => probe,
            Err(error) => {
                pending.abandon()?;
                return Err(error.into());
            }
        };
        self.observer.event(ProbeEvent::Finished {
            model: &self.result.model,
            probe: &probe,
        });
        pending.finish(&probe)?;
        let outcome = probe.outcome.clone();
        self.result.probes.push(probe);
        Ok(outcome)
    }
}
