//! Running a batch: the plan meets engines, packs and a folder.
//!
//! In the order of the data: `setup` (the batch as requested), `models` (the models of the
//! plan), `job_inputs` (prompts, inputs and settings), `job_list` (the jobs, named by
//! `job_names`, resolved by `prompt_resolver` and kept in `spool`), `contexts` and
//! `recovery` (state of earlier runs), `scheduler`, `worker_pool`, `run_state` and `queue`
//! (the order of jobs), `backend` (their interface to engines and files; `live_backend` for real runs),
//! `event` (events for observers).

mod backend;
mod contexts;
mod event;
mod identity_text;
mod job_inputs;
mod job_list;
mod job_names;
mod kept_plan;
mod live_backend;
mod models;
mod prompt_resolver;
mod queue;
mod recovery;
mod run_state;
mod scheduler;
#[cfg(test)]
mod scheduler_tests;
mod setup;
mod spool;
mod throughput;
mod totals;
mod worker_pool;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Committer, EndRecord, FolderHistory, FolderLock, Journal, JournalError, Record, RunRecord,
    is_pattern, plan_to_toml, read_history,
};
use crate::client;
use crate::engine::ConnectTimeouts;
use crate::error::Error;
use crate::job::{Cancel, Timeouts};
pub use contexts::ModelContext;
use contexts::contexts;
pub use event::{BatchEvent, BatchObserver, JobEnd, JobInfo, JobPhase, SharedObserver};
use job_inputs::JobInputs;
pub use job_list::PlannedJob;
use job_list::{JobList, list_jobs};
use job_names::JobNames;
pub use kept_plan::with_settings;
use live_backend::LiveBackend;
pub use models::BatchModel;
use models::select_models;
use recovery::{adopt, unload_leftovers, warn_about_kept, warn_about_other_plans};
pub use run_state::{FailureLimit, Interrupts, RunStop};
use run_state::{RunState, ScheduledJob, ScheduledModel, SchedulerOptions};
use scheduler::Scheduler;
pub use setup::{BatchOptions, BatchSetup};
pub use totals::ModelTotals;

/// A batch whose jobs are known; nothing is loaded.
pub struct PreparedBatch<'a> {
    setup: BatchSetup<'a>,
    inputs: JobInputs,
    list: JobList,
    contexts: Vec<ModelContext>,
    history: FolderHistory,
    timeouts: Timeouts,
    connect: ConnectTimeouts,
    lock: Option<FolderLock>,
    start: Instant,
}

/// The summary of a run.
pub struct BatchSummary {
    /// The totals of each model, by label.
    pub models: Vec<(String, ModelTotals)>,
    /// Jobs that were to be run.
    pub jobs: usize,
    /// The reason if the run ended early.
    pub stop: Option<RunStop>,
}

impl BatchSummary {
    /// Returns the number of jobs done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.models.iter().map(|(_, totals)| totals.done).sum()
    }

    /// Returns the number of jobs that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.models.iter().map(|(_, totals)| totals.failed).sum()
    }
}

/// Finds the models, resolves the prompts, and compares the folder.
///
/// # Errors
/// Returns an error for everything that the user can correct, and if another run uses
/// the folder.
pub async fn prepare<'a>(
    setup: BatchSetup<'a>,
    observer: &SharedObserver,
    mut cancel: Cancel<'_>,
) -> Result<PreparedBatch<'a>, Error> {
    let start = Instant::now();
    let (timeouts, connect) = client::timeouts(&setup.timeouts, setup.env, setup.config)?;
    // Before any engine is asked, so that another run or a read-only folder shows
    // at once.
    let lock = if setup.options.dry_run {
        None
    } else {
        Some(FolderLock::acquire(&setup.out)?)
    };
    let history = read_history(&setup.out)?;
    if history.unreadable_lines > 0 {
        observer.warning(&format!(
            "skipped {} unreadable journal lines in {}",
            history.unreadable_lines,
            setup.out.display()
        ));
    }
    let models = select_models(&setup, connect, observer, cancel.as_mut()).await?;
    let inputs = JobInputs::read(&setup, models, timeouts, observer)?;
    let names = JobNames::new(&inputs, &setup.plan, &history)?;
    let listing = list_jobs(
        &inputs,
        names,
        &setup.options,
        &history,
        &setup.out,
        observer,
    );
    let list = tokio::select! {
        biased;
        () = cancel => return Err(Error::interrupted()),
        list = listing => list?,
    };
    for (prompt, warning) in &list.warnings {
        observer.warning(&format!("{prompt}: {warning}"));
    }
    warn_about_shards(&setup, observer);
    if setup.options.is_own_plan {
        warn_about_other_plans(&list.jobs, &history, observer);
    }
    let contexts = contexts(&inputs.models, &list.jobs, &history);
    warn_about_kept(&list.jobs, observer);
    Ok(PreparedBatch {
        setup,
        inputs,
        list,
        contexts,
        history,
        timeouts,
        connect,
        lock,
        start,
    })
}

