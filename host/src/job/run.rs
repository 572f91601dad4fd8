//! The one function that runs a job. `infer`, the library and every job of a batch
//! call it, so that warnings, checks and statistics are the same for all of them.

use std::time::Instant;

use super::outcome::{End, InstanceUsed};
use super::statistics::{self, Observed};
use super::stream::{self, Sinks, StreamedAnswer, emit};
use super::{Answer, Cancel, JobError, Outcome, PreparedJob, Warning};
use crate::engine::{Instance, SelectedModel};
use crate::inference::{Event, FinishReason};
use crate::registry::RegistryStore;

/// What a job needs besides itself.
#[derive(Clone, Copy, Debug)]
pub struct RunContext<'a> {
    /// Where the run's statistics are kept.
    pub statistics: Option<&'a RegistryStore>,
    /// When the job began; all its times count from here.
    pub start: Instant,
    /// Seconds of loading, where the instance was loaded for this job.
    pub load_s: Option<f64>,
}

/// Runs a prepared job on a loaded instance. The outcome holds all text that
/// arrived, whatever the end.
pub async fn run(
    job: PreparedJob,
    instance: &Instance,
    sinks: Sinks<'_>,
    cancel: Cancel<'_>,
    context: RunContext<'_>,
) -> Outcome {
    let request = job.request();
    let mut used = job.facts(&instance.selected);
    used.instance = Some(InstanceUsed {
        id: instance.id().to_owned(),
        context: instance.context(),
    });
    let PreparedJob {
        prompt,
        strict,
        timeouts,
        mut warnings,
        chain,
        ..
    } = job;
    let streamed = match instance.infer(request) {
        Ok(stream) => stream::run(stream, chain, sinks, cancel, timeouts, context.start).await,
        Err(error) => StreamedAnswer {
            answer: Answer::default(),
            result: Err(error.into()),
        },
    };
    let StreamedAnswer { mut answer, result } = streamed;
    warnings.append(&mut answer.warnings);
    if let Some(store) = context.statistics {
        let observed = Observed {
            instance,
            load_s: context.load_s,
            prompt: &prompt,
            answer: &answer,
            result: &result,
        };
        if let Err(error) = statistics::record(store, &observed) {
            let cause = crate::error_chain::error_chain(&error);
            warnings.push(Warning::StatisticsNotSaved(cause));
        }
    }
    let end = check(result, strict, &mut warnings);
    answer.warnings = warnings;
    Outcome {
        end,
        answer,
        used: Some(used),
    }
}

/// Loads the model for a single job. The sinks receive the warnings so far; those of
/// the instance are added to the job.
///
/// # Errors
/// Returns the outcome of the job if the model cannot be loaded.
pub async fn load_for(
    job: &mut PreparedJob,
    model: SelectedModel,
    sinks: &mut Sinks<'_>,
    cancel: Cancel<'_>,
    start: Instant,
) -> Result<Instance, Box<Outcome>> {
    announce(&job.warnings, sinks);
    let used = job.facts(&model);
    match stream::load(model, sinks, cancel, job.timeouts, start).await {
        Ok(instance) => {
            let warnings: Vec<Warning> = instance
                .warnings
                .iter()
                .cloned()
                .map(Warning::Engine)
                .collect();
            announce(&warnings, sinks);
            job.warnings.extend(warnings);
            Ok(instance)
        }
        Err(error) => {
            for sink in sinks {
                // Nothing was shown that would have to be completed.
                let _closed = sink.end();
            }
            let mut outcome = Outcome::failed(error);
            outcome.answer.warnings = std::mem::take(&mut job.warnings);
            outcome.used = Some(used);
            Err(Box::new(outcome))
        }
    }
}

fn announce(warnings: &[Warning], sinks: &mut Sinks<'_>) {
    for warning in warnings {
        let event = Event::Warning(warning.to_string());
        // A sink that fails here fails again at the first text.
        let _closed = emit(sinks, |sink| sink.event(&event));
    }
}

/// Decides whether an answer counts. A cut answer counts with a warning, and with
/// `strict` it does not.
fn check(result: Result<FinishReason, JobError>, strict: bool, warnings: &mut Vec<Warning>) -> End {
    let finish = match result {
        Ok(finish) => finish,
        Err(error) => return End::of_error(error),
    };
    match finish {
        FinishReason::Length | FinishReason::ContextFull | FinishReason::Repetition => {
            if strict {
                return End::Failed(JobError::Cut(finish));
            }
            warnings.push(Warning::CutAnswer(finish));
            End::Done
        }
        FinishReason::End | FinishReason::Enough | FinishReason::Cancelled => End::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_answer_is_a_warning_and_with_strict_an_error() {
        for (finish, is_cut) in [
            (FinishReason::End, false),
            (FinishReason::Enough, false),
            (FinishReason::Cancelled, false),
            (FinishReason::Length, true),
            (FinishReason::ContextFull, true),
            (FinishReason::Repetition, true),
        ] {
            let mut warnings = Vec::new();
            assert!(matches!(check(Ok(finish), false, &mut warnings), End::Done));
            let expected: Vec<Warning> = is_cut
                .then_some(Warning::CutAnswer(finish))
                .into_iter()
                .collect();
            assert_eq!(warnings, expected);
            let end = check(Ok(finish), true, &mut Vec::new());
            assert_eq!(matches!(end, End::Failed(JobError::Cut(_))), is_cut);
        }
    }
}
