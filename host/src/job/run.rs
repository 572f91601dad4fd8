//! Perform: an engine answers, processors work on the answer, sinks take it.

use std::pin::Pin;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ProcessorChain;
use super::loop_guard::LoopGuard;
use super::timeouts::{Expired, PhaseTimer, Timeouts};
use crate::engine::{self, Chosen, Ready, Stream};
use crate::inference::{Event, Finish, Usage};
use crate::pack::{self, Stop};
use crate::sink::{self, Sink};

/// How long processors may take to round off an answer that the user
/// interrupted: the prompt must be back within a second.
const FINISH_AFTER_INTERRUPT: Duration = Duration::from_millis(500);

/// How long the engine may take to say its last counts after a processor had
/// enough or failed. They are for the report only, so a slow engine is not waited for.
const COUNTS_AFTER_ENOUGH: Duration = Duration::from_millis(500);

/// Everything that is known of an answer, whether it ended well or badly.
#[derive(Debug, Default)]
pub struct Account {
    /// What the user gets.
    pub text: String,
    /// What the model said.
    pub raw: String,
    /// What the model thought.
    pub reasoning: String,
    /// Counts of tokens, as far as the engine told them.
    pub usage: Option<Usage>,
    /// How long it took.
    pub timings: Timings,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What processors say for the report.
    pub extra: Vec<(String, Vec<(String, String)>)>,
}

/// Times of one answer, in seconds from the start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timings {
    /// Until the engine began with the prompt: loading, where it loads.
    pub load_s: Option<f64>,
    /// Until the first piece of text or reasoning.
    pub first_token_s: Option<f64>,
    /// Until the end.
    pub total_s: f64,
}

/// Why an answer is not complete.
#[derive(Debug)]
pub enum Failed {
    /// The engine.
    Engine(engine::Error),
    /// A processor.
    Pack(pack::Error),
    /// A sink.
    Sink(sink::Error),
    /// There is no text in it.
    Empty,
    /// A limit of time.
    Expired(Expired),
    /// The user had enough.
    Interrupted,
}

/// The sinks of a job. One that cannot take any more is left out from then on.
pub type Sinks<'a> = Vec<&'a mut (dyn Sink + Send)>;

/// An interrupt, as a future that may be polled again and again.
pub type Interrupt<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

/// Sees to it that the model is loaded, within the limit for that; the sinks
/// hear of it. `start` is when the whole began.
///
/// # Errors
/// The server cannot load it, a limit was reached, or the user had enough.
pub async fn ensure(
    chosen: Chosen,
    sinks: &mut Sinks<'_>,
    mut interrupt: Interrupt<'_>,
    limits: Timeouts,
    start: Instant,
) -> Result<Ready, Failed> {
    let watch = PhaseTimer::new(limits, start.into());
    let mut told = Ok(());
    let mut emit = |event: Event| {
        if told.is_ok() {
            told = tell(sinks, |sink| sink.event(&event));
        }
    };
    let ready = tokio::select! {
        biased;
        () = &mut interrupt => Err(Failed::Interrupted),
        expired = watch.expired() => Err(Failed::Expired(expired)),
        ready = chosen.ensure(&mut emit) => ready.map_err(Failed::Engine),
    };
    told.and(ready)
}

/// Runs a job whose stream has been started. Whatever happens, the account
/// holds what was said until then. `start` is when the whole began.
pub async fn perform(
    mut stream: Stream,
    chain: ProcessorChain,
    mut sinks: Sinks<'_>,
    mut interrupt: Interrupt<'_>,
    limits: Timeouts,
    start: Instant,
) -> (Account, Result<Finish, Failed>) {
    let mut account = Account::default();
    let streamed = run(
        &mut stream,
        &chain,
        &mut sinks,
        &mut account,
        interrupt.as_mut(),
        limits,
        start,
    );
    let streamed = streamed.await;
    stream.cancel();
    if matches!(
        streamed,
        Ok(Finish::Enough | Finish::Repetition) | Err(Failed::Pack(_))
    ) {
        let counts = last_counts(&mut stream);
        if let Ok(Some(usage)) = tokio::time::timeout(COUNTS_AFTER_ENOUGH, counts).await {
            account.usage = Some(usage);
        }
    }
    let mut result = finish(streamed, chain, &mut sinks, &mut account, interrupt).await;
    if let Err(failed) = tell(&mut sinks, |sink| sink.end()) {
        result = result.and(Err(failed));
    }
    account.timings.total_s = start.elapsed().as_secs_f64();
    (account, result)
}

/// Tells every sink. A closed pipe ends the job only when nobody else wants
/// its answer.
fn tell(
    sinks: &mut Sinks<'_>,
    mut say: impl FnMut(&mut dyn Sink) -> Result<(), sink::Error>,
) -> Result<(), Failed> {
    let mut at = 0;
    while let Some(sink) = sinks.get_mut(at) {
        let Err(error) = say(&mut **sink) else {
            at += 1;
            continue;
        };
        sinks.remove(at);
        let others_want_it =
            matches!(error, sink::Error::BrokenPipe) && sinks.iter().any(|it| it.wants_answer());
        if !others_want_it {
            return Err(Failed::Sink(error));
        }
    }
    Ok(())
}

