//! The jobs of one model on one instance, several at once: as many as the server
//! has slots, fewer when that is faster. Ends when all are through, or when the
//! instance will not do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::one::{self, Ended, Next, Outcome};
use super::run::{Runner, Stop};
use super::trouble::Trouble;
use crate::batch::{JOBS_MAX, Slots};
use crate::engine::{Memory, Ready};
use crate::error::Failure;

/// How often the screen is drawn and time is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long the tokens of all jobs are counted for one measurement.
const MEASURE: Duration = Duration::from_secs(3);
/// From so many jobs for each slot on, the first one runs alone: that costs five
/// percent then, and finds servers that several jobs slow down.
const ALONE_FROM: usize = 20;
/// Jobs that are prepared ahead of those that run.
const AHEAD: usize = 2;
/// How often a job is sent to one instance when that hangs or breaks off.
const TRIES: u32 = 2;
/// How often memory is looked at.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(10);
/// With less of the memory than this free, fewer jobs run at once.
const MEMORY_SHARE: u64 = 20;

/// How it ended.
#[derive(Debug)]
pub(super) enum PoolEnd {
    /// Every job is through.
    Through,
    /// Jobs hang or break off on this instance.
    Sick(String),
    /// Nobody answers at the server's address.
    Gone(String),
    /// The run ends.
    Stopped,
}

/// The jobs of a model that are still to be done.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<usize>,
    /// How often each was sent in this run.
    pub(super) sent: BTreeMap<usize, u32>,
    /// How often each failed on this instance.
    pub(super) tries: BTreeMap<usize, u32>,
    /// Jobs that came to a good end since the model was last loaded anew.
    pub(super) since_load: usize,
    /// Whether it was loaded anew in this round.
    pub(super) is_reloaded: bool,
    /// Jobs that came to a good end in this run.
    pub(super) done: usize,
    /// Why each failed last.
    pub(super) last: BTreeMap<usize, String>,
    /// Jobs that were blamed for their own failure since the last good end.
    pub(super) blamed: usize,
}

impl Queue {
    /// Whether a job that failed again and again on a fresh instance is to blame
    /// itself: others work on that instance; or they did before, and it is the
    /// only one in a row, so that a model that is sick now is not asked for all
    /// of its jobs.
    fn blames(&mut self) -> bool {
        let its_own =
            self.is_reloaded && (self.since_load > 0 || (self.done > 0 && self.blamed == 0));
        self.blamed += usize::from(its_own);
        its_own
    }
}

