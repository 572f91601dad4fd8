//! The scheduler: model after model, each loaded once. A job that hangs is retried, its
//! model is reloaded, then set aside and tried once more at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::backend::{Backend, LeftBehind, LoadError, LoadErrorKind, Loaded};
use super::event::{BatchEvent, JobEnd, JobInfo, SharedObserver};
use super::queue::Queue;
use super::totals::{ModelTotals, time_left};
use super::worker_pool::PoolEnd;
use crate::batch::{InstanceRecord, ModelSpeed, Record, TokenNeed};
use crate::error::{Error, ErrorKind};
use crate::job::Cancel;

/// Times that a server may go away and come back without a job done in between.
const RECONNECTS_MAX: u32 = 3;
/// The pause before the last round: the cause of the failures may have passed by then.
const ROUND_PAUSE: Duration = Duration::from_secs(3);
/// The number of rounds: models that were set aside are tried once more.
const ROUNDS: usize = 2;
/// The time limit of an unload.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);
/// The interval at which a server that went away is asked again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);
/// The interval of `BatchEvent::Tick`.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// A model of the run.
#[derive(Clone, Debug, Default)]
pub(super) struct ScheduledModel {
    pub(super) label: String,
    /// A server's address, or `embedded`.
    pub(super) place: String,
    /// The model's name at its engine.
    pub(super) id: String,
    pub(super) speed: ModelSpeed,
    /// The most jobs at once, where the plan limits them.
    pub(super) jobs: Option<usize>,
    /// True if it was loaded before the run.
    pub(super) is_loaded: bool,
}

/// A job of the run.
#[derive(Clone, Debug)]
pub(super) struct ScheduledJob {
    pub(super) info: JobInfo,
    pub(super) model: usize,
    pub(super) prompt_bytes: u64,
    pub(super) need: TokenNeed,
    /// False for a job that is skipped.
    pub(super) runs: bool,
}

/// Options of the scheduler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SchedulerOptions {
    /// The most jobs at once for every model.
    pub(super) jobs: Option<usize>,
    /// More failures than this end the run.
    pub(super) failure_limit: Option<FailureLimit>,
    /// The time limit for a server that went away to answer again.
    pub(super) reconnect_timeout: Duration,
}

/// A number of jobs, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureLimit {
    /// This many jobs.
    Count(usize),
    /// This percentage of all jobs.
    Percent(u8),
}

impl FromStr for FailureLimit {
    type Err = String;

    /// Parses a number of jobs, or `0%` to `100%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let limit = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok();
                percent.filter(|percent| *percent <= 100).map(Self::Percent)
            }
            None => text.parse().ok().map(Self::Count),
        };
        limit.ok_or_else(|| "expected a number, or `0%` to `100%`".to_owned())
    }
}

impl FailureLimit {
    /// Returns whether `failures` of `jobs` exceed the limit.
    #[must_use]
    pub fn is_exceeded(self, failures: usize, jobs: usize) -> bool {
        match self {
            Self::Count(most) => failures > most,
            Self::Percent(percent) => failures * 100 > jobs * usize::from(percent),
        }
    }
}

/// The signals that interrupt a batch: the first lets the running jobs end, the second
/// cancels them, too.
pub struct Interrupts<'a> {
    /// The first signal.
    pub first: Cancel<'a>,
    /// The second signal.
    pub second: Cancel<'a>,
}

/// The reason that a run ends early.
#[derive(Debug)]
pub enum RunStop {
    /// The first signal: the running jobs end first.
    Interrupted,
    /// Too many jobs failed.
    Failures,
    /// Nothing can be written.
    Fatal(Error),
}

/// Runs the jobs of a batch.
pub(super) struct Scheduler<'a, 'i, B> {
    pub(super) backend: &'a B,
    pub(super) observer: &'a SharedObserver,
    pub(super) options: SchedulerOptions,
    pub(super) models: &'a [ScheduledModel],
    pub(super) jobs: &'a [ScheduledJob],
    /// Models that this run or a killed one loaded, by place and name: a server that
    /// went away may come back with them.
    pub(super) owned: BTreeSet<(String, String)>,
    pub(super) interrupts: Interrupts<'i>,
    /// Cancels the running jobs.
    pub(super) cancel: watch::Sender<bool>,
    pub(super) stop: Option<RunStop>,
    pub(super) totals: Vec<ModelTotals>,
    has_first_signal: bool,
    has_second_signal: bool,
    shown: BTreeSet<String>,
}

