//! The backend of real runs: engines, files and the journal.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fs_err as fs;
use jiff::Timestamp;
use lmstrix_inference::{ContextSize, Event};
use tokio::sync::watch;

use super::backend::{
    Backend, FinishedJob, JobResult, LeftBehind, LoadError, LoadErrorKind, Loaded,
};
use super::contexts::ModelContext;
use super::event::{BatchEvent, JobPhase, SharedObserver};
use super::job_inputs::JobInputs;
use super::job_list::PlannedJob;
use super::spool::Spool;
use crate::batch::{
    self, AnswerRecord, Committer, DoneRecord, FailedRecord, Journal, PlanContext, Record,
    ResultOptions, StartRecord,
};
use crate::engine::{
    self, ConnectTimeouts, EngineSelection, Instance, LifecycleOptions, Memory, ModelQuery,
    SelectedModel, is_local, select_model,
};
use crate::error::{Error, ErrorKind};
use crate::error_chain::error_chain;
use crate::job::{
    self, Cancellation, End, FailureClass, JobError, Outcome, PreparedJob, ResolvedJob, RunContext,
    Sinks, Timeouts, Warning,
};
use crate::registry::RegistryStore;
use crate::sink::{self, AnswerFile, Sink};
use crate::store::sha256_hex;

/// With less than this share of the memory free, a machine is about to swap.
const MEMORY_SHARE: u64 = 20;

/// The hint of a result that cannot be written.
const DISK_HINT: &str = "free disk space or make the folder writable, and run the same command \
                         to continue";

/// Everything that the jobs of a run share.
pub(super) struct LiveBackend<'a> {
    pub(super) inputs: &'a JobInputs,
    pub(super) jobs: &'a [PlannedJob],
    pub(super) spool: Option<&'a Spool>,
    pub(super) contexts: &'a [ModelContext],
    pub(super) out: &'a Path,
    pub(super) results: ResultOptions,
    pub(super) timeouts: Timeouts,
    pub(super) connect: ConnectTimeouts,
    pub(super) lifecycle: LifecycleOptions,
    pub(super) models_dir: PathBuf,
    pub(super) store: RegistryStore,
    pub(super) observer: &'a SharedObserver,
    pub(super) journal: RefCell<Journal>,
    pub(super) committer: Committer,
    /// True once the running jobs are cancelled.
    pub(super) cancelled: watch::Receiver<bool>,
    /// Warnings that were shown: a warning of many jobs is shown once.
    pub(super) shown: RefCell<BTreeSet<Warning>>,
}

/// A loaded instance with a count of the tokens that it produced.
pub(super) struct CountedInstance {
    instance: Instance,
    tokens: Arc<AtomicU64>,
}