impl Runner<'_> {
    pub(super) async fn pool(&mut self, ready: &Ready, model: usize, queue: &mut Queue) -> PoolEnd {
        let most = match self.most_at_once(model) {
            Some(jobs) => jobs,
            None => ready
                .slots()
                .await
                .map_or(1, |it| (it as usize).min(JOBS_MAX)),
        };
        let shared = self.shared;
        let mut slots = Slots::new(most);
        self.at_once(model, most);
        // Where there are many jobs, the first one runs alone and shows what one
        // alone gives: only then can it be seen that several give less.
        let mut is_alone = most > 1 && queue.waiting.len() >= ALONE_FROM.saturating_mul(most);
        let pieces_before = shared.pieces.load(Ordering::Relaxed);
        let mut measure = Measure::new(pieces_before);
        let mut running = FuturesUnordered::new();
        let mut ahead: VecDeque<Next> = VecDeque::new();
        let mut trouble: Option<PoolEnd> = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        let mut last_refusal = None::<Instant>;
        loop {
            if self.stop.is_some() || trouble.is_some() {
                // What was prepared waits for the next instance.
                while let Some(next) = ahead.pop_back() {
                    queue.waiting.push_front(next.index);
                }
            } else {
                while ahead.len() < AHEAD.saturating_add(slots.now()) {
                    let Some(index) = queue.waiting.pop_front() else {
                        break;
                    };
                    ahead.push_back(self.next(index, queue));
                }
                let now = if is_alone { 1 } else { slots.now() };
                while running.len() < now {
                    let Some(next) = ahead.pop_front() else { break };
                    self.begin(next.index, queue, &next);
                    running.push(one::run(shared, ready, next));
                }
            }
            if running.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = self.interrupted() => {}
                ended = running.next() => {
                    let Some(ended) = ended else { continue };
                    if std::mem::take(&mut is_alone) {
                        let pieces = shared.pieces.load(Ordering::Relaxed) - pieces_before;
                        #[expect(clippy::cast_precision_loss, reason = "a rate")]
                        slots.alone(pieces as f64 / ended.seconds);
                    }
                    let kind = self.ended(ended, model, queue).await;
                    match kind {
                        // One answer for all that were refused at once.
                        Some(Kind::Busy)
                            if last_refusal.is_none_or(|it| it.elapsed() > MEASURE) =>
                        {
                            slots.refused();
                            last_refusal = Some(Instant::now());
                        }
                        Some(Kind::End(end)) => trouble = trouble.or(Some(end)),
                        Some(Kind::Busy) | None => {}
                    }
                }
                _ = tick.tick() => {
                    shared.tick();
                    self.at_once(model, slots.now());
                    measure.look(shared.pieces.load(Ordering::Relaxed), running.len(), &mut slots);
                    if looked.elapsed() > LOOK_AT_MEMORY {
                        looked = Instant::now();
                        self.watch_memory(model, &mut slots);
                    }
                }
            }
        }
        if self.stop.is_some() {
            return PoolEnd::Stopped;
        }
        trouble.unwrap_or(PoolEnd::Through)
    }

    fn next(&self, index: usize, queue: &mut Queue) -> Next {
        let shared = self.shared;
        let question = shared
            .jobs
            .get(index)
            .map(|job| shared.stuff.question(job.cell));
        let preparing = match question {
            Some(Ok(question)) => Ok(shared.stuff.packs.prepare(question)),
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::usage("a job that is none")),
        };
        Next {
            index,
            attempt: queue.sent.get(&index).copied().unwrap_or(0) + 1,
            preparing,
        }
    }

    /// For the estimate of what is left.
    fn at_once(&mut self, model: usize, slots: usize) {
        if let Some(totals) = self.totals.get_mut(model) {
            totals.at_once = slots;
        }
    }

    fn begin(&self, index: usize, queue: &mut Queue, next: &Next) {
        queue.sent.insert(index, next.attempt);
        self.shared.show_start(index);
    }

    /// What comes of a job that has ended.
    async fn ended(&mut self, ended: Ended, model: usize, queue: &mut Queue) -> Option<Kind> {
        let index = ended.index;
        let sent = queue.sent.get(&index).copied().unwrap_or(0);
        match ended.outcome {
            Outcome::Done { completion_tokens } => {
                queue.since_load += 1;
                queue.done += 1;
                queue.blamed = 0;
                self.done(index, model, completion_tokens, ended.seconds);
                None
            }
            Outcome::Stopped => {
                self.stopped(index);
                queue.waiting.push_front(index);
                None
            }
            Outcome::Fatal(failure) => {
                self.stopped(index);
                self.stop(Stop::Fatal(failure));
                None
            }
            Outcome::Failed(failure, trouble, file) => {
                let message = failure.message.clone();
                queue.last.insert(index, message.clone());
                let tries = queue.tries.entry(index).or_default();
                match trouble {
                    Trouble::Job | Trouble::Disk | Trouble::Interrupted => {
                        self.failed(index, failure, file, sent, ended.seconds);
                        None
                    }
                    Trouble::Server => {
                        self.again(index, &message);
                        queue.waiting.push_front(index);
                        Some(Kind::End(PoolEnd::Gone(message)))
                    }
                    Trouble::Busy | Trouble::Model => {
                        *tries += 1;
                        if *tries < TRIES {
                            self.again(index, &message);
                            queue.waiting.push_front(index);
                            return matches!(trouble, Trouble::Busy).then_some(Kind::Busy);
                        }
                        if queue.blames() {
                            self.failed(index, failure, file, sent, ended.seconds);
                            return None;
                        }
                        self.again(index, &message);
                        // Behind the others, so that they show whose it is.
                        queue.waiting.push_back(index);
                        Some(Kind::End(PoolEnd::Sick(message)))
                    }
                }
            }
        }
    }

    /// A machine that begins to swap does nothing for anybody.
    fn watch_memory(&self, model: usize, slots: &mut Slots) {
        let is_here = self.shared.stuff.models.get(model).is_some_and(|it| {
            it.endpoint
                .as_ref()
                .is_none_or(|it| it.base().contains("127.0.0.1"))
        });
        let memory = Memory::here();
        if is_here && memory.available < memory.total / MEMORY_SHARE {
            self.shared
                .say_once("little memory is left on this machine: fewer jobs run at once");
            slots.refused();
        }
    }
}

/// What an end means for the others.
enum Kind {
    Busy,
    End(PoolEnd),
}

/// Tokens of all jobs over time.
struct Measure {
    since: Instant,
    pieces: u64,
    /// How many ran all the while; `None` when it was not always the same.
    running: Option<usize>,
}

impl Measure {
    fn new(pieces: u64) -> Self {
        Self {
            since: Instant::now(),
            pieces,
            running: None,
        }
    }

    fn look(&mut self, pieces: u64, running: usize, slots: &mut Slots) {
        if self.running != Some(running) {
            self.running = Some(running);
            self.since = Instant::now();
            self.pieces = pieces;
            return;
        }
        let span = self.since.elapsed();
        if span < MEASURE {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = pieces.saturating_sub(self.pieces) as f64 / span.as_secs_f64();
        // Nothing at all is prompts that are being read.
        if rate > 0.0 {
            slots.measured(running, rate);
        }
        self.since = Instant::now();
        self.pieces = pieces;
    }
}
