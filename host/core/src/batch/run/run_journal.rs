//! The journal of a run: its records of the plan and of the end.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;

use super::batch_model::BatchModel;
use super::batch_summary::BatchSummary;
use super::kept_plan::{self, with_settings};
use super::prepared_batch::PreparedBatch;
use super::run_state::RunStop;
use crate::batch::{EndRecord, Journal, JournalError, Record, RunRecord, plan_to_toml};
use crate::error::Error;

/// Begins the journal, and keeps the plan of this run in it.
pub(super) fn open_journal(batch: &PreparedBatch<'_>) -> Result<Journal, Error> {
    let setup = &batch.setup;
    let mut journal = Journal::open(&setup.out)?;
    if batch.history.head.is_none() {
        journal.write_head(batch.list.names.template(), Timestamp::now())?;
    }
    let mut plan = kept_plan::absolute(&with_settings(&setup.plan, &setup.settings));
    // `retry` runs these models, and not those that match by then.
    plan.models = batch.models().iter().map(BatchModel::exact_name).collect();
    let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
    for job in &batch.list.jobs {
        let label = batch
            .inputs
            .model(job.coordinates)
            .map(|model| model.label.clone());
        *jobs.entry(label.unwrap_or_default()).or_default() += 1;
    }
    journal.append(&Record::Run(Box::new(RunRecord {
        at: Timestamp::now(),
        plan: plan_to_toml(&plan).map_err(Error::usage)?,
        shard: setup.options.shard_text.clone(),
        jobs,
    })))?;
    for record in batch
        .contexts
        .iter()
        .filter_map(|context| context.new.clone())
    {
        journal.append(&Record::Context(record))?;
    }
    Ok(journal)
}

/// Appends the end of the run.
pub(super) fn end_journal(
    mut journal: Journal,
    summary: &BatchSummary,
    start: Instant,
) -> Result<(), JournalError> {
    let (done, failed) = (summary.done(), summary.failed());
    journal.append(&Record::End(EndRecord {
        at: Timestamp::now(),
        done,
        failed,
        left: summary.jobs.saturating_sub(done + failed),
        seconds: start.elapsed().as_secs_f64(),
        reason: summary.stop.as_ref().map(|stop| match stop {
            RunStop::Interrupted => "interrupted".to_owned(),
            RunStop::Failures => "too many failures".to_owned(),
            RunStop::Fatal(failure) => failure.message.clone(),
        }),
    }))?;
    journal.sync()?;
    journal.check_in_place()
}
