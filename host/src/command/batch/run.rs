//! The run itself: model after model, each loaded once; what hangs is sent again,
//! loaded anew, set aside and tried once more at the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fs_err as fs;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Interrupts;
use super::field::Model;
use super::intent::Manner;
use super::planning::{Job, Stuff};
use super::pool::{PoolEnd, Queue};
use super::trouble::{self, Trouble};
use crate::batch::{
    Committer, Failed as FailedRecord, Journal, LogItem, Past, Record, Results, remaining,
};
use crate::engine::{self, Choice, Context, Life, Reach, Ready, Wanted};
use crate::error::{Exit, Failure};
use crate::inference::Event;
use crate::pipeline::{self, Failed, Limits, Sinks, ensure};
use crate::registry::Store;
use crate::sink::{self, Board, Ended, JobName, ResultFile, Sink, Tally};

/// How long an unload may take.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);
/// How often a server that went away is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often a server may go away and come back without one job done in between.
const COMEBACKS: u32 = 3;
/// Times of jobs that are kept for the median.
const TIMES_MAX: usize = 31;
/// Rounds: those set aside are tried once more.
const ROUNDS: usize = 2;

/// The board, for all jobs.
pub(super) type SharedBoard = Arc<Mutex<Board>>;

/// What all jobs of a run share.
pub(super) struct Shared<'a> {
    pub(super) stuff: &'a Stuff,
    pub(super) jobs: &'a [Job],
    pub(super) out: &'a Path,
    pub(super) results: Results,
    pub(super) limits: Limits,
    pub(super) store: Store,
    pub(super) board: SharedBoard,
    /// Pieces of all answers so far.
    pub(super) pieces: Arc<AtomicU64>,
    pub(super) journal: RefCell<Journal>,
    pub(super) committer: Committer,
    /// Whether running jobs are to end at once.
    pub(super) cancel: watch::Receiver<bool>,
    pub(super) said: RefCell<BTreeSet<String>>,
}

impl Shared<'_> {
    fn on_board(&self, show: impl FnOnce(&mut Board)) {
        if let Ok(mut board) = self.board.lock() {
            show(&mut board);
        }
    }

    pub(super) fn tick(&self) {
        self.on_board(Board::tick);
    }

    pub(super) fn say(&self, text: &str) {
        self.on_board(|it| it.say(text, true));
    }

    /// What many jobs have to say is said once.
    pub(super) fn say_once(&self, text: &str) {
        if self.said.borrow_mut().insert(text.to_owned()) {
            self.say(text);
        }
    }

    pub(super) fn show_start(&self, index: usize) {
        self.with_name(index, |board, name| board.start(name));
    }

    fn with_name(&self, index: usize, show: impl FnOnce(&mut Board, &JobName<'_>)) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let of = self.stuff.of(job.cell);
        let label = self
            .stuff
            .model(job.cell)
            .map_or("", |it| it.label.as_str());
        let name = JobName {
            number: index + 1,
            name: &job.name,
            prompt: &of.prompt,
            model: label,
            input: of.input.as_deref(),
        };
        self.on_board(|board| show(board, &name));
    }
}

/// Why a run ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Ctrl-C: the running jobs end first.
    Interrupted,
    /// Too many jobs failed.
    Failures,
    /// Nothing can be written.
    Fatal(Failure),
}

/// What came of a model in this run.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) tokens: u64,
    /// Seconds of all its jobs.
    pub(super) seconds: f64,
    pub(super) loads: usize,
    pub(super) load_s: f64,
    pub(super) aside: Option<String>,
    times: Vec<f64>,
    left: usize,
    prompt_tokens: u64,
    is_loaded: bool,
}

impl Totals {
    /// Jobs that are not done and did not fail.
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

/// What a load needs, beside the model.
pub(super) struct Loading {
    pub(super) life: Life,
    pub(super) reach: Reach,
    pub(super) models_folder: std::path::PathBuf,
    /// The context of each model, where one is asked for.
    pub(super) contexts: Vec<Option<Context>>,
    /// Whether the context is what the jobs need, and may be less.
    pub(super) fits: Vec<bool>,
}

/// The run.
pub(super) struct Runner<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) manner: &'a Manner,
    pub(super) loading: &'a Loading,
    pub(super) past: &'a Past,
    pub(super) interrupts: Interrupts<'a>,
    pub(super) has_first: bool,
    pub(super) has_second: bool,
    pub(super) cancel: watch::Sender<bool>,
    pub(super) stop: Option<Stop>,
    pub(super) totals: Vec<Totals>,
}

/// How a model's round ended.
enum Round {
    Through,
    Aside(String),
    /// It cannot be run at all.
    Impossible(Failure),
    Stopped,
}

