//! The stream of one job: the engine's events pass the processors and reach the
//! sinks, within the time limits.

use std::pin::Pin;
use std::time::{Duration, Instant};

use lmstrix_inference::{Event, FinishReason, Usage};
use lmstrix_sandbox::StopReason;

use super::loop_guard::LoopGuard;
use super::timeouts::{Expired, PhaseTimer, TimeoutPhase, Timeouts};
use super::{Answer, JobError, ProcessorChain, Warning};
use crate::engine::{InferenceStream, Instance, SelectedModel, Unloader};
use crate::sink::{self, Sink};

/// The time that processors get to complete an answer that was cancelled: the shell
/// prompt must be back within a second.
const FINISH_AFTER_CANCEL: Duration = Duration::from_millis(500);

/// The time that the engine gets to report its last counts after a processor ended
/// the answer. They are for the report only, so a slow engine is not waited for.
const COUNTS_AFTER_END: Duration = Duration::from_millis(500);

/// The sinks of a job. A sink that returned an error is left out from then on.
pub type Sinks<'a> = Vec<&'a mut (dyn Sink + Send)>;

/// Completes when the job is to be cancelled; may be polled again and again.
pub type Cancel<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

/// An answer as it arrived, and how its stream ended.
pub(super) struct StreamedAnswer {
    pub(super) answer: Answer,
    pub(super) result: Result<FinishReason, JobError>,
}

/// The time in which a cancelled load is undone: a process that was asked to end has little.
const UNDO_LIMIT: Duration = Duration::from_millis(1500);

/// The time to read what the server has sent, after a limit was reached: the process itself may
/// have been stopped (Ctrl-Z).
const READ_AFTER_STOP: Duration = Duration::from_millis(100);

/// Loads the model within the load timeout; the sinks receive the progress. `start`
/// is when the job began. A load that is cancelled is undone, or named in a warning.
///
/// # Errors
/// Returns an error if the engine cannot load the model, if a limit is reached, or
/// if the job is cancelled.
pub async fn load(
    model: SelectedModel,
    sinks: &mut Sinks<'_>,
    mut cancel: Cancel<'_>,
    timeouts: Timeouts,
    start: Instant,
) -> Result<Instance, JobError> {
    let timer = PhaseTimer::new(timeouts, start.into());
    let unloader = model.unloader();
    let name = model.model.clone();
    let mut shown = Ok(());
    let mut emit_event = |event: Event| {
        if shown.is_ok() {
            shown = emit(sinks, |sink| sink.event(&event));
        }
    };
    let loaded = tokio::select! {
        biased;
        () = &mut cancel => Err(JobError::Cancelled),
        expired = timer.expired() => Err(expired_load(&unloader, expired)),
        loaded = model.load(&mut emit_event) => loaded.map_err(JobError::Engine),
    };
    if matches!(loaded, Err(JobError::Cancelled))
        && let Some(warning) = undo_load(&unloader, &name).await
    {
        emit_event(Event::Warning(warning));
    }
    shown.and(loaded)
}

/// Returns the error of a load that reached a limit, with its reason if it is known.
fn expired_load(unloader: &Unloader, expired: Expired) -> JobError {
    let explained = match expired.phase {
        TimeoutPhase::Load => unloader.slow_load(expired.limit),
        _ => None,
    };
    explained.map_or(JobError::Expired(expired), JobError::Engine)
}

/// Unloads what a cancelled load leaves at the server. Returns a warning if that is not
/// certain.
async fn undo_load(unloader: &Unloader, model: &str) -> Option<String> {
    match tokio::time::timeout(UNDO_LIMIT, unloader.unload()).await {
        Ok(Ok(_)) => None,
        Ok(Err(_)) | Err(_) => Some(format!(
            "`{model}` may still be loading; `lmstrix-host unload --all` unloads it"
        )),
    }
}

/// Reads a stream to its end.
pub(super) async fn run(
    mut stream: InferenceStream,
    chain: ProcessorChain,
    mut sinks: Sinks<'_>,
    mut cancel: Cancel<'_>,
    timeouts: Timeouts,
    start: Instant,
) -> StreamedAnswer {
    let mut answer = Answer::default();
    let streamed = read(
        &mut stream,
        &chain,
        &mut sinks,
        &mut answer,
        cancel.as_mut(),
        timeouts,
        start,
    );
    let streamed = streamed.await;
    stream.cancel();
    if matches!(
        streamed,
        Ok(FinishReason::Enough | FinishReason::Repetition) | Err(JobError::Pack(_))
    ) {
        let counts = last_counts(&mut stream);
        if let Ok(Some(usage)) = tokio::time::timeout(COUNTS_AFTER_END, counts).await {
            answer.usage = Some(usage);
        }
    }
    let mut result = finish(streamed, chain, &mut sinks, &mut answer, cancel).await;
    if let Err(error) = emit(&mut sinks, |sink| sink.end()) {
        result = result.and(Err(error));
    }
    answer.timings.total_s = start.elapsed().as_secs_f64();
    StreamedAnswer { answer, result }
}