/// The end of a model's round.
enum RoundEnd {
    Complete,
    SetAside(String),
    /// The model cannot be run at all.
    Impossible(Error),
    Stopped,
}

impl<'a, 'i, B: Backend> Scheduler<'a, 'i, B> {
    pub(super) fn new(
        backend: &'a B,
        observer: &'a SharedObserver,
        options: SchedulerOptions,
        models: &'a [ScheduledModel],
        jobs: &'a [ScheduledJob],
        interrupts: Interrupts<'i>,
        cancel: watch::Sender<bool>,
    ) -> Self {
        Self {
            backend,
            observer,
            options,
            models,
            jobs,
            owned: BTreeSet::new(),
            interrupts,
            cancel,
            stop: None,
            totals: vec![ModelTotals::default(); models.len()],
            has_first_signal: false,
            has_second_signal: false,
            shown: BTreeSet::new(),
        }
    }

    /// Runs all jobs. Whatever happens, no model that this run loaded stays loaded, as
    /// far as its server allows.
    pub(super) async fn run(&mut self) {
        let mut queues = self.queues();
        self.show_time_left();
        let mut set_aside: BTreeMap<usize, String> = BTreeMap::new();
        for round in 1..=ROUNDS {
            if round > 1 && !set_aside.is_empty() {
                self.pause(ROUND_PAUSE).await;
            }
            for (model, queue) in queues.iter_mut().enumerate() {
                if queue.is_empty() || (round > 1 && !set_aside.contains_key(&model)) {
                    continue;
                }
                queue.begin_round();
                match self.run_model(model, queue).await {
                    RoundEnd::Complete => {
                        set_aside.remove(&model);
                    }
                    RoundEnd::SetAside(cause) => {
                        self.set_aside(model, &cause, round);
                        set_aside.insert(model, cause);
                    }
                    RoundEnd::Impossible(failure) => {
                        set_aside.remove(&model);
                        self.fail_all(queue, &failure);
                    }
                    RoundEnd::Stopped => return,
                }
                if self.stop.is_some() {
                    return;
                }
            }
        }
        for (model, queue) in queues.iter_mut().enumerate() {
            if let Some(cause) = set_aside.get(&model) {
                let label = self.label(model);
                let failure = Error::new(
                    ErrorKind::Broken,
                    format!("not done: `{label}` was set aside: {cause}"),
                );
                self.fail_all(queue, &failure);
            }
        }
    }

    /// Queues the jobs of each model, short prompts first, so that results appear soon.
    fn queues(&mut self) -> Vec<Queue> {
        let mut queues: Vec<Queue> = self.models.iter().map(|_| Queue::default()).collect();
        for (model, totals) in self.models.iter().zip(&mut self.totals) {
            totals.is_loaded = model.is_loaded;
            totals.at_once = self.options.jobs.or(model.jobs).unwrap_or(1);
        }
        let mut order: Vec<(usize, &ScheduledJob)> = self.jobs.iter().enumerate().collect();
        order.sort_by_key(|(_, job)| job.prompt_bytes);
        for (index, job) in order.into_iter().filter(|(_, job)| job.runs) {
            let queue = queues.get_mut(job.model);
            let totals = self.totals.get_mut(job.model);
            if let (Some(queue), Some(totals)) = (queue, totals) {
                queue.push(index);
                self.observer.event(BatchEvent::JobQueued(&job.info));
                totals.left += 1;
                totals.prompt_tokens += u64::from(job.need.prompt);
                totals.answer_limit = totals.answer_limit.max(job.need.limit);
            }
        }
        queues
    }

