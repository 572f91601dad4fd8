//! The scheduler with a scripted backend and tokio's paused clock: no test waits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::backend::{
    Backend, FinishedJob, JobResult, LeftBehind, LoadError, LoadErrorKind, Loaded,
};
use super::event::{BatchEvent, BatchObserver, JobEnd, JobInfo, SharedObserver};
use super::queue::Queue;
use super::run_state::{
    FailureLimit, Interrupts, RunState, RunStop, ScheduledJob, ScheduledModel, SchedulerOptions,
};
use super::scheduler::Scheduler;
use super::worker_pool::PoolEnd;
use crate::batch::{Record, TokenNeed};
use crate::engine::UnloadResult;
use crate::error::{Error, ErrorKind};
use crate::job::FailureClass;

/// One attempt of a job, after a delay.
#[derive(Clone, Copy)]
enum Attempt {
    Done,
    Fails(FailureClass),
    /// Never ends unless the run is cancelled.
    Hangs,
    CannotWrite,
}

/// A scripted load.
#[derive(Clone, Copy)]
enum Load {
    Ours,
    /// The instance was loaded by another process.
    Others,
    NoServer,
    Refused,
    Impossible,
    TimedOut,
}

/// A backend that does what a test scripts. Unscripted loads and attempts succeed.
struct FakeBackend {
    loads: RefCell<BTreeMap<usize, VecDeque<Load>>>,
    attempts: RefCell<BTreeMap<usize, VecDeque<Attempt>>>,
    slots: Option<usize>,
    /// Seconds that each attempt takes.
    seconds: f64,
    /// Calls to `is_reachable` that still return `false`.
    unreachable_calls: Cell<u32>,
    is_short_of_memory: bool,
    cannot_record: Cell<bool>,
    cancelled: watch::Receiver<bool>,
    /// The calls and journal records, in order.
    log: Rc<RefCell<Vec<String>>>,
    running: Cell<usize>,
    most_running: Cell<usize>,
    tokens: Cell<u64>,
}

impl FakeBackend {
    fn log(&self, entry: impl Into<String>) {
        self.log.borrow_mut().push(entry.into());
    }
}

impl Backend for FakeBackend {
    type Selected = Load;
    type Instance = usize;
    type Partial = ();

    async fn select(&self, model: usize) -> Result<Load, LoadError> {
        let mut loads = self.loads.borrow_mut();
        let load = loads.get_mut(&model).and_then(VecDeque::pop_front);
        match load.unwrap_or(Load::Ours) {
            Load::NoServer => Err(LoadError {
                kind: LoadErrorKind::Server("no server".to_owned()),
                left: LeftBehind::Nothing,
            }),
            load => Ok(load),
        }
    }

    async fn load(&self, model: usize, selected: Load) -> Result<Loaded<usize>, LoadError> {
        self.log(format!("load {model}"));
        sleep(Duration::from_secs(1)).await;
        let failed = |kind, left| Err(LoadError { kind, left });
        match selected {
            Load::Refused => failed(
                LoadErrorKind::Model("refused".to_owned()),
                LeftBehind::Nothing,
            ),
            Load::TimedOut => failed(LoadErrorKind::Model("slow".to_owned()), LeftBehind::Ours),
            Load::Impossible => failed(
                LoadErrorKind::Impossible(Error::new(ErrorKind::Model, "too large")),
                LeftBehind::Nothing,
            ),
            Load::Ours | Load::Others | Load::NoServer => Ok(Loaded {
                instance: model,
                id: format!("i{model}"),
                context: Some(4096),
                load_s: Some(1.0),
                is_ours: matches!(selected, Load::Ours),
                warnings: Vec::new(),
            }),
        }
    }

    async fn slots(&self, _instance: &usize) -> Option<usize> {
        self.slots
    }

