//! One job: prepared, sent, and its result written. What became of it is for the
//! runner to judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;

use super::super::answer_check::{Judged, judge};
use super::super::run_stats::Learning;
use super::packs::Preparing;
use super::planning::Job;
use super::shared::{Shared, SharedBoard};
use super::trouble::{self, Trouble};
use crate::batch::{Answer, Done, Record, Start, file_digest};
use crate::engine::{self, Ready};
use crate::error::{Exit, Failure};
use crate::inference::Event;
use crate::job::{Account, Failed, ProcessorChain, Sinks, perform};
use crate::report::packs_used;
use crate::sink::{self, Phase, ResultFile, Sink};

/// What became of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its result has its name, and will be safe soon.
    Done { completion_tokens: Option<u32> },
    /// It failed, and whose trouble that is.
    Failed(Failure, Trouble, ResultFile),
    /// Nothing can be written: the run must end.
    Fatal(Failure),
    /// The user had enough.
    Stopped,
}

/// A job that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which one.
    pub(super) index: usize,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
}

/// A job that is about to run.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) preparing: Result<Preparing, Failure>,
}

/// Runs a job to its end.
pub(super) async fn run(shared: &Shared<'_>, ready: &Ready, next: Next) -> Ended {
    let start = Instant::now();
    let index = next.index;
    let outcome = match shared.jobs.get(index) {
        Some(job) => answer(shared, ready, job, next, start).await,
        None => Outcome::Fatal(Failure::new(Exit::Broken, "a job that is none")),
    };
    Ended {
        index,
        outcome,
        seconds: start.elapsed().as_secs_f64(),
    }
}

async fn answer(
    shared: &Shared<'_>,
    ready: &Ready,
    job: &Job,
    next: Next,
    start: Instant,
) -> Outcome {
    let mut file = ResultFile::new(&shared.out.join(&job.name));
    let failed = |failure, file| Outcome::Failed(failure, Trouble::Job, file);
    let prepared = match next.preparing {
        Ok(preparing) => preparing.wait().await,
        Err(failure) => Err(failure),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return failed(failure, file),
    };
    let chain = match ProcessorChain::open(prepared.steps.clone()).await {
        Ok(chain) => chain,
        Err(error) => return failed(error.into(), file),
    };
    let resolved = prepared.resolved;
    let recommended = ready.chosen.recommended();
    let mut settings = shared
        .stuff
        .settings(job.cell, resolved.settings.clone(), recommended);
    settings.seed.get_or_insert_with(super::super::job::drawn);
    let begun = Record::Start(Start {
        job: job.name.clone(),
        identity: job.identity.clone(),
        attempt: next.attempt,
    });
    if let Err(error) = shared.journal.borrow_mut().append(&begun) {
        return Outcome::Fatal(error.into());
    }
    let mut learning = Learning::new(&ready.chosen, &resolved.prompt);
    learning.loaded(None);
    let ask = engine::Ask {
        prompt: resolved.prompt,
        settings: settings.clone(),
        reasoning_tags: !shared.results.tags_stay,
        required: shared.stuff.required(job.cell, resolved.settings),
    };
    let mut watching = Watching {
        board: Arc::clone(&shared.board),
        pieces: Arc::clone(&shared.pieces),
        number: next.index,
        tokens: 0,
    };
    let (mut account, result) = match ready.infer(ask) {
        Ok(stream) => {
            let sinks: Sinks<'_> = vec![&mut file, &mut watching];
            let mut cancel = shared.cancel.clone();
            let mut interrupt = std::pin::pin!(async move {
                // A sender that is gone cancels nothing any more.
                if cancel.wait_for(|it| *it).await.is_err() {
                    std::future::pending().await
                }
            });
            perform(
                stream,
                chain,
                sinks,
                interrupt.as_mut(),
                shared.limits,
                start,
            )
            .await
        }
        Err(error) => (Account::default(), Err(Failed::Engine(error))),
    };
    if let Err(error) = learning.keep(&shared.store, &account, &result) {
        shared.say_once(&format!(
            "what the runs teach is lost: {}",
            crate::error::chain(&error)
        ));
    }
    let trouble = result.as_ref().err().map(trouble::of_job);
    match trouble {
        Some(Trouble::Disk) => {
            let failure = judge(result, &account, false).err();
            return Outcome::Fatal(
                failure.unwrap_or_else(|| Failure::new(Exit::Broken, "a result cannot be written")),
            );
        }
        Some(Trouble::Interrupted) => return Outcome::Stopped,
        _ => {}
    }
    let judged = match judge(result, &account, shared.results.strict) {
        Ok(Judged { warning }) => warning,
        Err(failure) => return Outcome::Failed(failure, trouble.unwrap_or(Trouble::Job), file),
    };
    account.warnings.extend(judged.map(str::to_owned));
    let packs = std::iter::once(&prepared.resolver).chain(prepared.steps.iter().map(|it| &it.pack));
    let packs = packs_used(packs).iter().map(|it| it.pair()).collect();
    let done = Done {
        job: job.name.clone(),
        identity: job.identity.clone(),
        key: job.key.clone(),
        length: account.text.len() as u64,
        sha256: file_digest(account.text.as_bytes()),
        at: Timestamp::now(),
        of: shared.stuff.of(job.cell),
        prompt_bytes: job.prompt_bytes,
        need: job.need.context,
        prompt_tokens: account.usage.map(|it| it.prompt_tokens),
        completion_tokens: account.usage.map(|it| it.completion_tokens),
        first_token_s: account.timings.first_token_s,
        seconds: account.timings.total_s,
        finish: account.finish.and_then(|it| {
            let name = serde_json::to_value(it).ok()?;
            name.as_str().map(str::to_owned)
        }),
        seed: settings.seed.map(|it| it.value),
        attempts: next.attempt,
        packs,
        warnings: account.warnings.clone(),
        adopted: false,
    };
    for warning in &account.warnings {
        shared.say_of(&job.name, warning);
    }
    match publish(shared, job, file, &account, done).await {
        Ok(()) => Outcome::Done {
            completion_tokens: account.usage.map(|it| it.completion_tokens),
        },
        Err(failure) => Outcome::Fatal(failure),
    }
}

