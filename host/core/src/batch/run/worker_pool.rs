//! The jobs of one model on its instances, several at once: as many as the instances
//! have slots, fewer when that is faster. Ends when all jobs are done, or when no
//! instance works any more.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::backend::{Backend, FinishedJob, JobResult, Loaded};
use super::event::BatchEvent;
use super::queue::{NextStep, Queue};
use super::run_state::{RunState, RunStop, TICK};
use super::throughput::{MEASURE, Throughput};
use crate::batch::{ConcurrencyLimit, JOBS_MAX};

/// With at least this many jobs per slot, the first job runs alone: that costs about
/// five percent then, and detects servers that several jobs slow down.
const ALONE_FROM: usize = 20;
/// The interval at which free memory is checked.
const MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// The reason that a pool ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PoolEnd {
    /// All jobs have ended.
    Complete,
    /// Jobs hang or break off on the instance.
    InstanceFails(String),
    /// No server answers.
    ServerGone(String),
    /// The run is to stop.
    Stopped,
}

/// The state of an instance in the pool.
struct ActiveInstance {
    slots: ConcurrencyLimit,
    running: usize,
    throughput: Throughput,
    /// The first job runs alone, to measure what one job alone gives.
    is_measuring_alone: bool,
    tokens_before: u64,
    last_refusal: Option<Instant>,
    /// Set when the instance takes no further job.
    end: Option<PoolEnd>,
}

impl ActiveInstance {
    fn new(slots: usize, jobs: usize, tokens: u64) -> Self {
        Self {
            slots: ConcurrencyLimit::new(slots),
            running: 0,
            throughput: Throughput::new(tokens),
            is_measuring_alone: slots > 1 && jobs >= ALONE_FROM.saturating_mul(slots),
            tokens_before: tokens,
            last_refusal: None,
            end: None,
        }
    }

    fn has_free_slot(&self) -> bool {
        let most = if self.is_measuring_alone {
            1
        } else {
            self.slots.current()
        };
        self.end.is_none() && self.running < most
    }

    /// Takes note of a job that ended after `seconds`.
    fn job_ended(&mut self, tokens: u64, seconds: f64) {
        self.running = self.running.saturating_sub(1);
        if std::mem::take(&mut self.is_measuring_alone) {
            let tokens = tokens.saturating_sub(self.tokens_before);
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            self.slots.record_single_job(tokens as f64 / seconds);
        }
    }

    /// Reduces the slots once for all jobs that were refused together.
    fn refused(&mut self) {
        if self
            .last_refusal
            .is_none_or(|refusal| refusal.elapsed() > MEASURE)
        {
            self.slots.back_off();
            self.last_refusal = Some(Instant::now());
        }
    }
}