    async fn run(&self, instance: &usize, job: usize, attempt: u32) -> FinishedJob<()> {
        self.running.set(self.running.get() + 1);
        self.most_running
            .set(self.most_running.get().max(self.running.get()));
        self.log(format!("run {job} on {instance}, attempt {attempt}"));
        let script = self
            .attempts
            .borrow_mut()
            .get_mut(&job)
            .and_then(VecDeque::pop_front)
            .unwrap_or(Attempt::Done);
        let mut cancelled = self.cancelled.clone();
        let result = tokio::select! {
            _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => JobResult::Cancelled,
            () = sleep(Duration::from_secs_f64(self.seconds)), if !matches!(script, Attempt::Hangs) => {
                match script {
                    Attempt::Fails(class) => JobResult::Failed {
                        failure: Error::new(ErrorKind::Broken, format!("{class:?}")),
                        class,
                        partial: (),
                    },
                    Attempt::CannotWrite => {
                        JobResult::Fatal(Error::new(ErrorKind::Broken, "the disk is full"))
                    }
                    Attempt::Done | Attempt::Hangs => JobResult::Done { tokens: Some(10) },
                }
            }
        };
        self.tokens.set(self.tokens.get() + 10);
        self.running.set(self.running.get() - 1);
        FinishedJob {
            result,
            seconds: self.seconds,
        }
    }

    async fn release(&self, _instance: &usize) -> Result<UnloadResult, String> {
        Ok(UnloadResult::NothingToUnload)
    }

    async fn unload(&self, instance: &usize) -> Result<UnloadResult, String> {
        self.log(format!("unload {instance}"));
        Ok(UnloadResult::Unloaded)
    }

    async fn is_reachable(&self, _model: usize) -> bool {
        let calls = self.unreachable_calls.get();
        self.unreachable_calls.set(calls.saturating_sub(1));
        calls == 0
    }

    fn is_short_of_memory(&self, _model: usize) -> bool {
        self.is_short_of_memory
    }

    fn tokens(&self, _instance: &usize) -> u64 {
        self.tokens.get()
    }

    fn record(&self, record: &Record) -> Result<(), Error> {
        if self.cannot_record.get() {
            return Err(Error::new(ErrorKind::Broken, "no journal"));
        }
        let entry = match record {
            Record::Loading(item) => format!("journal: loading {}", item.model),
            Record::Loaded(item) => format!("journal: loaded {}", item.model),
            Record::Unloaded(item) => format!("journal: unloaded {}", item.model),
            Record::Aside(item) => format!("journal: aside {}", item.model),
            _ => return Ok(()),
        };
        self.log(entry);
        Ok(())
    }

    fn record_failure(
        &self,
        job: usize,
        failure: &Error,
        _partial: Option<()>,
        attempts: u32,
        _seconds: f64,
    ) -> Result<(), Error> {
        self.log(format!(
            "failed {job} after {attempts}: {}",
            failure.message
        ));
        Ok(())
    }
}

/// Collects warnings, and counts the ends of jobs.
#[derive(Clone, Default)]
struct Events {
    warnings: Arc<Mutex<Vec<String>>>,
    done: Arc<Mutex<usize>>,
}

impl BatchObserver for Events {
    fn event(&mut self, event: BatchEvent<'_>) {
        match event {
            BatchEvent::Warning(text) => self.warnings.lock().unwrap().push(text.to_owned()),
            BatchEvent::JobFinished {
                end: JobEnd::Done, ..
            } => *self.done.lock().unwrap() += 1,
            _ => {}
        }
    }
}

/// A run of the scheduler.
struct Run {
    jobs_per_model: Vec<usize>,
    loads: BTreeMap<usize, VecDeque<Load>>,
    attempts: BTreeMap<usize, VecDeque<Attempt>>,
    slots: Option<usize>,
    options: SchedulerOptions,
    seconds: f64,
    unreachable_calls: u32,
    is_short_of_memory: bool,
    cannot_record: bool,
    /// Seconds until the first and the second signal.
    signals: [Option<u64>; 2],
}

impl Run {
    fn new(jobs_per_model: &[usize]) -> Self {
        Self {
            jobs_per_model: jobs_per_model.to_vec(),
            loads: BTreeMap::new(),
            attempts: BTreeMap::new(),
            slots: None,
            options: SchedulerOptions {
                reconnect_timeout: Duration::from_secs(60),
                ..SchedulerOptions::default()
            },
            seconds: 2.0,
            unreachable_calls: 0,
            is_short_of_memory: false,
            cannot_record: false,
            signals: [None, None],
        }
    }