/// Why a model is not loaded.
enum NotLoaded {
    Server(String),
    Model(String),
    Impossible(Failure),
    Stopped,
}

impl Runner<'_> {
    /// Runs everything. Whatever happens, no model stays loaded that was loaded
    /// here, as far as its server lets us.
    pub(super) async fn run(&mut self) {
        let models = self.shared.stuff.models.len();
        let mut queues: Vec<Queue> = (0..models).map(|_| Queue::default()).collect();
        self.totals = vec![Totals::default(); models];
        let mut order: Vec<usize> = (0..self.shared.jobs.len()).collect();
        // Short prompts first: their results are there soon.
        order.sort_by_key(|index| self.shared.jobs.get(*index).map(|it| it.prompt_bytes));
        for index in order {
            let Some(job) = self.shared.jobs.get(index).filter(|it| it.runs()) else {
                continue;
            };
            let model = job.cell.model;
            if let (Some(queue), Some(totals)) = (queues.get_mut(model), self.totals.get_mut(model))
            {
                queue.waiting.push_back(index);
                totals.left += 1;
                totals.prompt_tokens += u64::from(job.need.prompt);
            }
        }
        for (totals, model) in self.totals.iter_mut().zip(&self.shared.stuff.models) {
            totals.is_loaded = model.is_loaded();
        }
        self.show_left();
        let mut why_aside: BTreeMap<usize, String> = BTreeMap::new();
        for round in 1..=ROUNDS {
            for (model, queue) in queues.iter_mut().enumerate() {
                if queue.waiting.is_empty() || (round > 1 && !why_aside.contains_key(&model)) {
                    continue;
                }
                queue.tries.clear();
                queue.is_reloaded = false;
                match self.model(model, queue).await {
                    Round::Through => {
                        why_aside.remove(&model);
                    }
                    Round::Aside(why) => {
                        self.aside(model, &why, round);
                        why_aside.insert(model, why);
                    }
                    Round::Impossible(failure) => {
                        why_aside.remove(&model);
                        self.all_failed(queue, &failure);
                    }
                    Round::Stopped => return,
                }
                if self.stop.is_some() {
                    return;
                }
            }
        }
        for (model, queue) in queues.iter_mut().enumerate() {
            let Some(why) = why_aside.get(&model) else {
                continue;
            };
            let label = self.label(model);
            let failure = Failure::new(
                Exit::Broken,
                format!("not done, since `{label}` was set aside: {why}"),
            )
            .hint("`batch retry` runs it again");
            self.all_failed(queue, &failure);
        }
    }

    fn label(&self, model: usize) -> String {
        let model = self.shared.stuff.models.get(model);
        model.map(|it| it.label.clone()).unwrap_or_default()
    }

    pub(super) fn most_at_once(&self, model: usize) -> Option<usize> {
        let of_model = self.shared.stuff.models.get(model).and_then(|it| it.jobs);
        self.manner.jobs.or(of_model)
    }

    /// All jobs of one model.
    async fn model(&mut self, model: usize, queue: &mut Queue) -> Round {
        let mut comebacks = 0;
        loop {
            let done_before = queue.since_load;
            let ready = match self.load(model).await {
                Ok(ready) => ready,
                Err(NotLoaded::Server(why)) => {
                    comebacks += 1;
                    if comebacks > COMEBACKS || !self.comes_back(model, &why).await {
                        return self.aside_or_stopped(why);
                    }
                    continue;
                }
                Err(NotLoaded::Model(why)) => return self.aside_or_stopped(why),
                Err(NotLoaded::Impossible(failure)) => return Round::Impossible(failure),
                Err(NotLoaded::Stopped) => return Round::Stopped,
            };
            let ended = if self.stop.is_some() {
                PoolEnd::Stopped
            } else {
                self.pool(&ready, model, queue).await
            };
            if queue.since_load > done_before {
                comebacks = 0;
            }
            match ended {
                PoolEnd::Through => {
                    self.unload(model, &ready).await;
                    return Round::Through;
                }
                PoolEnd::Stopped => {
                    self.unload(model, &ready).await;
                    return Round::Stopped;
                }
                PoolEnd::Gone(why) => {
                    comebacks += 1;
                    if comebacks > COMEBACKS || !self.comes_back(model, &why).await {
                        return self.aside_or_stopped(why);
                    }
                }
                PoolEnd::Sick(why) => {
                    self.unload(model, &ready).await;
                    if queue.is_reloaded {
                        return Round::Aside(why);
                    }
                    queue.is_reloaded = true;
                    queue.since_load = 0;
                    queue.tries.clear();
                    self.shared.say(&format!(
                        "`{}` is loaded anew, since it hung or broke off twice: {why}",
                        self.label(model)
                    ));
                }
            }
        }
    }

    fn aside_or_stopped(&self, why: String) -> Round {
        if self.stop.is_some() {
            Round::Stopped
        } else {
            Round::Aside(why)
        }
    }

    /// Waits for a server that went away.
    async fn comes_back(&mut self, model: usize, why: &str) -> bool {
        let shown = self
            .shared
            .stuff
            .models
            .get(model)
            .map(|it| it.place.clone())
            .unwrap_or_default();
        self.shared.say(&format!(
            "{why}; waiting {} s for {shown}",
            self.manner.server_back.as_secs()
        ));
        let start = Instant::now();
        while start.elapsed() < self.manner.server_back {
            let choice = self.choice(model, None);
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                chosen = engine::choose(choice) => {
                    if chosen.is_ok() {
                        return true;
                    }
                }
            }
            if self.stop.is_some() {
                return false;
            }
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
            self.shared.tick();
        }
        false
    }

    fn choice(&self, model: usize, context: Option<Context>) -> Choice {
        let model = self.shared.stuff.models.get(model);
        let endpoint = model.and_then(|it| it.endpoint.clone());
        Choice {
            wanted: endpoint.map_or(Wanted::Embedded, |it| Wanted::Servers(vec![it])),
            model: model.map(|it| it.id.clone()),
            fallback: None,
            context,
            models: self.loading.models_folder.clone(),
            reach: self.loading.reach,
            last: None,
            life: self.loading.life.clone(),
        }
    }

    /// Chooses the model again, since it may have gone, with the context that its
    /// jobs need.
    async fn choose(&self, model: usize) -> Result<engine::Chosen, engine::Error> {
        let context = self.loading.contexts.get(model).copied().flatten();
        let fits = self.loading.fits.get(model).copied().unwrap_or(false);
        match engine::choose(self.choice(model, context)).await {
            Ok(chosen) if context.is_some() && !chosen.loads_with_context() => {
                engine::choose(self.choice(model, None)).await
            }
            // Less context fails only the jobs that do not fit.
            Err(engine::Error::Memory {
                largest: Some(largest),
                ..
            }) if fits => engine::choose(self.choice(model, Some(Context::Tokens(largest)))).await,
            chosen => chosen,
        }
    }

    async fn load(&mut self, index: usize) -> Result<Ready, NotLoaded> {
        let of_error = |error: engine::Error| match trouble::of_engine(&error) {
            Trouble::Server => NotLoaded::Server(crate::error::chain(&error)),
            Trouble::Model | Trouble::Busy => NotLoaded::Model(crate::error::chain(&error)),
            _ => NotLoaded::Impossible(error.into()),
        };
        let chosen = self.choose(index).await.map_err(of_error)?;
        let Some(model) = self.shared.stuff.models.get(index) else {
            return Err(NotLoaded::Stopped);
        };
        for warning in &chosen.warnings {
            self.shared.say_once(warning);
        }
        self.note(&Record::Loading(item(model)));
        let mut watching = WatchingLoad {
            board: Arc::clone(&self.shared.board),
            model: model.label.clone(),
            context: chosen.asked_context(),
        };
        let begin = Instant::now();
        let shared = self.shared;
        let mut cancel = shared.cancel.clone();
        let loaded = async {
            let mut sinks: Sinks<'_> = vec![&mut watching];
            let mut interrupt = std::pin::pin!(async move {
                if cancel.wait_for(|it| *it).await.is_err() {
                    std::future::pending().await
                }
            });
            ensure(chosen, &mut sinks, interrupt.as_mut(), shared.limits, begin).await
        };
        let mut loaded = std::pin::pin!(loaded);
        let ready = loop {
            tokio::select! {
                biased;
                // The load goes on, so that it can be undone; a second Ctrl-C
                // does not wait for it.
                () = self.interrupted() => {}
                ready = &mut loaded => break ready,
                () = tokio::time::sleep(Duration::from_millis(200)) => shared.tick(),
            }
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(Failed::Engine(error)) => return Err(of_error(error)),
            Err(Failed::Interrupted) => return Err(NotLoaded::Stopped),
            Err(Failed::Expired(expired)) => {
                return Err(NotLoaded::Model(Failure::from(expired).message));
            }
            Err(failed) => return Err(NotLoaded::Impossible(failed.into())),
        };
        for warning in &ready.warnings {
            shared.say_once(&format!("{}: {warning}", model.label));
        }
        let it = LogItem {
            instance: Some(ready.instance().to_owned()),
            context: ready.context(),
            seconds: ready.load_s(),
            ..item(model)
        };
        // What somebody else loaded is not ours to unload, ever.
        let record = if self.is_mine(model, &ready) {
            Record::Loaded(it)
        } else {
            Record::Unloaded(it)
        };
        self.note(&record);
        if let Some(totals) = self.totals.get_mut(index) {
            totals.is_loaded = true;
            if let Some(seconds) = ready.load_s() {
                totals.loads += 1;
                totals.load_s += seconds;
            }
        }
        let (seconds, context) = (ready.load_s(), ready.context());
        shared.on_board(|it| it.loaded(&model.label, seconds, context));
        Ok(ready)
    }

    /// Whether this folder's runs loaded it: this one, or one that was killed.
    fn is_mine(&self, model: &Model, ready: &Ready) -> bool {
        let of = (model.place.clone(), model.id.clone());
        ready.is_ours() || self.past.loaded.contains_key(&of)
    }

    async fn unload(&mut self, index: usize, ready: &Ready) {
        let Some(model) = self.shared.stuff.models.get(index) else {
            return;
        };
        if !self.is_mine(model, ready) {
            return;
        }
        let unloader = ready.unloader();
        let said = match tokio::time::timeout(UNLOAD_LIMIT, unloader.unload()).await {
            Ok(Ok(_)) => {
                self.note(&Record::Unloaded(item(model)));
                self.shared.on_board(|it| it.unloaded(&model.label));
                None
            }
            Ok(Err(error)) => Some(crate::error::chain(&error)),
            Err(_) => Some(format!(
                "the server did not say within {} s that it is gone",
                UNLOAD_LIMIT.as_secs()
            )),
        };
        if let Some(why) = said {
            self.shared
                .say(&format!("`{}` may stay loaded: {why}", model.label));
        }
        if let Some(totals) = self.totals.get_mut(index) {
            totals.is_loaded = false;
        }
    }

    /// Writes into the journal; that it cannot be written ends the run.
    fn note(&mut self, record: &Record) {
        let written = self.shared.journal.borrow_mut().append(record);
        if let Err(error) = written {
            self.stop(Stop::Fatal(error.into()));
        }
    }

    /// Completes when the user interrupts; what that means is done then.
    pub(super) async fn interrupted(&mut self) {
        tokio::select! {
            biased;
            () = &mut self.interrupts.second, if !self.has_second => {
                self.has_second = true;
                self.has_first = true;
                self.stop.get_or_insert(Stop::Interrupted);
                let _nobody_runs = self.cancel.send(true);
            }
            () = &mut self.interrupts.first, if !self.has_first => {
                self.has_first = true;
                if self.stop.is_none() {
                    self.stop = Some(Stop::Interrupted);
                    self.shared.say("the running jobs come to their end; Ctrl-C again ends them at once");
                }
            }
            else => std::future::pending().await,
        }
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if matches!(stop, Stop::Fatal(_)) {
            let _nobody_runs = self.cancel.send(true);
            if !matches!(self.stop, Some(Stop::Fatal(_))) {
                self.stop = Some(stop);
            }
            return;
        }
        self.stop.get_or_insert(stop);
    }

    pub(super) fn done(&mut self, index: usize, model: usize, tokens: Option<u32>, seconds: f64) {
        let tally = tally(tokens, seconds);
        self.shared
            .with_name(index, |board, name| board.end(name, Ended::Done, &tally));
        if let Some(totals) = self.totals.get_mut(model) {
            totals.done += 1;
            totals.left = totals.left.saturating_sub(1);
            totals.tokens += u64::from(tokens.unwrap_or(0));
            totals.seconds += seconds;
            if totals.times.len() >= TIMES_MAX {
                totals.times.remove(0);
            }
            totals.times.push(seconds);
        }
        self.show_left();
    }

    pub(super) fn stopped(&self, index: usize) {
        self.shared.with_name(index, |board, name| {
            board.end(name, Ended::Stopped, &tally(None, 0.0));
        });
    }

    /// It will be sent again.
    pub(super) fn again(&self, index: usize, why: &str) {
        self.stopped(index);
        let name = self
            .shared
            .jobs
            .get(index)
            .map(|it| it.name.clone())
            .unwrap_or_default();
        self.shared
            .on_board(|it| it.say(&format!("{name} is tried again: {why}"), true));
    }

    pub(super) fn failed(
        &mut self,
        index: usize,
        failure: Failure,
        file: ResultFile,
        attempts: u32,
        seconds: f64,
    ) {
        let Some(job) = self.shared.jobs.get(index) else {
            return;
        };
        let reason: Vec<&str> = std::iter::once(&failure.message)
            .chain(&failure.hints)
            .map(String::as_str)
            .collect();
        // A failure replaces nothing but an earlier failure.
        let there = fs::symlink_metadata(self.shared.out.join(&job.name));
        let is_free = there.map_or(true, |it| job.inline == Some(it.len()));
        let inline = self.shared.results.errors_inline && is_free;
        let inline = match file.fail(&reason.join("\n"), inline) {
            Ok(inline) => inline,
            Err(error) => {
                self.stop(Stop::Fatal(Failure {
                    exit: Exit::Broken,
                    ..Failure::from(error)
                }));
                return;
            }
        };
        let record = FailedRecord {
            job: job.name.clone(),
            identity: job.identity.clone(),
            at: Timestamp::now(),
            of: self.shared.stuff.of(job.cell),
            exit: failure.exit as u8,
            error: failure.message.clone(),
            seconds,
            attempts,
            inline,
        };
        self.note(&Record::Failed(Box::new(record)));
        self.shared.with_name(index, |board, name| {
            board.end(name, Ended::Failed(&failure.message), &tally(None, seconds));
        });
        if let Some(totals) = self.totals.get_mut(job.cell.model) {
            totals.failed += 1;
            totals.left = totals.left.saturating_sub(1);
        }
        self.show_left();
        let failed: usize = self.totals.iter().map(|it| it.failed).sum();
        let all = self.shared.jobs.iter().filter(|it| it.runs()).count();
        if self
            .manner
            .most_failures
            .is_some_and(|it| it.is_passed(failed, all))
        {
            self.stop(Stop::Failures);
        }
    }

    /// No job of the queue can be run.
    fn all_failed(&mut self, queue: &mut Queue, failure: &Failure) {
        while let Some(index) = queue.waiting.pop_front() {
            let Some(job) = self.shared.jobs.get(index) else {
                continue;
            };
            let file = ResultFile::new(&self.shared.out.join(&job.name));
            let sent = queue.sent.get(&index).copied().unwrap_or(0);
            let failure = Failure {
                exit: failure.exit,
                message: failure.message.clone(),
                hints: failure.hints.clone(),
            };
            self.failed(index, failure, file, sent, 0.0);
            if self.stop.is_some() {
                return;
            }
        }
    }

    fn aside(&mut self, index: usize, why: &str, round: usize) {
        let Some(model) = self.shared.stuff.models.get(index) else {
            return;
        };
        let label = &model.label;
        let then = if round < ROUNDS {
            "it is tried once more at the end"
        } else {
            "its other jobs are not done"
        };
        self.shared
            .say(&format!("`{label}` is set aside ({why}); {then}"));
        let record = Record::Aside(LogItem {
            why: Some(why.to_owned()),
            ..item(model)
        });
        self.note(&record);
        if let Some(totals) = self.totals.get_mut(index) {
            totals.aside = Some(why.to_owned());
        }
    }

    /// What is left, by loads and medians.
    fn show_left(&self) {
        let mut left = Some(Duration::ZERO);
        for (index, totals) in self.totals.iter().enumerate() {
            let Some(model) = self.shared.stuff.models.get(index) else {
                continue;
            };
            let mut speed = model.speed;
            speed.job_s = median(&totals.times);
            let at_once = self.most_at_once(index).unwrap_or(1);
            let of_model = remaining(
                speed,
                totals.left,
                totals.prompt_tokens,
                None,
                at_once,
                totals.is_loaded,
            );
            left = left.zip(of_model).and_then(|(a, b)| a.checked_add(b));
        }
        self.shared.on_board(|it| it.left(left));
    }
}

fn item(model: &Model) -> LogItem {
    LogItem {
        engine: model.place.clone(),
        model: model.id.clone(),
        ..LogItem::default()
    }
}

fn tally(tokens: Option<u32>, seconds: f64) -> Tally {
    Tally {
        tokens: tokens.unwrap_or(0),
        tokens_per_s: tokens
            .map(|it| f64::from(it) / seconds)
            .filter(|it| it.is_finite()),
        seconds,
    }
}

fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Shows how a load is going.
struct WatchingLoad {
    board: SharedBoard,
    model: String,
    context: Option<u32>,
}

impl Sink for WatchingLoad {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        if let (Event::Loading(progress), Ok(mut board)) = (event, self.board.lock()) {
            board.loading(&self.model, self.context, *progress);
        }
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }
}

/// A command's interrupt, for pieces of work that know only one.
pub(super) async fn until<T>(
    interrupt: pipeline::Interrupt<'_>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        done = work => done,
    }
}
