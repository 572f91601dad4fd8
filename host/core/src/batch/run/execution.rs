//! Runs a prepared batch: recovers from earlier runs, schedules the jobs, and ends the
//! journal.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tokio::sync::watch;

use super::batch_summary::BatchSummary;
use super::event::{BatchEvent, SharedObserver};
use super::live_backend::LiveBackend;
use super::model_loader::ModelLoader;
use super::prepared_batch::PreparedBatch;
use super::recovery::{adopt, unload_leftovers};
use super::result_folder::ResultFolder;
use super::run_journal::{end_journal, open_journal};
use super::run_state::{Interrupts, RunState, RunStop, SchedulerOptions};
use super::scheduler::Scheduler;
use super::scheduler_input::{scheduled_jobs, scheduled_models};
use crate::batch::{Committer, Journal};
use crate::client;
use crate::error::Error;

impl PreparedBatch<'_> {
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
        let mut journal = open_journal(&self)?;
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
        let models = scheduled_models(&self.inputs.models);
        let jobs = scheduled_jobs(&self.inputs, &self.list.jobs);
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
        let LiveBackend { folder, store, .. } = backend;
        let ResultFolder {
            committer, journal, ..
        } = folder;
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
        if let Err(error) = end_journal(journal.into_inner(), &summary, self.start) {
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

    /// Creates the backend of this run.
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
            loader: ModelLoader {
                models: &self.inputs.models,
                contexts: &self.contexts,
                timeouts: self.timeouts,
                connect: self.connect,
                lifecycle: client::lifecycle_options(load, setup.env, setup.config, &registry),
                folders: client::model_folders(setup.env),
                observer,
            },
            store: client::registry_store(setup.env),
            folder: ResultFolder {
                inputs: &self.inputs,
                out: &setup.out,
                results: setup.plan.results,
                observer,
                committer: Committer::start(&setup.out, journal.try_clone()?)?,
                journal: RefCell::new(journal),
            },
            observer,
            cancelled,
            shown: RefCell::new(shown),
        })
    }
}
