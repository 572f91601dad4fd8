//! The scheduler: model after model, each loaded once. A job that hangs is retried, its
//! model is reloaded, then set aside and tried once more at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, LeftBehind, LoadError, LoadErrorKind, Loaded};
use super::event::BatchEvent;
use super::queue::Queue;
use super::run_state::{RunState, ScheduledJob, ScheduledModel, TICK};
use super::worker_pool::PoolEnd;
use crate::batch::{InstanceRecord, Record};
use crate::engine::UnloadResult;
use crate::error::{Error, ErrorKind};

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
/// Runs the jobs of a batch.
pub(super) struct Scheduler<'a, 'i, B> {
    pub(super) state: RunState<'a, 'i, B>,
    /// Models that this run or a killed one loaded, by place and name: a server that
    /// went away may come back with them.
    pub(super) owned: BTreeSet<(String, String)>,
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
    pub(super) fn new(state: RunState<'a, 'i, B>) -> Self {
        Self {
            state,
            owned: BTreeSet::new(),
        }
    }

    /// Runs all jobs. Whatever happens, no model that this run loaded stays loaded, as
    /// far as its server allows.
    pub(super) async fn run(&mut self) {
        let mut queues = self.queues();
        self.state.show_time_left();
        let mut set_aside: BTreeMap<usize, String> = BTreeMap::new();
        for round in 1..=ROUNDS {
            if round > 1 && !set_aside.is_empty() {
                self.state.pause(ROUND_PAUSE).await;
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
                        self.state.fail_all(queue, &failure);
                    }
                    RoundEnd::Stopped => return,
                }
                if self.state.stop.is_some() {
                    return;
                }
            }
        }
        for (model, queue) in queues.iter_mut().enumerate() {
            if let Some(cause) = set_aside.get(&model) {
                let label = self.state.label(model);
                let failure = Error::new(
                    ErrorKind::Broken,
                    format!("not done: `{label}` was set aside: {cause}"),
                );
                self.state.fail_all(queue, &failure);
            }
        }
    }

    /// Queues the jobs of each model, short prompts first, so that results appear soon.
    fn queues(&mut self) -> Vec<Queue> {
        let mut queues: Vec<Queue> = self.state.models.iter().map(|_| Queue::default()).collect();
        for (model, totals) in self.state.models.iter().zip(&mut self.state.totals) {
            totals.is_loaded = model.is_loaded;
            totals.at_once = self.state.options.jobs.or(model.jobs).unwrap_or(1);
        }
        let mut order: Vec<(usize, &ScheduledJob)> = self.state.jobs.iter().enumerate().collect();
        order.sort_by_key(|(_, job)| job.prompt_bytes);
        for (index, job) in order.into_iter().filter(|(_, job)| job.runs) {
            let queue = queues.get_mut(job.model);
            let totals = self.state.totals.get_mut(job.model);
            if let (Some(queue), Some(totals)) = (queue, totals) {
                queue.push(index);
                self.state.observer.event(BatchEvent::JobQueued(&job.info));
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
            if self.state.poll_interrupts().await {
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
            let end = if self.state.stop.is_some() {
                PoolEnd::Stopped
            } else {
                self.state.run_pool(model, &instances, queue).await
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
                    let label = self.state.label(model);
                    self.state.observer.warning(&if is_owned {
                        format!("reloading `{label}`, which failed twice: {cause}")
                    } else {
                        format!("trying `{label}` once more, which failed twice: {cause}")
                    });
                }
            }
        }
    }

    fn set_aside_or_stopped(&self, cause: String) -> RoundEnd {
        if self.state.stop.is_some() {
            RoundEnd::Stopped
        } else {
            RoundEnd::SetAside(cause)
        }
    }

    /// Waits for a server that went away; returns whether it came back.
    async fn wait_for_server(&mut self, model: usize, cause: &str) -> bool {
        let place = self
            .state
            .models
            .get(model)
            .map_or("", |model| &model.place);
        self.state.observer.warning(&format!(
            "{cause}; waiting up to {} s for {place}",
            self.state.options.reconnect_timeout.as_secs()
        ));
        let start = Instant::now();
        while start.elapsed() < self.state.options.reconnect_timeout {
            let backend = self.state.backend;
            tokio::select! {
                biased;
                () = self.state.interrupted() => {}
                is_reachable = backend.is_reachable(model) => {
                    if is_reachable {
                        return true;
                    }
                }
            }
            if self.state.stop.is_some() {
                return false;
            }
            self.state.pause(RECONNECT_INTERVAL).await;
            self.state.observer.event(BatchEvent::Tick);
        }
        false
    }

    /// Loads the model, and records in the journal whether this run owns it.
    async fn load(&mut self, index: usize) -> Result<Loaded<B::Instance>, LoadErrorKind> {
        let backend = self.state.backend;
        let selected = backend.select(index).await.map_err(|error| error.kind)?;
        let Some(model) = self.state.models.get(index) else {
            return Err(LoadErrorKind::Cancelled);
        };
        // Do not load a model after cancellation.
        if self.state.poll_interrupts().await {
            return Err(LoadErrorKind::Cancelled);
        }
        self.state.record(&Record::Loading(log_item(model)));
        let result = {
            let mut loading = std::pin::pin!(backend.load(index, selected));
            loop {
                tokio::select! {
                    biased;
                    // The load continues, so that it can be undone; a second signal
                    // cancels it.
                    () = self.state.interrupted() => {}
                    result = &mut loading => break result,
                    () = tokio::time::sleep(TICK) => self.state.observer.event(BatchEvent::Tick),
                }
            }
        };
        let loaded = match result {
            Ok(loaded) => loaded,
            Err(LoadError { kind, left }) => {
                match left {
                    LeftBehind::Nothing => self.state.record(&Record::Unloaded(log_item(model))),
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
            self.state.warn_once(&format!("{}: {warning}", model.label));
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
        self.state.record(&record);
        if let Some(totals) = self.state.totals.get_mut(index) {
            totals.loaded(loaded.load_s);
        }
        if let Some(seconds) = loaded.load_s {
            self.state.observer.event(BatchEvent::ModelLoaded {
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
        let key = self.state.models.get(model).map(ScheduledModel::key);
        loaded.is_ours || key.is_some_and(|key| self.owned.contains(&key))
    }

    async fn unload(&mut self, index: usize, loaded: &Loaded<B::Instance>) {
        let Some(model) = self.state.models.get(index) else {
            return;
        };
        let is_owned = self.is_owned(index, loaded);
        let unloading = async {
            if is_owned {
                self.state.backend.unload(&loaded.instance).await
            } else {
                self.state.backend.release(&loaded.instance).await
            }
        };
        let cause = match tokio::time::timeout(UNLOAD_LIMIT, unloading).await {
            Ok(Ok(UnloadResult::NothingToUnload)) if !is_owned => return,
            Ok(Ok(result)) => {
                self.state.record(&Record::Unloaded(log_item(model)));
                self.owned.remove(&model.key());
                let model = &model.label;
                match result {
                    UnloadResult::Unloaded => self
                        .state
                        .observer
                        .event(BatchEvent::ModelUnloaded { model }),
                    UnloadResult::InUse => self.state.observer.status(&format!(
                        "`{model}` stays loaded: another process uses it, and unloads it"
                    )),
                    UnloadResult::NotOwned | UnloadResult::NothingToUnload => {}
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
            self.state
                .observer
                .warning(&format!("`{}` may stay loaded: {cause}", model.label));
        }
        if let Some(totals) = self.state.totals.get_mut(index) {
            totals.is_loaded = false;
        }
    }

    fn set_aside(&mut self, index: usize, cause: &str, round: usize) {
        let Some(model) = self.state.models.get(index) else {
            return;
        };
        let next = if round < ROUNDS {
            "it is tried once more at the end"
        } else {
            "its other jobs are not done"
        };
        self.state
            .observer
            .warning(&format!("`{}` is set aside ({cause}); {next}", model.label));
        self.state.record(&Record::Aside(InstanceRecord {
            reason: Some(cause.to_owned()),
            ..log_item(model)
        }));
        if let Some(totals) = self.state.totals.get_mut(index) {
            totals.aside = Some(cause.to_owned());
        }
    }
}

fn log_item(model: &ScheduledModel) -> InstanceRecord {
    InstanceRecord {
        engine: model.place.clone(),
        model: model.id.clone(),
        ..InstanceRecord::default()
    }
}