impl<B: Backend> RunState<'_, '_, B> {
    /// Runs the jobs of a queue on the instances of its model.
    pub(super) async fn run_pool(
        &mut self,
        model: usize,
        instances: &[Loaded<B::Instance>],
        queue: &mut Queue,
    ) -> PoolEnd {
        let backend = self.backend;
        let mut active = Vec::new();
        for loaded in instances {
            let slots = match self.jobs_limit(model) {
                Some(jobs) => jobs,
                None => backend
                    .slots(&loaded.instance)
                    .await
                    .map_or(1, |slots| slots.min(JOBS_MAX)),
            };
            let tokens = backend.tokens(&loaded.instance);
            active.push(ActiveInstance::new(slots, queue.len(), tokens));
        }
        self.set_at_once(model, &active);
        let mut running = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory_checked = Instant::now();
        loop {
            while self.stop.is_none()
                && let Some(free) = active.iter().position(ActiveInstance::has_free_slot)
                && let (Some(state), Some(loaded)) = (active.get_mut(free), instances.get(free))
                && let Some(job) = queue.pop()
            {
                state.running += 1;
                let attempt = queue.start(job);
                if let Some(job) = self.jobs.get(job) {
                    self.observer.event(BatchEvent::JobStarted(&job.info));
                }
                running.push(async move {
                    (free, job, backend.run(&loaded.instance, job, attempt).await)
                });
            }
            if running.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                ended = running.next() => {
                    let Some((at, job, finished)) = ended else { continue };
                    let (Some(state), Some(loaded)) = (active.get_mut(at), instances.get(at))
                    else {
                        continue;
                    };
                    state.job_ended(backend.tokens(&loaded.instance), finished.seconds);
                    match self.job_ended(job, finished, queue) {
                        AfterJob::Continue => {}
                        AfterJob::Refused => state.refused(),
                        AfterJob::End(end) => {
                            state.end.get_or_insert(end);
                        }
                    }
                }
                _ = tick.tick() => {
                    self.observer.event(BatchEvent::Tick);
                    self.set_at_once(model, &active);
                    for (state, loaded) in active.iter_mut().zip(instances) {
                        let tokens = backend.tokens(&loaded.instance);
                        state.throughput.sample(tokens, state.running, &mut state.slots);
                    }
                    if memory_checked.elapsed() > MEMORY_INTERVAL {
                        memory_checked = Instant::now();
                        self.check_memory(model, &mut active);
                    }
                }
            }
        }
        if self.stop.is_some() {
            return PoolEnd::Stopped;
        }
        if queue.is_empty() {
            return PoolEnd::Complete;
        }
        active
            .into_iter()
            .find_map(|state| state.end)
            .unwrap_or(PoolEnd::Complete)
    }

    fn jobs_limit(&self, model: usize) -> Option<usize> {
        let of_model = self.models.get(model).and_then(|model| model.jobs);
        self.options.jobs.or(of_model)
    }

    /// Keeps the number of jobs at once for the estimate of the time that is left.
    fn set_at_once(&mut self, model: usize, active: &[ActiveInstance]) {
        if let Some(totals) = self.totals.get_mut(model) {
            totals.at_once = active.iter().map(|state| state.slots.current()).sum();
        }
    }

    /// Reduces the slots when this machine is about to swap.
    fn check_memory(&mut self, model: usize, active: &mut [ActiveInstance]) {
        if self.backend.is_short_of_memory(model) {
            self.warn_once("little memory is left on this machine; running fewer jobs at once");
            for state in active {
                state.slots.back_off();
            }
        }
    }

    fn job_ended(
        &mut self,
        job: usize,
        finished: FinishedJob<B::Partial>,
        queue: &mut Queue,
    ) -> AfterJob {
        let FinishedJob { result, seconds } = finished;
        match result {
            JobResult::Done { tokens } => {
                queue.succeed();
                self.job_done(job, tokens, seconds);
                AfterJob::Continue
            }
            JobResult::Cancelled => {
                self.job_stopped(job);
                queue.put_back(job);
                AfterJob::Continue
            }
            JobResult::Fatal(failure) => {
                self.job_stopped(job);
                self.stop(RunStop::Fatal(failure));
                AfterJob::Continue
            }
            JobResult::Failed {
                failure,
                class,
                partial,
            } => {
                let step = queue.fail(job, class, &failure.message);
                if step == NextStep::Fail {
                    let attempts = queue.attempts(job);
                    self.job_failed(job, &failure, Some(partial), attempts, seconds);
                    return AfterJob::Continue;
                }
                self.job_retried(job, &failure.message);
                match step {
                    NextStep::Fail | NextStep::Retry => AfterJob::Continue,
                    NextStep::RetryWithFewer => AfterJob::Refused,
                    NextStep::ReloadModel => AfterJob::End(PoolEnd::InstanceFails(failure.message)),
                    NextStep::WaitForServer => AfterJob::End(PoolEnd::ServerGone(failure.message)),
                }
            }
        }
    }
}

/// The consequence of a job's end for its instance.
enum AfterJob {
    Continue,
    /// The server is busy.
    Refused,
    /// The instance takes no further job.
    End(PoolEnd),
}