    /// Runs all jobs of one model.
    async fn run_model(&mut self, model: usize, queue: &mut Queue) -> RoundEnd {
        let mut reconnects = 0;
        loop {
            if self.poll_interrupts().await {
                return RoundEnd::Stopped;
            }
            let done_before = queue.done_since_load();
            let loaded = match self.load(model).await {
                Ok(loaded) => loaded,
                Err(LoadErrorKind::Server(cause)) => {
                    reconnects += 1;
                    if reconnects > RECONNECTS_MAX || !self.wait_for_server(model, &cause).await {
                        return self.set_aside_or_stopped(cause);
                    }
                    continue;
                }
                Err(LoadErrorKind::Model(cause)) => return self.set_aside_or_stopped(cause),
                Err(LoadErrorKind::Impossible(failure)) => return RoundEnd::Impossible(failure),
                Err(LoadErrorKind::Cancelled) => return RoundEnd::Stopped,
            };
            let instances = [loaded];
            let end = if self.stop.is_some() {
                PoolEnd::Stopped
            } else {
                self.run_pool(model, &instances, queue).await
            };
            let [loaded] = instances;
            if queue.done_since_load() > done_before {
                reconnects = 0;
            }
            match end {
                PoolEnd::Complete => {
                    self.unload(model, &loaded).await;
                    return RoundEnd::Complete;
                }
                PoolEnd::Stopped => {
                    self.unload(model, &loaded).await;
                    return RoundEnd::Stopped;
                }
                PoolEnd::ServerGone(cause) => {
                    reconnects += 1;
                    if reconnects > RECONNECTS_MAX || !self.wait_for_server(model, &cause).await {
                        return self.set_aside_or_stopped(cause);
                    }
                }
                PoolEnd::InstanceFails(cause) => {
                    let is_owned = self.is_owned(model, &loaded);
                    self.unload(model, &loaded).await;
                    if queue.reload() {
                        return RoundEnd::SetAside(cause);
                    }
                    let label = self.label(model);
                    self.observer.warning(&if is_owned {
                        format!("reloading `{label}`, which failed twice: {cause}")
                    } else {
                        format!("trying `{label}` once more, which failed twice: {cause}")
                    });
                }
            }
        }
    }

    fn set_aside_or_stopped(&self, cause: String) -> RoundEnd {
        if self.stop.is_some() {
            RoundEnd::Stopped
        } else {
            RoundEnd::SetAside(cause)
        }
    }

