//! The backend of real runs: runs jobs on engines, with a model loader and a folder.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::watch;

use super::backend::{Backend, FinishedJob, JobResult, LoadError, Loaded};
use super::event::SharedObserver;
use super::job_inputs::JobInputs;
use super::job_progress::JobProgress;
use super::model_loader::{CountedInstance, ModelLoader};
use super::planned_job::PlannedJob;
use super::publish_result::{REASONING_SUFFIX, publish};
use super::record_failure::record_failure;
use super::result_folder::{DISK_HINT, ResultFolder, WriteError};
use super::spool::Spool;
use crate::batch::{Record, StartRecord};
use crate::engine::{Instance, Memory, SelectedModel, UnloadResult, is_local};
use crate::error::{Error, ErrorKind};
use crate::error_chain::error_chain;
use crate::job::{
    self, Cancellation, End, FailureClass, JobError, Outcome, PreparedJob, ResolvedJob, RunContext,
    Sinks, Warning,
};
use crate::registry::RegistryStore;
use crate::sink::AnswerFile;

/// With less than this share of the memory free, a machine is about to swap.
const MEMORY_SHARE: u64 = 20;

/// Everything that the jobs of a run share.
pub(super) struct LiveBackend<'a> {
    pub(super) inputs: &'a JobInputs,
    pub(super) jobs: &'a [PlannedJob],
    pub(super) spool: Option<&'a Spool>,
    pub(super) loader: ModelLoader<'a>,
    pub(super) folder: ResultFolder<'a>,
    pub(super) store: RegistryStore,
    pub(super) observer: &'a SharedObserver,
    /// True once the running jobs are cancelled.
    pub(super) cancelled: watch::Receiver<bool>,
    /// Warnings that were shown: a warning of many jobs is shown once.
    pub(super) shown: RefCell<BTreeSet<Warning>>,
}

impl LiveBackend<'_> {
    /// Returns a future that completes when the running jobs are cancelled.
    fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cancelled = self.cancelled.clone();
        async move {
            // A sender that is gone cancels nothing.
            if cancelled
                .wait_for(|is_cancelled| *is_cancelled)
                .await
                .is_err()
            {
                std::future::pending().await
            }
        }
    }

    async fn run_job(
        &self,
        instance: &CountedInstance,
        index: usize,
        attempt: u32,
        start: Instant,
    ) -> JobResult<AnswerFile> {
        let Some(job) = self.jobs.get(index) else {
            return JobResult::Fatal(Error::new(ErrorKind::Broken, "invalid job index"));
        };
        let mut file = AnswerFile::in_folder(&self.folder.path(job));
        let prepared = match file.open_partial() {
            Ok(()) => self.prepare(job, &instance.instance).await,
            Err(error) => return write_failed(error.into(), file),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                return JobResult::Failed {
                    failure,
                    class: FailureClass::Job,
                    partial: file,
                };
            }
        };
        let started = Record::Start(StartRecord {
            job: job.name.clone(),
            identity: job.identity.clone(),
            attempt,
        });
        if let Err(failure) = self.folder.record(&started) {
            return JobResult::Fatal(failure);
        }
        let mut progress = JobProgress {
            observer: self.observer.clone(),
            all_tokens: Arc::clone(&instance.tokens),
            number: index + 1,
            tokens: 0,
        };
        let outcome = {
            let sinks: Sinks<'_> = vec![&mut file, &mut progress];
            let mut cancel = std::pin::pin!(self.cancelled());
            let context = RunContext {
                statistics: Some(&self.store),
                start,
                load_s: None,
            };
            job::run(
                prepared,
                &instance.instance,
                sinks,
                cancel.as_mut(),
                context,
            )
            .await
        };
        self.show_warnings(job, &outcome);
        self.conclude(job, attempt, file, outcome).await
    }

    /// Resolves the prompt, unless that was done for the plan, and prepares the job.
    async fn prepare(&self, job: &PlannedJob, instance: &Instance) -> Result<PreparedJob, Error> {
        let resolved: ResolvedJob = match (job.resolved, self.spool) {
            (Some(entry), Some(spool)) => spool.get(entry)?,
            _ => {
                let job = self.inputs.resolve_job(job.coordinates)?;
                self.inputs.resolver.resolve(job).wait().await?
            }
        };
        let spec = self.inputs.spec(job.coordinates);
        Ok(job::prepare(&spec, resolved, &instance.selected).await?)
    }

    /// Shows each warning once, with the first job that has it.
    fn show_warnings(&self, job: &PlannedJob, outcome: &Outcome) {
        for warning in &outcome.answer.warnings {
            if self.shown.borrow_mut().insert(warning.without_counts()) {
                self.observer
                    .warning(&format!("{}: {warning} (shown once)", job.name));
            }
        }
    }

    /// Converts an outcome to the result of the attempt, and publishes a complete answer.
    async fn conclude(
        &self,
        job: &PlannedJob,
        attempt: u32,
        file: AnswerFile,
        outcome: Outcome,
    ) -> JobResult<AnswerFile> {
        let has_output = outcome.has_output();
        let Outcome { end, answer, used } = outcome;
        match end {
            End::Done => {}
            End::Cancelled(Cancellation::Requested) => {
                file.discard_unwritten();
                return JobResult::Cancelled;
            }
            // Results go to files, so this is an error of the program.
            End::Cancelled(Cancellation::ReaderGone) => {
                return JobResult::Fatal(Error::interrupted());
            }
            End::Failed(error) => {
                // The only output of the model.
                if matches!(error, JobError::OnlyReasoning(_))
                    && let Err(error) = file.write_beside(REASONING_SUFFIX, &answer.reasoning)
                {
                    return write_failed(error.into(), file);
                }
                let class = error.class();
                let failure = Error::of_job(error, has_output);
                return if class == FailureClass::Disk {
                    JobResult::Fatal(failure.hint(DISK_HINT))
                } else {
                    JobResult::Failed {
                        failure,
                        class,
                        partial: file,
                    }
                };
            }
        }
        let tokens = answer.usage.map(|usage| usage.completion_tokens);
        match publish(&self.folder, job, attempt, file, &answer, used).await {
            Ok(()) => JobResult::Done { tokens },
            Err(error) => write_failed(error, AnswerFile::in_folder(&self.folder.path(job))),
        }
    }
}