async fn last_counts(stream: &mut Stream) -> Option<Usage> {
    let mut last = None;
    while let Ok(event) = stream.next().await {
        match event {
            Event::Usage(usage) => last = Some(usage),
            Event::Finished(_) => break,
            _ => {}
        }
    }
    last
}

async fn run(
    stream: &mut Stream,
    chain: &ProcessorChain,
    sinks: &mut Sinks<'_>,
    account: &mut Account,
    mut interrupt: Interrupt<'_>,
    limits: Timeouts,
    start: Instant,
) -> Result<Finish, Failed> {
    let mut watch = PhaseTimer::new(limits, start.into());
    let mut guard = LoopGuard::new(limits.max_repeat);
    // A processor that crashed; the model goes on, since its answer is worth
    // keeping. One that rejected the answer ends it.
    let mut crashed = None;
    loop {
        let event = tokio::select! {
            biased;
            () = &mut interrupt => return Err(Failed::Interrupted),
            event = stream.next() => event.map_err(Failed::Engine)?,
            expired = watch.expired() => return Err(Failed::Expired(expired)),
        };
        watch.hear(&event);
        let elapsed = start.elapsed().as_secs_f64();
        // The end is told when the processors have ended, too.
        if !matches!(event, Event::Finished(_)) {
            tell(sinks, |sink| sink.event(&event))?;
        }
        match event {
            Event::Loading(_) => {}
            Event::Prefill { .. } => {
                account.timings.load_s.get_or_insert(elapsed);
            }
            Event::Reasoning(text) => {
                account.timings.first_token_s.get_or_insert(elapsed);
                account.reasoning.push_str(&text);
                if guard.push(&text) {
                    return Ok(Finish::Repetition);
                }
            }
            Event::Text(text) => {
                account.timings.first_token_s.get_or_insert(elapsed);
                account.raw.push_str(&text);
                tell(sinks, |sink| sink.raw(&text))?;
                let loops = guard.push(&text);
                if crashed.is_some() {
                    if loops {
                        return crashed.map_or(Ok(Finish::Repetition), |e| Err(Failed::Pack(e)));
                    }
                    continue;
                }
                let pushed = tokio::select! {
                    biased;
                    () = &mut interrupt => return Err(Failed::Interrupted),
                    pushed = chain.push(text) => pushed,
                    expired = watch.whole() => return Err(Failed::Expired(expired)),
                };
                match pushed {
                    Ok(pushed) => {
                        give(&pushed.text, sinks, account)?;
                        if pushed.done {
                            return Ok(Finish::Enough);
                        }
                    }
                    Err(error @ pack::Error::Answer { .. }) => return Err(Failed::Pack(error)),
                    Err(error) => crashed = Some(error),
                }
                if loops {
                    return crashed.map_or(Ok(Finish::Repetition), |e| Err(Failed::Pack(e)));
                }
            }
            Event::Usage(usage) => account.usage = Some(usage),
            Event::Warning(warning) => account.warnings.push(warning),
            Event::Finished(finish) => {
                return crashed.map_or(Ok(finish), |error| Err(Failed::Pack(error)));
            }
        }
        watch.was_busy();
    }
}

fn give(text: &str, sinks: &mut Sinks<'_>, account: &mut Account) -> Result<(), Failed> {
    account.text.push_str(text);
    tell(sinks, |sink| sink.text(text))
}

/// The processors hear of every end but their own failure, so that text that
/// they held back is not lost.
async fn finish(
    streamed: Result<Finish, Failed>,
    chain: ProcessorChain,
    sinks: &mut Sinks<'_>,
    account: &mut Account,
    mut interrupt: Interrupt<'_>,
) -> Result<Finish, Failed> {
    let stop = match &streamed {
        Ok(finish) => Stop::Finished(*finish),
        Err(Failed::Interrupted | Failed::Expired(_)) => Stop::Finished(Finish::Cancelled),
        Err(Failed::Engine(error)) => Stop::Failed(error.to_string()),
        Err(_) => return streamed,
    };
    let ended = if matches!(streamed, Err(Failed::Interrupted | Failed::Expired(_))) {
        match tokio::time::timeout(FINISH_AFTER_INTERRUPT, chain.finish(stop)).await {
            Ok(ended) => ended,
            Err(_) => return streamed,
        }
    } else {
        tokio::select! {
            biased;
            () = &mut interrupt => return Err(Failed::Interrupted),
            ended = chain.finish(stop) => ended,
        }
    };
    let ended = match ended {
        Ok(ended) => ended,
        // The first failure is the one to tell.
        Err(error) => return streamed.and(Err(Failed::Pack(error))),
    };
    account.extra = ended.extra;
    for warning in ended.warnings {
        account.warnings.push(warning.clone());
        let event = Event::Warning(warning);
        if let Err(error) = tell(sinks, |sink| sink.event(&event)) {
            return streamed.and(Err(error));
        }
    }
    if let Err(error) = give(&ended.tail, sinks, account) {
        return streamed.and(Err(error));
    }
    let finish = streamed?;
    account.finish = Some(finish);
    let event = Event::Finished(finish);
    tell(sinks, |sink| sink.event(&event))?;
    if account.text.trim().is_empty() {
        return Err(Failed::Empty);
    }
    Ok(finish)
}