impl LiveBackend<'_> {
    fn query(&self, model: usize, context: Option<ContextSize>) -> ModelQuery {
        let model = self.inputs.models.get(model);
        let server = model.and_then(|model| model.server.clone());
        ModelQuery {
            selection: server.map_or(EngineSelection::Embedded, |server| {
                EngineSelection::Servers(vec![server])
            }),
            model: model.map(|model| model.id.clone()),
            default_model: None,
            context,
            models_dir: self.models_dir.clone(),
            timeouts: self.connect,
            last_used: None,
            lifecycle: self.lifecycle.clone(),
        }
    }

    /// Selects the model again, since its server may no longer have it, with the context
    /// that its jobs need.
    async fn select_with_context(&self, model: usize) -> Result<SelectedModel, engine::Error> {
        let size = self.contexts.get(model).map(|context| context.size);
        let is_fitting = self
            .inputs
            .models
            .get(model)
            .is_some_and(|model| model.plan_context == PlanContext::Fit);
        match select_model(self.query(model, size)).await {
            Ok(selected) if size.is_some() && !selected.can_set_context() => {
                select_model(self.query(model, None)).await
            }
            // With less context only the jobs that do not fit fail.
            Err(engine::Error::InsufficientMemory {
                largest_context: Some(largest),
                ..
            }) if is_fitting => {
                let size = Some(ContextSize::Tokens(largest));
                select_model(self.query(model, size)).await
            }
            selected => selected,
        }
    }

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
        let mut file = AnswerFile::deferred(&self.out.join(&job.name));
        let prepared = match self.prepare(job, &instance.instance).await {
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
        if let Err(failure) = self.record(&started) {
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
            if self.shown.borrow_mut().insert(warning.clone()) {
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
            End::Cancelled(Cancellation::Requested) => return JobResult::Cancelled,
            // A job of a batch has no reader that could leave; no other job would fare better.
            End::Cancelled(Cancellation::ReaderGone) => {
                return JobResult::Fatal(Error::interrupted());
            }
            End::Failed(error) => {
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
        let done = DoneRecord {
            job: job.name.clone(),
            identity: job.identity.clone(),
            key: job.key.clone(),
            length: answer.text.len() as u64,
            sha256: sha256_hex(answer.text.as_bytes()),
            at: Timestamp::now(),
            labels: self.inputs.labels(job.coordinates),
            prompt_bytes: job.prompt_bytes,
            need: job.need.context,
            prompt_tokens: answer.usage.map(|usage| usage.prompt_tokens),
            completion_tokens: answer.usage.map(|usage| usage.completion_tokens),
            first_token_s: answer.timings.first_token_s,
            seconds: answer.timings.total_s,
            finish: answer.finish.and_then(|reason| {
                let name = serde_json::to_value(reason).ok()?;
                name.as_str().map(str::to_owned)
            }),
            seed: used.settings.seed.map(|seed| seed.value),
            attempts: attempt,
            packs: used
                .packs
                .into_iter()
                .map(|pack| (pack.name, pack.digest))
                .collect(),
            warnings: answer.warnings.iter().map(ToString::to_string).collect(),
            adopted: false,
        };
        let tokens = done.completion_tokens;
        match self.publish(job, file, &answer, done).await {
            Ok(()) => JobResult::Done { tokens },
            Err(failure) => JobResult::Fatal(failure),
        }
    }

    /// Gives the result its name, in an order that survives a kill at any moment: text,
    /// journal, name, disk, journal.
    async fn publish(
        &self,
        job: &PlannedJob,
        file: AnswerFile,
        answer: &job::Answer,
        done: DoneRecord,
    ) -> Result<(), Error> {
        if self.results.keep_raw {
            file.write_beside(".raw.txt", &answer.raw)
                .map_err(of_sink)?;
        }
        if self.results.keep_reasoning && !answer.reasoning.is_empty() {
            file.write_beside(".reasoning.txt", &answer.reasoning)
                .map_err(of_sink)?;
        }
        let staged = file.stage(&answer.text, &answer.raw).map_err(of_sink)?;
        self.record(&Record::Answer(AnswerRecord {
            job: done.job.clone(),
            identity: done.identity.clone(),
            key: done.key.clone(),
            length: done.length,
            sha256: done.sha256.clone(),
            file: staged.name(),
        }))?;
        let is_own = |path: &Path, length: u64| is_own_result(job, path, length);
        let (file, aside) = staged.publish(is_own).map_err(of_sink)?;
        if let Some(aside) = aside {
            self.observer.warning(&format!(
                "{} had been changed by hand; the old file is kept as {}",
                job.name,
                aside.display()
            ));
        }
        let record = Record::Done(Box::new(done));
        Ok(self.committer.commit(file, record).await?)
    }
}

/// Returns whether a file in a result's place was written by an earlier run: it has the
/// digest of a result, or is a failure of `--errors inline`.
fn is_own_result(job: &PlannedJob, path: &Path, length: u64) -> bool {
    job.own_results
        .iter()
        .any(|kept| kept.length == length && batch::has_digest(path, &kept.sha256))
        || AnswerFile::is_failure(path)
}

/// Nothing can be written any more.
fn of_sink(error: sink::Error) -> Error {
    Error {
        kind: ErrorKind::Broken,
        ..Error::from(error)
    }
    .hint(DISK_HINT)
}

impl Backend for LiveBackend<'_> {
    type Selected = SelectedModel;
    type Instance = CountedInstance;
    type Partial = AnswerFile;

    async fn select(&self, model: usize) -> Result<SelectedModel, LoadError> {
        let selected = self
            .select_with_context(model)
            .await
            .map_err(|error| LoadError {
                kind: load_error_kind(error),
                left: LeftBehind::Nothing,
            })?;
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
        let label = self
            .inputs
            .models
            .get(model)
            .map(|model| model.label.clone())
            .unwrap_or_default();
        let mut progress = LoadProgress {
            observer: self.observer.clone(),
            model: label,
            context: selected.requested_context(),
        };
        let mut sinks: Sinks<'_> = vec![&mut progress];
        let mut cancel = std::pin::pin!(self.cancelled());
        let start = Instant::now();
        let loading = job::load(selected, &mut sinks, cancel.as_mut(), self.timeouts, start);
        match loading.await {
            Ok(instance) => Ok(Loaded {
                id: instance.id().to_owned(),
                context: instance.context(),
                load_s: instance.load_s(),
                is_ours: instance.is_owned(),
                warnings: instance.warnings.clone(),
                instance: CountedInstance {
                    instance,
                    tokens: Arc::default(),
                },
            }),
            Err(error) => Err(load_error(error)),
        }
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

    async fn unload(&self, instance: &CountedInstance) -> Result<Option<bool>, String> {
        let unloader = instance.instance.unloader();
        unloader.unload().await.map_err(|error| error_chain(&error))
    }

    async fn is_reachable(&self, model: usize) -> bool {
        select_model(self.query(model, None)).await.is_ok()
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
        Ok(self.journal.borrow_mut().append(record)?)
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
        let target = self.out.join(&job.name);
        let file = partial.unwrap_or_else(|| AnswerFile::deferred(&target));
        let reason: Vec<&str> = std::iter::once(&failure.message)
            .chain(&failure.hints)
            .map(String::as_str)
            .collect();
        let reason = reason.join("\n");
        // With `--errors inline` a failure replaces nothing but an earlier failure.
        let is_free = fs::symlink_metadata(&target).is_err() || AnswerFile::is_failure(&target);
        let staged = if self.results.errors_inline && is_free {
            Some(file.fail_inline(&reason).map_err(of_sink)?)
        } else {
            file.fail(&reason).map_err(of_sink)?;
            None
        };
        self.record(&Record::Failed(Box::new(FailedRecord {
            job: job.name.clone(),
            identity: job.identity.clone(),
            at: Timestamp::now(),
            labels: self.inputs.labels(job.coordinates),
            exit: failure.kind as u8,
            error: failure.message.clone(),
            seconds,
            attempts,
            inline: staged.as_ref().map(|(_, length)| *length),
        })))?;
        // Only now, so that the file is never taken for a result.
        if let Some((staged, _)) = staged {
            let is_failure = |path: &Path, _: u64| AnswerFile::is_failure(path);
            staged.publish(is_failure).map_err(of_sink)?;
        }
        Ok(())
    }
}

fn load_error_kind(error: engine::Error) -> LoadErrorKind {
    match FailureClass::of_engine(&error) {
        FailureClass::Server => LoadErrorKind::Server(error_chain(&error)),
        FailureClass::Model | FailureClass::Busy => LoadErrorKind::Model(error_chain(&error)),
        FailureClass::Job | FailureClass::Disk => LoadErrorKind::Impossible(error.into()),
    }
}

fn load_error(error: JobError) -> LoadError {
    match error {
        JobError::Engine(error) => LoadError {
            // The server refused: nothing is loaded. A connection that broke may have
            // left a load that continues.
            left: if error.is_unreachable() {
                LeftBehind::Unknown
            } else {
                LeftBehind::Nothing
            },
            kind: load_error_kind(error),
        },
        JobError::Cancelled => LoadError {
            kind: LoadErrorKind::Cancelled,
            left: LeftBehind::Unknown,
        },
        JobError::Expired(expired) => LoadError {
            kind: LoadErrorKind::Model(Error::from(expired).message),
            left: LeftBehind::Ours,
        },
        error => LoadError {
            kind: LoadErrorKind::Impossible(error.into()),
            left: LeftBehind::Unknown,
        },
    }
}

/// Reports the progress of a job.
struct JobProgress {
    observer: SharedObserver,
    all_tokens: Arc<AtomicU64>,
    number: usize,
    tokens: u32,
}

impl JobProgress {
    fn report(&self, phase: JobPhase) {
        self.observer.event(BatchEvent::JobProgressed {
            number: self.number,
            phase,
            tokens: self.tokens,
        });
    }

    /// Counts a piece: servers send one for each token.
    fn piece(&mut self, phase: JobPhase) {
        self.tokens = self.tokens.saturating_add(1);
        self.all_tokens.fetch_add(1, Ordering::Relaxed);
        self.report(phase);
    }
}

impl Sink for JobProgress {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            Event::Loading(done) => self.report(JobPhase::Loading(*done)),
            Event::Prefill { progress, tokens } => self.report(JobPhase::Reading {
                done: *progress,
                tokens: *tokens,
            }),
            Event::Reasoning(_) => self.piece(JobPhase::Reasoning),
            _ => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), sink::Error> {
        self.piece(JobPhase::Writing);
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }

    fn wants_answer(&self) -> bool {
        false
    }
}

/// Reports the progress of a load.
struct LoadProgress {
    observer: SharedObserver,
    model: String,
    context: Option<u32>,
}

impl Sink for LoadProgress {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        if let Event::Loading(progress) = event {
            self.observer.event(BatchEvent::ModelLoading {
                model: &self.model,
                context: self.context,
                progress: *progress,
            });
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }
}