/// Warns if `--shard` splits models that patterns found here: all machines must find the
/// same models, or parts overlap.
fn warn_about_shards(setup: &BatchSetup<'_>, observer: &SharedObserver) {
    let by_pattern = |name: &String| name == "all" || is_pattern(name);
    let models = &setup.plan.models;
    if setup.options.shard.is_some() && (models.is_empty() || models.iter().any(by_pattern)) {
        observer.warning(
            "--shard splits the models that are found here, and all machines must find the same; \
             name each model with -m",
        );
    }
}

impl PreparedBatch<'_> {
    /// Returns the models, in the order in which they run.
    #[must_use]
    pub fn models(&self) -> &[BatchModel] {
        &self.inputs.models
    }

    /// Returns the context of each model.
    #[must_use]
    pub fn contexts(&self) -> &[ModelContext] {
        &self.contexts
    }

    /// Returns the jobs.
    #[must_use]
    pub fn jobs(&self) -> &[PlannedJob] {
        &self.list.jobs
    }

    /// Returns the number of jobs of other parts of the plan.
    #[must_use]
    pub fn jobs_elsewhere(&self) -> usize {
        self.list.elsewhere
    }

    /// Returns what the batch was made from.
    #[must_use]
    pub fn setup(&self) -> &BatchSetup<'_> {
        &self.setup
    }

    /// Runs the jobs.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be used. What goes wrong once jobs run,
    /// such as a full disk, is in the summary.
    pub async fn run(
        mut self,
        observer: &SharedObserver,
        interrupts: Interrupts<'_>,
    ) -> Result<BatchSummary, Error> {
        let mut journal = self.open_journal()?;
        let adopted = adopt(
            &mut self.list.jobs,
            &self.inputs,
            &self.history,
            &self.setup.out,
            &mut journal,
        )?;
        if adopted > 0 {
            observer.status(&format!(
                "adopted {adopted} results that were complete when an earlier run was killed"
            ));
        }
        unload_leftovers(
            &self.inputs,
            &self.list.jobs,
            &self.history,
            self.connect,
            self.setup.env,
            &mut journal,
            observer,
        )
        .await;
        let models = self.scheduled_models();
        let jobs = self.scheduled_jobs();
        let to_run = jobs.iter().filter(|job| job.runs).count();
        observer.event(BatchEvent::RunStarted {
            jobs: to_run,
            skipped: jobs.len() - to_run,
        });
        let (cancel, cancelled) = watch::channel(false);
        let backend = self.backend(journal, cancelled, observer)?;
        let options = SchedulerOptions {
            jobs: self.setup.options.jobs,
            failure_limit: self.setup.options.failure_limit,
            reconnect_timeout: self.setup.options.reconnect_timeout,
        };
        let state = RunState::new(
            &backend, observer, options, &models, &jobs, interrupts, cancel,
        );
        let mut scheduler = Scheduler::new(state);
        scheduler.owned.extend(self.history.loaded.keys().cloned());
        scheduler.run().await;
        let RunState {
            mut stop, totals, ..
        } = scheduler.state;
        let LiveBackend {
            committer,
            journal,
            store,
            ..
        } = backend;
        observer.event(BatchEvent::RunEnded);
        if let Err(error) = committer.finish() {
            stop.get_or_insert(RunStop::Fatal(error.into()));
        }
        let labels = models.into_iter().map(|model| model.label);
        let mut summary = BatchSummary {
            models: labels.zip(totals).collect(),
            jobs: to_run,
            stop,
        };
        if let Err(error) = self.end_journal(journal.into_inner(), &summary) {
            let fatal = RunStop::Fatal(error.into());
            summary.stop.get_or_insert(fatal);
        }
        // Statistics become part of the registry. A registry that cannot be written
        // does not make the results worse.
        if let Err(error) = store.update(|_| ()) {
            observer.warning(&crate::error_chain::error_chain(&error));
        }
        drop(self.lock);
        Ok(summary)
    }

    /// Begins the journal, and keeps the plan of this run in it.
    fn open_journal(&self) -> Result<Journal, Error> {
        let setup = &self.setup;
        let mut journal = Journal::open(&setup.out)?;
        if self.history.head.is_none() {
            journal.write_head(self.list.names.template(), Timestamp::now())?;
        }
        let mut plan = kept_plan::absolute(&with_settings(&setup.plan, &setup.settings));
        // `retry` runs these models, and not those that match by then.
        plan.models = self.models().iter().map(BatchModel::exact_name).collect();
        let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
        for job in &self.list.jobs {
            let label = self
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
        for record in self
            .contexts
            .iter()
            .filter_map(|context| context.new.clone())
        {
            journal.append(&Record::Context(record))?;
        }
        Ok(journal)
    }

    fn end_journal(
        &self,
        mut journal: Journal,
        summary: &BatchSummary,
    ) -> Result<(), JournalError> {
        let (done, failed) = (summary.done(), summary.failed());
        journal.append(&Record::End(EndRecord {
            at: Timestamp::now(),
            done,
            failed,
            left: summary.jobs.saturating_sub(done + failed),
            seconds: self.start.elapsed().as_secs_f64(),
            reason: summary.stop.as_ref().map(|stop| match stop {
                RunStop::Interrupted => "interrupted".to_owned(),
                RunStop::Failures => "too many failures".to_owned(),
                RunStop::Fatal(failure) => failure.message.clone(),
            }),
        }))?;
        journal.sync()
    }

    fn backend<'b>(
        &'b self,
        journal: Journal,
        cancelled: watch::Receiver<bool>,
        observer: &'b SharedObserver,
    ) -> Result<LiveBackend<'b>, Error> {
        let setup = &self.setup;
        let registry = client::read_registry(setup.env, &observer.notices());
        let load = client::LoadPolicy {
            force: setup.options.force,
            ..client::LoadPolicy::default()
        };
        let shown: BTreeSet<_> = self
            .list
            .warnings
            .iter()
            .map(|(_, warning)| warning.clone())
            .collect();
        Ok(LiveBackend {
            inputs: &self.inputs,
            jobs: &self.list.jobs,
            spool: self.list.spool.as_ref(),
            contexts: &self.contexts,
            out: &setup.out,
            results: setup.plan.results,
            timeouts: self.timeouts,
            connect: self.connect,
            lifecycle: client::lifecycle_options(load, setup.env, &registry),
            models_dir: setup.env.paths.data.join("models"),
            store: client::registry_store(setup.env),
            observer,
            committer: Committer::start(&setup.out, journal.try_clone()?)?,
            journal: RefCell::new(journal),
            cancelled,
            shown: RefCell::new(shown),
        })
    }

    fn scheduled_models(&self) -> Vec<ScheduledModel> {
        self.models()
            .iter()
            .map(|model| ScheduledModel {
                label: model.label.clone(),
                place: model.place.clone(),
                id: model.id.clone(),
                speed: model.speed,
                jobs: model.jobs,
                is_loaded: model.is_loaded(),
            })
            .collect()
    }

    fn scheduled_jobs(&self) -> Vec<ScheduledJob> {
        let scheduled = |(index, job): (usize, &PlannedJob)| {
            let labels = self.inputs.labels(job.coordinates);
            let model = self.inputs.model(job.coordinates);
            // Input and axes distinguish a job from its neighbours.
            let axes = labels
                .params
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let parts: Vec<String> = labels.input.into_iter().chain(axes).collect();
            let info = JobInfo {
                number: index + 1,
                name: job.name.clone(),
                prompt: labels.prompt,
                model: model.map(|model| model.label.clone()).unwrap_or_default(),
                input: Some(parts.join(", ")).filter(|input| !input.is_empty()),
            };
            ScheduledJob {
                info,
                model: job.coordinates.model,
                prompt_bytes: job.prompt_bytes,
                need: job.need,
                runs: job.runs(),
            }
        };
        self.list.jobs.iter().enumerate().map(scheduled).collect()
    }
}
