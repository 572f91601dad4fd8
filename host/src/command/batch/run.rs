//! The run itself: model after model, each loaded once; what hangs is sent again,
//! loaded anew, set aside and tried once more at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use super::Interrupts;
use super::intent::Manner;
use super::loads::{Loading, NotLoaded};
use super::pool::{PoolEnd, Queue};
use super::shared::Shared;
use super::tell::Totals;
use crate::batch::{Past, Record};
use crate::error::{Exit, Failure};
use crate::job;

/// How often a server may go away and come back without one job done in between.
const COMEBACKS: u32 = 3;
/// How long the last round waits: what troubled a model may have passed by then.
const ROUND_PAUSE: Duration = Duration::from_secs(3);
/// Rounds: those set aside are tried once more.
pub(super) const ROUNDS: usize = 2;

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
    /// Models that this run has loaded, by engine and name: a server that went
    /// away may come back with them.
    pub(super) owned: BTreeSet<(String, String)>,
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
                totals.limit = totals.limit.max(job.need.limit);
            }
        }
        for (totals, model) in self.totals.iter_mut().zip(&self.shared.stuff.models) {
            totals.is_loaded = model.is_loaded();
        }
        for (index, totals) in self.totals.iter_mut().enumerate() {
            let of_model = self.shared.stuff.models.get(index).and_then(|it| it.jobs);
            totals.at_once = self.manner.jobs.or(of_model).unwrap_or(1);
        }
        self.show_left();
        let mut why_aside: BTreeMap<usize, String> = BTreeMap::new();
        for round in 1..=ROUNDS {
            if round > 1 && !why_aside.is_empty() {
                self.pause(ROUND_PAUSE).await;
            }
            for (model, queue) in queues.iter_mut().enumerate() {
                if queue.waiting.is_empty() || (round > 1 && !why_aside.contains_key(&model)) {
                    continue;
                }
                queue.tries.clear();
                queue.is_reloaded = false;
                queue.since_load = 0;
                queue.blamed = 0;
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
            );
            self.all_failed(queue, &failure);
        }
    }

    pub(super) fn label(&self, model: usize) -> String {
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
            if self.listen().await {
                return Round::Stopped;
            }
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
                    let mine = self.is_mine_at(model, &ready);
                    self.shared.say(&format!(
                        "`{}` is {}, since it hung or broke off twice: {why}",
                        self.label(model),
                        if mine {
                            "loaded anew"
                        } else {
                            "asked once more"
                        }
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

    /// Waits, unless the user has had enough.
    pub(super) async fn pause(&mut self, span: Duration) {
        let mut rest = std::pin::pin!(tokio::time::sleep(span));
        while self.stop.is_none() {
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                () = &mut rest => return,
            }
        }
    }

    /// Writes into the journal; that it cannot be written ends the run.
    pub(super) fn note(&mut self, record: &Record) {
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

    /// Whether the run is to end, with an interrupt that came while nothing
    /// listened.
    pub(super) async fn listen(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.interrupted() => {}
            () = std::future::ready(()) => {}
        }
        self.stop.is_some()
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
}

/// A command's interrupt, for pieces of work that know only one.
pub(super) async fn until<T>(
    interrupt: job::Interrupt<'_>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        done = work => done,
    }
}