/// Returns the result of a job whose answer cannot be written.
fn write_failed(error: WriteError, partial: AnswerFile) -> JobResult<AnswerFile> {
    match error {
        WriteError::Run(failure) => JobResult::Fatal(failure),
        WriteError::Job(failure) => JobResult::Failed {
            failure,
            class: FailureClass::Job,
            partial,
        },
    }
}

impl Backend for LiveBackend<'_> {
    type Selected = SelectedModel;
    type Instance = CountedInstance;
    type Partial = AnswerFile;

    async fn select(&self, model: usize) -> Result<SelectedModel, LoadError> {
        let selected = self.loader.select(model).await?;
        for warning in &selected.warnings {
            let warning = Warning::Engine(warning.clone());
            let text = warning.to_string();
            if self.shown.borrow_mut().insert(warning) {
                self.observer.warning(&text);
            }
        }
        Ok(selected)
    }

    async fn load(
        &self,
        model: usize,
        selected: SelectedModel,
    ) -> Result<Loaded<CountedInstance>, LoadError> {
        let mut cancel = std::pin::pin!(self.cancelled());
        self.loader.load(model, selected, cancel.as_mut()).await
    }

    async fn slots(&self, instance: &CountedInstance) -> Option<usize> {
        let slots = instance.instance.parallel_slots().await?;
        Some(slots as usize)
    }

    async fn run(
        &self,
        instance: &CountedInstance,
        job: usize,
        attempt: u32,
    ) -> FinishedJob<AnswerFile> {
        let start = Instant::now();
        let result = self.run_job(instance, job, attempt, start).await;
        FinishedJob {
            result,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    async fn unload(&self, instance: &CountedInstance) -> Result<UnloadResult, String> {
        let unloader = instance.instance.unloader();
        unloader.unload().await.map_err(|error| error_chain(&error))
    }

    async fn release(&self, instance: &CountedInstance) -> Result<UnloadResult, String> {
        let unloader = instance.instance.unloader();
        let released = if instance.instance.has_own_replacement() {
            unloader.unload().await
        } else {
            unloader.release().await
        };
        released.map_err(|error| error_chain(&error))
    }

    async fn is_reachable(&self, model: usize) -> bool {
        self.loader.is_reachable(model).await
    }

    fn is_short_of_memory(&self, model: usize) -> bool {
        let model = self.inputs.models.get(model);
        let memory = Memory::detect();
        model.is_some_and(|model| is_local(&model.place))
            && memory.available < memory.total / MEMORY_SHARE
    }

    fn tokens(&self, instance: &CountedInstance) -> u64 {
        instance.tokens.load(Ordering::Relaxed)
    }

    fn record(&self, record: &Record) -> Result<(), Error> {
        self.folder.record(record)
    }

    fn record_failure(
        &self,
        index: usize,
        failure: &Error,
        partial: Option<AnswerFile>,
        attempts: u32,
        seconds: f64,
    ) -> Result<(), Error> {
        let Some(job) = self.jobs.get(index) else {
            return Ok(());
        };
        record_failure(&self.folder, job, failure, partial, attempts, seconds)
    }
}