    /// Waits for a server that went away; returns whether it came back.
    async fn wait_for_server(&mut self, model: usize, cause: &str) -> bool {
        let place = self.models.get(model).map_or("", |model| &model.place);
        self.observer.warning(&format!(
            "{cause}; waiting up to {} s for {place}",
            self.options.reconnect_timeout.as_secs()
        ));
        let start = Instant::now();
        while start.elapsed() < self.options.reconnect_timeout {
            let backend = self.backend;
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                is_reachable = backend.is_reachable(model) => {
                    if is_reachable {
                        return true;
                    }
                }
            }
            if self.stop.is_some() {
                return false;
            }
            self.pause(RECONNECT_INTERVAL).await;
            self.observer.event(BatchEvent::Tick);
        }
        false
    }

    /// Loads the model, and records in the journal whether this run owns it.
    async fn load(&mut self, index: usize) -> Result<Loaded<B::Instance>, LoadErrorKind> {
        let backend = self.backend;
        let selected = backend.select(index).await.map_err(|error| error.kind)?;
        let Some(model) = self.models.get(index) else {
            return Err(LoadErrorKind::Cancelled);
        };
        // Do not load a model after cancellation.
        if self.poll_interrupts().await {
            return Err(LoadErrorKind::Cancelled);
        }
        self.record(&Record::Loading(log_item(model)));
        let result = {
            let mut loading = std::pin::pin!(backend.load(index, selected));
            loop {
                tokio::select! {
                    biased;
                    // The load continues, so that it can be undone; a second signal
                    // cancels it.
                    () = self.interrupted() => {}
                    result = &mut loading => break result,
                    () = tokio::time::sleep(TICK) => self.observer.event(BatchEvent::Tick),
                }
            }
        };
        let loaded = match result {
            Ok(loaded) => loaded,
            Err(LoadError { kind, left }) => {
                match left {
                    LeftBehind::Nothing => self.record(&Record::Unloaded(log_item(model))),
                    LeftBehind::Unknown => {}
                    LeftBehind::Ours => {
                        self.owned.insert(model.key());
                    }
                }
                return Err(kind);
            }
        };
        if loaded.is_ours {
            self.owned.insert(model.key());
        }
        for warning in &loaded.warnings {
            self.warn_once(&format!("{}: {warning}", model.label));
        }
        let item = InstanceRecord {
            instance: Some(loaded.id.clone()),
            context: loaded.context,
            seconds: loaded.load_s,
            ..log_item(model)
        };
        // An instance of another process is never unloaded.
        let record = if self.is_owned(index, &loaded) {
            Record::Loaded(item)
        } else {
            Record::Unloaded(item)
        };
        self.record(&record);
        if let Some(totals) = self.totals.get_mut(index) {
            totals.loaded(loaded.load_s);
        }
        if let Some(seconds) = loaded.load_s {
            self.observer.event(BatchEvent::ModelLoaded {
                model: &model.label,
                seconds,
                context: loaded.context,
            });
        }
        Ok(loaded)
    }

    /// Returns whether this folder's runs loaded the instance: this one, or one that
    /// was killed.
    fn is_owned(&self, model: usize, loaded: &Loaded<B::Instance>) -> bool {
        let key = self.models.get(model).map(ScheduledModel::key);
        loaded.is_ours || key.is_some_and(|key| self.owned.contains(&key))
    }

    async fn unload(&mut self, index: usize, loaded: &Loaded<B::Instance>) {
        let Some(model) = self.models.get(index) else {
            return;
        };
        if !self.is_owned(index, loaded) {
            return;
        }
        let unloading = self.backend.unload(&loaded.instance);
        let cause = match tokio::time::timeout(UNLOAD_LIMIT, unloading).await {
            Ok(Ok(unloaded)) => {
                self.record(&Record::Unloaded(log_item(model)));
                self.owned.remove(&model.key());
                if unloaded == Some(true) {
                    let model = &model.label;
                    self.observer.event(BatchEvent::ModelUnloaded { model });
                }
                None
            }
            Ok(Err(cause)) => Some(cause),
            Err(_) => Some(format!(
                "the server did not confirm the unload within {} s",
                UNLOAD_LIMIT.as_secs()
            )),
        };
        if let Some(cause) = cause {
            self.observer
                .warning(&format!("`{}` may stay loaded: {cause}", model.label));
        }
        if let Some(totals) = self.totals.get_mut(index) {
            totals.is_loaded = false;
        }
    }

    fn set_aside(&mut self, index: usize, cause: &str, round: usize) {
        let Some(model) = self.models.get(index) else {
            return;
        };
        let next = if round < ROUNDS {
            "it is tried once more at the end"
        } else {
            "its other jobs are not done"
        };
        self.observer
            .warning(&format!("`{}` is set aside ({cause}); {next}", model.label));
        self.record(&Record::Aside(InstanceRecord {
            reason: Some(cause.to_owned()),
            ..log_item(model)
        }));
        if let Some(totals) = self.totals.get_mut(index) {
            totals.aside = Some(cause.to_owned());
        }
    }

    pub(super) fn job_done(&mut self, index: usize, tokens: Option<u32>, seconds: f64) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        self.finish(job, JobEnd::Done, tokens, seconds);
        if let Some(totals) = self.totals.get_mut(job.model) {
            totals.job_done(tokens, seconds);
        }
        self.show_time_left();
    }

    pub(super) fn job_stopped(&self, index: usize) {
        if let Some(job) = self.jobs.get(index) {
            self.finish(job, JobEnd::Stopped, None, 0.0);
        }
    }

    pub(super) fn job_retried(&self, index: usize, cause: &str) {
        self.job_stopped(index);
        if let Some(job) = self.jobs.get(index) {
            self.observer
                .warning(&format!("retrying {}: {cause}", job.info.name));
        }
    }

    pub(super) fn job_failed(
        &mut self,
        index: usize,
        failure: &Error,
        partial: Option<B::Partial>,
        attempts: u32,
        seconds: f64,
    ) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let recorded = self
            .backend
            .record_failure(index, failure, partial, attempts, seconds);
        if let Err(fatal) = recorded {
            return self.stop(RunStop::Fatal(fatal));
        }
        self.finish(job, JobEnd::Failed(&failure.message), None, seconds);
        if let Some(totals) = self.totals.get_mut(job.model) {
            totals.job_failed();
        }
        self.show_time_left();
        let failed: usize = self.totals.iter().map(|totals| totals.failed).sum();
        let all = self.jobs.iter().filter(|job| job.runs).count();
        let limit = self.options.failure_limit;
        if limit.is_some_and(|limit| limit.is_exceeded(failed, all)) {
            self.stop(RunStop::Failures);
        }
    }

    /// Fails all jobs of a queue, since their model cannot be run.
    fn fail_all(&mut self, queue: &mut Queue, failure: &Error) {
        while let Some(job) = queue.pop() {
            // A job that was sent shows its own failure first.
            let message = match queue.last_failure(job) {
                Some(own) => format!("{own} ({})", failure.message),
                None => failure.message.clone(),
            };
            let failure = Error {
                hints: failure.hints.clone(),
                ..Error::new(failure.kind, message)
            };
            self.job_failed(job, &failure, None, queue.attempts(job), 0.0);
            if self.stop.is_some() {
                return;
            }
        }
    }

    fn finish(&self, job: &ScheduledJob, end: JobEnd<'_>, tokens: Option<u32>, seconds: f64) {
        self.observer.event(BatchEvent::JobFinished {
            job: &job.info,
            end,
            tokens: tokens.unwrap_or(0),
            seconds,
        });
    }

    fn show_time_left(&self) {
        let models = self
            .totals
            .iter()
            .zip(self.models.iter().map(|model| model.speed));
        self.observer.event(BatchEvent::TimeLeft(time_left(models)));
    }

    fn label(&self, model: usize) -> String {
        self.models
            .get(model)
            .map(|model| model.label.clone())
            .unwrap_or_default()
    }

    pub(super) fn warn_once(&mut self, text: &str) {
        if self.shown.insert(text.to_owned()) {
            self.observer.warning(text);
        }
    }

    /// Appends to the journal; a journal that cannot be written ends the run.
    fn record(&mut self, record: &Record) {
        if let Err(failure) = self.backend.record(record) {
            self.stop(RunStop::Fatal(failure));
        }
    }

    /// Waits, unless the run is to stop.
    async fn pause(&mut self, duration: Duration) {
        let mut rest = std::pin::pin!(tokio::time::sleep(duration));
        while self.stop.is_none() {
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                () = &mut rest => return,
            }
        }
    }

    /// Completes at the next signal, after having acted on it.
    pub(super) async fn interrupted(&mut self) {
        tokio::select! {
            biased;
            () = &mut self.interrupts.second, if !self.has_second_signal => {
                self.has_second_signal = true;
                self.has_first_signal = true;
                self.stop.get_or_insert(RunStop::Interrupted);
                let _no_job_runs = self.cancel.send(true);
            }
            () = &mut self.interrupts.first, if !self.has_first_signal => {
                self.has_first_signal = true;
                if self.stop.is_none() {
                    self.stop = Some(RunStop::Interrupted);
                    self.observer.warning(
                        "waiting for the running jobs to end; press Ctrl-C again to cancel them",
                    );
                }
            }
            else => std::future::pending().await,
        }
    }

    /// Acts on a signal that has arrived; returns whether the run is to stop.
    async fn poll_interrupts(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.interrupted() => {}
            () = std::future::ready(()) => {}
        }
        self.stop.is_some()
    }

    /// Stops the run. A fatal failure also cancels the running jobs, and wins over
    /// other reasons.
    pub(super) fn stop(&mut self, reason: RunStop) {
        if matches!(reason, RunStop::Fatal(_)) {
            let _no_job_runs = self.cancel.send(true);
            if !matches!(self.stop, Some(RunStop::Fatal(_))) {
                self.stop = Some(reason);
            }
            return;
        }
        self.stop.get_or_insert(reason);
    }
}

impl ScheduledModel {
    fn key(&self) -> (String, String) {
        (self.place.clone(), self.id.clone())
    }
}

fn log_item(model: &ScheduledModel) -> InstanceRecord {
    InstanceRecord {
        engine: model.place.clone(),
        model: model.id.clone(),
        ..InstanceRecord::default()
    }
}