/// Passes a value to every sink. A closed pipe ends the job only when no other sink
/// wants its answer.
pub(super) fn emit(
    sinks: &mut Sinks<'_>,
    mut pass: impl FnMut(&mut dyn Sink) -> Result<(), sink::Error>,
) -> Result<(), JobError> {
    let mut at = 0;
    while let Some(sink) = sinks.get_mut(at) {
        let Err(error) = pass(&mut **sink) else {
            at += 1;
            continue;
        };
        sinks.remove(at);
        let others_want_it = matches!(error, sink::Error::BrokenPipe)
            && sinks.iter().any(|sink| sink.wants_answer());
        if !others_want_it {
            return Err(JobError::Sink(error));
        }
    }
    Ok(())
}

async fn last_counts(stream: &mut InferenceStream) -> Option<Usage> {
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

async fn read(
    stream: &mut InferenceStream,
    chain: &ProcessorChain,
    sinks: &mut Sinks<'_>,
    answer: &mut Answer,
    mut cancel: Cancel<'_>,
    timeouts: Timeouts,
    start: Instant,
) -> Result<FinishReason, JobError> {
    let mut timer = PhaseTimer::new(timeouts, start.into());
    let mut guard = LoopGuard::new(timeouts.max_repeat);
    // After a processor crashed the model continues, since its answer is worth
    // keeping. A processor that rejected the answer ends it.
    let mut crashed = None;
    let ended = |crashed: Option<lmstrix_sandbox::Error>, reason| match crashed {
        Some(error) => Err(JobError::Pack(error)),
        None => Ok(reason),
    };
    loop {
        for sink in sinks.iter_mut() {
            let Some(ready) = sink.ready() else { continue };
            tokio::select! {
                biased;
                () = &mut cancel => return Err(JobError::Cancelled),
                () = ready => timer.was_busy(),
                expired = timer.total() => return Err(JobError::Expired(expired)),
            }
        }
        let event = tokio::select! {
            biased;
            () = &mut cancel => return Err(JobError::Cancelled),
            event = stream.next() => event.map_err(JobError::Engine)?,
            expired = timer.expired() => {
                let is_of_phase = expired.phase != TimeoutPhase::Total;
                match tokio::time::timeout(READ_AFTER_STOP, stream.next()).await {
                    Ok(event) if is_of_phase => event.map_err(JobError::Engine)?,
                    _ => return Err(JobError::Expired(expired)),
                }
            }
        };
        timer.observe(&event);
        let elapsed = start.elapsed().as_secs_f64();
        // The end is passed on after the processors have ended, too.
        if !matches!(event, Event::Finished(_)) {
            emit(sinks, |sink| sink.event(&event))?;
        }
        match event {
            Event::Loading(_) | Event::PackOutput { .. } => {}
            Event::Prefill { .. } => {
                answer.timings.load_s.get_or_insert(elapsed);
            }
            Event::Reasoning(text) => {
                answer.timings.first_token_s.get_or_insert(elapsed);
                answer.reasoning.push_str(&text);
                if guard.push(&text) {
                    return Ok(FinishReason::Repetition);
                }
                if is_too_long(answer) {
                    return Ok(FinishReason::Length);
                }
            }
            Event::Text(text) => {
                answer.timings.first_token_s.get_or_insert(elapsed);
                answer.raw.push_str(&text);
                emit(sinks, |sink| sink.raw(&text))?;
                let repeats = guard.push(&text);
                if crashed.is_none() {
                    let pushed = tokio::select! {
                        biased;
                        () = &mut cancel => return Err(JobError::Cancelled),
                        pushed = chain.push(text) => pushed,
                        expired = timer.total() => return Err(JobError::Expired(expired)),
                    };
                    match pushed {
                        Ok(pushed) => {
                            give(&pushed.text, sinks, answer)?;
                            if pushed.done {
                                return Ok(FinishReason::Enough);
                            }
                        }
                        Err(error @ lmstrix_sandbox::Error::Contract { .. }) => {
                            return Err(JobError::Pack(error));
                        }
                        Err(error) => crashed = Some(error),
                    }
                }
                if repeats {
                    return ended(crashed, FinishReason::Repetition);
                }
                if is_too_long(answer) {
                    return ended(crashed, FinishReason::Length);
                }
            }
            Event::TextWasReasoning => {
                restart(answer, sinks)?;
                if crashed.is_none() {
                    chain.restart().await.map_err(JobError::Pack)?;
                }
            }
            Event::Usage(usage) => answer.usage = Some(usage),
            Event::Warning(warning) => answer.warnings.push(Warning::Engine(warning)),
            Event::Finished(reason) => return ended(crashed, reason),
        }
        timer.was_busy();
    }
}

/// The maximum size of an answer with its reasoning in bytes. They are kept in memory; no
/// model writes as much on purpose.
const ANSWER_BYTES_MAX: usize = 16 << 20;

fn is_too_long(answer: &Answer) -> bool {
    answer.raw.len() + answer.reasoning.len() > ANSWER_BYTES_MAX
}

/// Makes the text so far reasoning. Text that was printed cannot be taken back, so that it
/// gets a warning.
fn restart(answer: &mut Answer, sinks: &mut Sinks<'_>) -> Result<(), JobError> {
    answer.reasoning.push_str(&std::mem::take(&mut answer.raw));
    answer.text.clear();
    let mut was_seen = false;
    emit(sinks, |sink| {
        was_seen |= !sink.restart()?;
        Ok(())
    })?;
    if !was_seen {
        return Ok(());
    }
    let warning = Warning::ReasoningPrinted;
    let event = Event::Warning(warning.to_string());
    answer.warnings.push(warning);
    emit(sinks, |sink| sink.event(&event))
}

fn give(text: &str, sinks: &mut Sinks<'_>, answer: &mut Answer) -> Result<(), JobError> {
    answer.text.push_str(text);
    emit(sinks, |sink| sink.text(text))
}

/// Ends the processors. They learn of every end but their own failure, so that text
/// that they held back is not lost.
async fn finish(
    streamed: Result<FinishReason, JobError>,
    chain: ProcessorChain,
    sinks: &mut Sinks<'_>,
    answer: &mut Answer,
    mut cancel: Cancel<'_>,
) -> Result<FinishReason, JobError> {
    let is_cancelled = matches!(streamed, Err(JobError::Cancelled | JobError::Expired(_)));
    let stop = match &streamed {
        Ok(reason) => StopReason::Finished(reason.clone()),
        Err(_) if is_cancelled => StopReason::Finished(FinishReason::Cancelled),
        Err(JobError::Engine(error)) => StopReason::Failed(error.to_string()),
        Err(_) => return streamed,
    };
    let ended = if is_cancelled {
        match tokio::time::timeout(FINISH_AFTER_CANCEL, chain.finish(stop)).await {
            Ok(ended) => ended,
            Err(_) => return streamed,
        }
    } else {
        tokio::select! {
            biased;
            () = &mut cancel => return Err(JobError::Cancelled),
            ended = chain.finish(stop) => ended,
        }
    };
    let ended = match ended {
        Ok(ended) => ended,
        // The first failure is the one to report.
        Err(error) => return streamed.and(Err(JobError::Pack(error))),
    };
    answer.extra = ended.extra;
    for output in ended.pack_output {
        let event = output.event();
        answer.pack_output.push(output);
        if let Err(error) = emit(sinks, |sink| sink.event(&event)) {
            return streamed.and(Err(error));
        }
    }
    for warning in ended.warnings {
        let event = Event::Warning(warning.clone());
        answer.warnings.push(Warning::Processor(warning));
        if let Err(error) = emit(sinks, |sink| sink.event(&event)) {
            return streamed.and(Err(error));
        }
    }
    if let Err(error) = give(&ended.tail, sinks, answer) {
        return streamed.and(Err(error));
    }
    let reason = streamed?;
    answer.finish = Some(reason.clone());
    let event = Event::Finished(reason.clone());
    emit(sinks, |sink| sink.event(&event))?;
    if answer.text.trim().is_empty() {
        let has_only_reasoning = answer.raw.trim().is_empty() && !answer.reasoning.is_empty();
        return Err(if has_only_reasoning {
            JobError::OnlyReasoning(answer.usage.map(|usage| usage.completion_tokens))
        } else {
            JobError::Empty
        });
    }
    Ok(reason)
}