    fn loads(mut self, model: usize, loads: &[Load]) -> Self {
        self.loads.insert(model, loads.iter().copied().collect());
        self
    }

    fn attempts(mut self, job: usize, attempts: &[Attempt]) -> Self {
        self.attempts
            .insert(job, attempts.iter().copied().collect());
        self
    }

    async fn run(self) -> Ran {
        let models: Vec<ScheduledModel> = (0..self.jobs_per_model.len())
            .map(|model| ScheduledModel {
                label: format!("m{model}"),
                id: format!("m{model}"),
                place: "p".to_owned(),
                ..ScheduledModel::default()
            })
            .collect();
        let jobs = jobs(&self.jobs_per_model);
        let (cancel, cancelled) = watch::channel(false);
        let log = Rc::new(RefCell::new(Vec::new()));
        let backend = FakeBackend {
            loads: RefCell::new(self.loads),
            attempts: RefCell::new(self.attempts),
            slots: self.slots,
            seconds: self.seconds,
            unreachable_calls: Cell::new(self.unreachable_calls),
            is_short_of_memory: self.is_short_of_memory,
            cannot_record: Cell::new(self.cannot_record),
            cancelled,
            log: Rc::clone(&log),
            running: Cell::new(0),
            most_running: Cell::new(0),
            tokens: Cell::new(0),
        };
        let events = Events::default();
        let observer = SharedObserver::new(events.clone());
        let mut signals = self.signals.map(|seconds| Box::pin(signal(seconds)));
        let [first, second] = &mut signals;
        let interrupts = Interrupts {
            first: first.as_mut(),
            second: second.as_mut(),
        };
        let start = Instant::now();
        let state = RunState::new(
            &backend,
            &observer,
            self.options,
            &models,
            &jobs,
            interrupts,
            cancel,
        );
        let mut scheduler = Scheduler::new(state);
        scheduler.run().await;
        let left = scheduler
            .state
            .totals
            .iter()
            .map(|totals| totals.left)
            .sum();
        let stop = scheduler.state.stop;
        let log = log.borrow().clone();
        let warnings = events.warnings.lock().unwrap().clone();
        let done = *events.done.lock().unwrap();
        Ran {
            log,
            warnings,
            stop,
            done,
            left,
            most_running: backend.most_running.get(),
            seconds: start.elapsed().as_secs(),
        }
    }
}

fn jobs(jobs_per_model: &[usize]) -> Vec<ScheduledJob> {
    let models = jobs_per_model
        .iter()
        .enumerate()
        .flat_map(|(model, count)| std::iter::repeat_n(model, *count));
    models
        .enumerate()
        .map(|(index, model)| ScheduledJob {
            info: JobInfo {
                number: index + 1,
                name: format!("j{index}"),
                prompt: "p".to_owned(),
                model: format!("m{model}"),
                input: None,
            },
            model,
            prompt_bytes: index as u64,
            need: TokenNeed::default(),
            runs: true,
        })
        .collect()
}

