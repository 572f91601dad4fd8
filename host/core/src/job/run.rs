//! The one function that runs a job. `infer`, the library and every job of a batch
//! call it, so that warnings, checks and statistics are the same for all of them.

use lmstrix_inference::{Event, FinishReason};

use super::outcome::{End, InstanceUsed};
use super::run_context::RunContext;
use super::statistics::ObservedModel;
use super::stream::{self, Sinks, StreamedAnswer};
use super::{Answer, Cancel, JobError, Outcome, PreparedJob, Warning};
use crate::engine::{InferenceRequest, Instance, SelectedModel};

/// Runs a prepared job on a loaded instance. The outcome holds all text that
/// arrived, whatever the end.
pub async fn run(
    job: PreparedJob,
    instance: &Instance,
    mut sinks: Sinks<'_>,
    cancel: Cancel<'_>,
    context: RunContext<'_>,
) -> Outcome {
    let mut used = job.facts(&instance.selected);
    used.instance = Some(InstanceUsed {
        id: instance.id().to_owned(),
        context: instance.context(),
    });
    let PreparedJob {
        prompt,
        images,
        settings,
        required,
        split_reasoning,
        strict,
        timeouts,
        mut warnings,
        mut pack_output,
        chain,
        ..
    } = job;
    for output in &pack_output {
        pass(&output.event(), &mut sinks);
    }
    let observed = ObservedModel::new(&instance.selected, &prompt);
    let request = InferenceRequest {
        prompt,
        images,
        settings,
        split_reasoning,
        required_settings: required,
    };
    let streamed = match instance.infer(request) {
        Ok(stream) => stream::run(stream, chain, sinks, cancel, timeouts, context.start).await,
        Err(error) => StreamedAnswer {
            answer: Answer::default(),
            result: Err(error.into()),
        },
    };
    let StreamedAnswer { mut answer, result } = streamed;
    warnings.append(&mut answer.warnings);
    pack_output.append(&mut answer.pack_output);
    answer.pack_output = pack_output;
    let truncation = observed.truncation(&answer, instance.context());
    warnings.extend(observed.record(&answer, &result, context));
    let result = match (&truncation, result) {
        (Some(Warning::PromptTruncated { counted, sent }), Ok(_)) if strict => {
            Err(JobError::PromptTruncated {
                counted: *counted,
                sent: *sent,
            })
        }
        (_, result) => result,
    };
    warnings.extend(truncation);
    let end = check(result, strict, &mut warnings);
    answer.warnings = warnings;
    Outcome { end, answer, used }
}

/// Loads the model for a single job, and adds the warnings of the instance to the job.
///
/// # Errors
/// Returns the outcome of the job if the model cannot be loaded.
pub async fn load_for(
    job: &mut PreparedJob,
    model: SelectedModel,
    sinks: &mut Sinks<'_>,
    cancel: Cancel<'_>,
    context: RunContext<'_>,
) -> Result<Instance, Box<Outcome>> {
    let used = job.facts(&model);
    let observed = ObservedModel::new(&model, &job.prompt);
    match stream::load(model, sinks, cancel, job.timeouts, context.start).await {
        Ok(instance) => {
            let warnings = instance.warnings.iter().cloned().map(Warning::Engine);
            let warnings: Vec<Warning> = warnings.collect();
            announce(&warnings, sinks);
            job.warnings.extend(warnings);
            Ok(instance)
        }
        Err(error) => {
            for sink in sinks {
                // Nothing was shown that would have to be completed.
                let _closed = sink.end();
            }
            let mut answer = Answer {
                warnings: std::mem::take(&mut job.warnings),
                ..Answer::default()
            };
            let result = Err(error);
            let warning = observed.record(&answer, &result, context);
            answer.warnings.extend(warning);
            Err(Box::new(Outcome {
                end: check(result, job.strict, &mut answer.warnings),
                answer,
                used,
            }))
        }
    }
}

/// Passes warnings to sinks.
pub fn announce(warnings: &[Warning], sinks: &mut Sinks<'_>) {
    for warning in warnings {
        pass(&Event::Warning(warning.to_string()), sinks);
    }
}

/// Passes an event to sinks before the answer. A sink that fails here fails again at the
/// first text, and is removed then.
fn pass(event: &Event, sinks: &mut Sinks<'_>) {
    for sink in sinks {
        let _reported_later = sink.event(event);
    }
}

/// Decides whether an answer counts. A cut answer counts with a warning, and with
/// `strict` it does not.
fn check(result: Result<FinishReason, JobError>, strict: bool, warnings: &mut Vec<Warning>) -> End {
    let finish = match result {
        Ok(finish) => finish,
        Err(error) => return End::of_error(error),
    };
    if !finish.is_cut() {
        return End::Done;
    }
    if strict {
        return End::Failed(JobError::Cut(finish));
    }
    warnings.push(Warning::CutAnswer(finish));
    End::Done
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
            (FinishReason::ContentFilter, true),
            (FinishReason::Unreported, true),
            (FinishReason::Other("model_length".to_owned()), true),
            (FinishReason::Other("eos_token".to_owned()), false),
        ] {
            let mut warnings = Vec::new();
            let end = check(Ok(finish.clone()), false, &mut warnings);
            assert!(matches!(end, End::Done));
            let expected: Vec<Warning> = is_cut
                .then(|| Warning::CutAnswer(finish.clone()))
                .into_iter()
                .collect();
            assert_eq!(warnings, expected);
            let end = check(Ok(finish), true, &mut Vec::new());
            assert_eq!(matches!(end, End::Failed(JobError::Cut(_))), is_cut);
        }
    }
}