/// The result gets its name, in an order that a kill at any moment leaves whole:
/// text, journal, name, disk, journal.
async fn publish(
    shared: &Shared<'_>,
    job: &Job,
    file: ResultFile,
    account: &Account,
    done: Done,
) -> Result<(), Failure> {
    let of_sink = |error: sink::Error| Failure {
        exit: Exit::Broken,
        ..Failure::from(error)
    };
    if shared.results.keep_raw {
        file.keep_beside(".raw.txt", &account.raw)
            .map_err(of_sink)?;
    }
    if shared.results.keep_reasoning && !account.reasoning.is_empty() {
        file.keep_beside(".reasoning.txt", &account.reasoning)
            .map_err(of_sink)?;
    }
    let staged = file.stage(&account.text, &account.raw).map_err(of_sink)?;
    let answer = Record::Answer(Answer {
        job: done.job.clone(),
        identity: done.identity.clone(),
        key: done.key.clone(),
        length: done.length,
        sha256: done.sha256.clone(),
        file: staged.name(),
    });
    shared.journal.borrow_mut().append(&answer)?;
    let (file, aside) = staged.publish(&job.ours).map_err(of_sink)?;
    if let Some(aside) = aside {
        shared.say(&format!(
            "{} was not as a run had written it; it is kept as {}",
            job.name,
            aside.display()
        ));
    }
    let record = Record::Done(Box::new(done));
    Ok(shared.committer.commit(file, record).await?)
}

/// Tells the board how a job is going.
struct Watching {
    board: SharedBoard,
    pieces: Arc<AtomicU64>,
    number: usize,
    tokens: u32,
}

impl Watching {
    fn show(&self, phase: Phase) {
        if let Ok(mut board) = self.board.lock() {
            board.phase(self.number + 1, phase, self.tokens);
        }
    }

    fn piece(&mut self, phase: Phase) {
        self.tokens = self.tokens.saturating_add(1);
        // Servers send a piece for each token.
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.show(phase);
    }
}

impl Sink for Watching {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            Event::Loading(_) => self.show(Phase::Loading),
            Event::Prefill { progress, .. } => self.show(Phase::Reading(*progress)),
            Event::Reasoning(_) => self.piece(Phase::Thinking),
            _ => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), sink::Error> {
        self.piece(Phase::Writing);
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }

    fn wants_answer(&self) -> bool {
        false
    }
}