async fn signal(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// The result of a run.
struct Ran {
    log: Vec<String>,
    warnings: Vec<String>,
    stop: Option<RunStop>,
    done: usize,
    left: usize,
    most_running: usize,
    seconds: u64,
}

impl Ran {
    fn count(&self, entry: &str) -> usize {
        self.log.iter().filter(|known| *known == entry).count()
    }

    fn has_warning(&self, part: &str) -> bool {
        self.warnings.iter().any(|warning| warning.contains(part))
    }
}

#[tokio::test(start_paused = true)]
async fn each_model_is_loaded_once_runs_its_jobs_and_is_unloaded() {
    let ran = Run::new(&[2, 1]).run().await;
    assert_eq!(
        ran.log,
        [
            "journal: loading m0",
            "load 0",
            "journal: loaded m0",
            "run 0 on 0, attempt 1",
            "run 1 on 0, attempt 1",
            "unload 0",
            "journal: unloaded m0",
            "journal: loading m1",
            "load 1",
            "journal: loaded m1",
            "run 2 on 1, attempt 1",
            "unload 1",
            "journal: unloaded m1",
        ]
    );
    assert_eq!((ran.done, ran.left, ran.warnings.len()), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_another_process_is_never_unloaded() {
    let ran = Run::new(&[1]).loads(0, &[Load::Others]).run().await;
    assert_eq!(ran.done, 1);
    assert_eq!(ran.count("unload 0"), 0);
    // The journal must not take it for ours after a kill.
    assert_eq!(ran.count("journal: loaded m0"), 0);
}

#[tokio::test(start_paused = true)]
async fn as_many_jobs_run_at_once_as_the_server_has_slots_or_the_user_allows() {
    for (slots, limit, expected) in [(None, None, 1), (Some(4), None, 4), (Some(4), Some(2), 2)] {
        let mut run = Run::new(&[8]);
        run.slots = slots;
        run.options.jobs = limit;
        let ran = run.run().await;
        assert_eq!(
            (ran.most_running, ran.done),
            (expected, 8),
            "{slots:?} {limit:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn with_many_jobs_the_first_runs_alone() {
    let mut run = Run::new(&[40]);
    run.slots = Some(2);
    let ran = run.run().await;
    // One load and one job alone, then pairs.
    assert_eq!(ran.most_running, 2);
    assert!(ran.seconds >= 1 + 2 + 2 * 19, "{}", ran.seconds);
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_gets_fewer_jobs_and_no_job_fails() {
    let busy = [Attempt::Fails(FailureClass::Busy)];
    let mut run = Run::new(&[6]).attempts(0, &busy).attempts(1, &busy);
    run.slots = Some(4);
    let ran = run.run().await;
    assert_eq!((ran.done, ran.left), (6, 0));
    assert!(ran.has_warning("retrying j0"), "{:?}", ran.warnings);
}

#[tokio::test(start_paused = true)]
async fn little_memory_reduces_the_jobs_at_once() {
    let mut run = Run::new(&[20]);
    run.slots = Some(8);
    run.seconds = 11.0;
    run.is_short_of_memory = true;
    let ran = run.run().await;
    assert_eq!(ran.done, 20);
    assert!(ran.has_warning("little memory"), "{:?}", ran.warnings);
    assert!(ran.seconds > 1 + 3 * 11, "{}", ran.seconds);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_by_itself_is_not_retried() {
    let ran = Run::new(&[2])
        .attempts(0, &[Attempt::Fails(FailureClass::Job)])
        .run()
        .await;
    assert_eq!(ran.count("failed 0 after 1: Job"), 1);
    assert_eq!((ran.done, ran.left), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_hangs_twice_is_reloaded_and_its_jobs_are_done() {
    let hangs = [Attempt::Fails(FailureClass::Model); 2];
    let ran = Run::new(&[2]).attempts(0, &hangs).run().await;
    assert_eq!((ran.count("load 0"), ran.count("unload 0")), (2, 2));
    assert_eq!((ran.done, ran.left), (2, 0));
    assert!(ran.has_warning("reloading `m0`"), "{:?}", ran.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_keeps_failing_is_set_aside_and_tried_once_more_at_the_end() {
    let fails = [Attempt::Fails(FailureClass::Model); 8];
    let ran = Run::new(&[1, 1]).attempts(0, &fails).run().await;
    // Two loads in each of two rounds; the other model runs in between.
    assert_eq!(ran.count("load 0"), 4);
    let other = ran.log.iter().position(|entry| entry == "load 1").unwrap();
    let last = ran.log.iter().rposition(|entry| entry == "load 0").unwrap();
    assert!(other < last);
    assert_eq!(ran.count("journal: aside m0"), 2);
    let failed = ran.log.iter().find(|entry| entry.starts_with("failed 0"));
    assert!(failed.unwrap().contains("was set aside"), "{failed:?}");
    assert_eq!((ran.done, ran.left), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_breaks_the_model_is_to_blame_while_others_are_done() {
    let fails = [Attempt::Fails(FailureClass::Model); 8];
    let ran = Run::new(&[4]).attempts(1, &fails).run().await;
    assert_eq!((ran.done, ran.left), (3, 0));
    assert_eq!(ran.count("journal: aside m0"), 0);
    assert!(ran.log.iter().any(|entry| entry.starts_with("failed 1")));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_is_waited_for() {
    let mut run = Run::new(&[2]).attempts(0, &[Attempt::Fails(FailureClass::Server)]);
    run.unreachable_calls = 5;
    let ran = run.run().await;
    assert_eq!((ran.done, ran.left), (2, 0));
    assert!(
        ran.has_warning("waiting up to 60 s for p"),
        "{:?}",
        ran.warnings
    );
    assert!(!ran.log.iter().any(|entry| entry.starts_with("failed")));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_costs_its_model_only() {
    let mut run = Run::new(&[1, 1]).loads(0, &[Load::NoServer; 8]);
    run.unreachable_calls = u32::MAX;
    let ran = run.run().await;
    assert_eq!((ran.done, ran.left), (1, 0));
    assert!(ran.log.iter().any(|entry| entry.starts_with("failed 0")));
    assert!((120..180).contains(&ran.seconds), "{}", ran.seconds);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_run_fails_its_jobs_only() {
    let ran = Run::new(&[2, 1]).loads(0, &[Load::Impossible]).run().await;
    assert_eq!(ran.count("failed 0 after 0: too large"), 1);
    assert_eq!(ran.count("failed 1 after 0: too large"), 1);
    assert_eq!((ran.done, ran.left), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_is_refused_or_too_slow_is_tried_again_in_the_second_round() {
    for load in [Load::Refused, Load::TimedOut] {
        let ran = Run::new(&[1]).loads(0, &[load]).run().await;
        assert_eq!((ran.done, ran.left), (1, 0));
        assert_eq!(ran.count("load 0"), 2);
        assert_eq!(ran.count("journal: aside m0"), 1);
        let is_refused = matches!(load, Load::Refused);
        // After a timeout the load may go on; the journal keeps it as loading.
        let first_unload = ran
            .log
            .iter()
            .position(|entry| entry == "journal: unloaded m0");
        let first_job = ran.log.iter().position(|entry| entry.starts_with("run"));
        assert_eq!(first_unload < first_job, is_refused);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_lets_running_jobs_end_and_unloads() {
    let mut run = Run::new(&[9]);
    run.slots = Some(2);
    run.signals = [Some(2), None];
    let ran = run.run().await;
    assert!(matches!(ran.stop, Some(RunStop::Interrupted)));
    assert_eq!((ran.done, ran.left, ran.seconds), (2, 7, 3));
    assert_eq!(ran.count("unload 0"), 1);
    assert!(ran.has_warning("press Ctrl-C again"), "{:?}", ran.warnings);
}

#[tokio::test(start_paused = true)]
async fn the_second_signal_cancels_running_jobs_and_unloads() {
    let mut run = Run::new(&[2]).attempts(0, &[Attempt::Hangs]);
    run.signals = [Some(2), Some(5)];
    let ran = run.run().await;
    assert!(matches!(ran.stop, Some(RunStop::Interrupted)));
    assert_eq!((ran.done, ran.left, ran.seconds), (0, 2, 5));
    assert_eq!(ran.count("unload 0"), 1);
}

#[tokio::test(start_paused = true)]
async fn no_model_is_loaded_after_a_signal() {
    let mut run = Run::new(&[1, 1]);
    // During the first job: one second of loading, two of work.
    run.signals = [Some(2), None];
    let ran = run.run().await;
    assert_eq!((ran.count("load 0"), ran.count("load 1")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_end_the_run() {
    for (limit, expected) in [
        (FailureLimit::Count(0), 1),
        (FailureLimit::Count(2), 3),
        (FailureLimit::Percent(50), 4),
    ] {
        let mut run = Run::new(&[6]);
        for job in 0..6 {
            run = run.attempts(job, &[Attempt::Fails(FailureClass::Job)]);
        }
        run.options.failure_limit = Some(limit);
        let ran = run.run().await;
        assert!(matches!(ran.stop, Some(RunStop::Failures)));
        let failed = ran.log.iter().filter(|entry| entry.starts_with("failed"));
        assert_eq!(failed.count(), expected, "{limit:?}");
        assert_eq!(ran.count("unload 0"), 1);
    }
    // Jobs of a model that cannot be loaded count, too.
    let mut run = Run::new(&[3, 1]).loads(0, &[Load::Impossible]);
    run.options.failure_limit = Some(FailureLimit::Count(0));
    let ran = run.run().await;
    assert!(matches!(ran.stop, Some(RunStop::Failures)));
    assert_eq!(ran.count("load 1"), 0, "{:?}", ran.log);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_ends_the_run_at_once_and_unloads() {
    let mut run = Run::new(&[3])
        .attempts(0, &[Attempt::CannotWrite])
        .attempts(1, &[Attempt::Hangs]);
    run.slots = Some(2);
    let ran = run.run().await;
    assert!(matches!(ran.stop, Some(RunStop::Fatal(_))));
    assert_eq!((ran.done, ran.seconds), (0, 3));
    assert_eq!(ran.count("unload 0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_ends_the_run_before_any_job() {
    let mut run = Run::new(&[3]);
    run.cannot_record = true;
    let ran = run.run().await;
    assert!(matches!(ran.stop, Some(RunStop::Fatal(_))));
    assert!(!ran.log.iter().any(|entry| entry.starts_with("run")));
}

#[tokio::test(start_paused = true)]
async fn jobs_spread_over_all_instances_of_a_model_and_leave_one_that_fails() {
    let jobs = jobs(&[6]);
    let models = [ScheduledModel::default()];
    let (cancel, cancelled) = watch::channel(false);
    let log = Rc::new(RefCell::new(Vec::new()));
    let fails = [Attempt::Fails(FailureClass::Model); 2];
    let backend = FakeBackend {
        loads: RefCell::default(),
        attempts: RefCell::new(BTreeMap::from([(0, VecDeque::from(fails))])),
        slots: Some(1),
        seconds: 2.0,
        unreachable_calls: Cell::new(0),
        is_short_of_memory: false,
        cannot_record: Cell::new(false),
        cancelled,
        log: Rc::clone(&log),
        running: Cell::new(0),
        most_running: Cell::new(0),
        tokens: Cell::new(0),
    };
    let observer = SharedObserver::new(Events::default());
    let mut first = Box::pin(signal(None));
    let mut second = Box::pin(signal(None));
    let state = RunState::new(
        &backend,
        &observer,
        SchedulerOptions::default(),
        &models,
        &jobs,
        Interrupts {
            first: first.as_mut(),
            second: second.as_mut(),
        },
        cancel,
    );
    let mut scheduler = Scheduler::new(state);
    let mut queue = Queue::default();
    (0..6).for_each(|job| queue.push(job));
    let instances = [7, 8].map(|instance| Loaded {
        instance,
        id: instance.to_string(),
        context: None,
        load_s: None,
        is_ours: true,
        warnings: Vec::new(),
    });
    let end = scheduler.state.run_pool(0, &instances, &mut queue).await;
    assert_eq!(end, PoolEnd::Complete);
    assert_eq!(backend.most_running.get(), 2);
    let log = log.borrow();
    let on = |instance: &str| log.iter().filter(|entry| entry.contains(instance)).count();
    assert!(on("on 7") >= 1 && on("on 8") >= 5, "{log:?}");
    assert_eq!(on("run 0"), 3, "{log:?}");
}

#[test]
fn a_limit_of_failures_is_a_number_or_a_share() {
    for (text, failures, jobs, passed) in [
        ("0", 1, 10, true),
        ("0", 0, 10, false),
        ("3", 3, 10, false),
        ("20%", 2, 10, false),
        ("20%", 3, 10, true),
        ("100%", 10, 10, false),
    ] {
        let limit: FailureLimit = text.parse().unwrap();
        assert_eq!(
            limit.is_exceeded(failures, jobs),
            passed,
            "{text} {failures}"
        );
    }
    for text in ["-1", "101%", "x", ""] {
        assert!(text.parse::<FailureLimit>().is_err(), "{text}");
    }
}
