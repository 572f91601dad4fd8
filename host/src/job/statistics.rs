//! What a run shows of its model, as one line for the registry.

use jiff::Timestamp;

use super::{Answer, JobError};
use crate::engine::{EMBEDDED, Instance};
use crate::error_chain::error_chain;
use crate::inference::{FinishReason, Prompt};
use crate::registry::{Error, Observation, RegistryStore};

/// A run that has ended.
pub(super) struct Observed<'a> {
    pub(super) instance: &'a Instance,
    /// Seconds of loading, if this run loaded the instance for this job.
    pub(super) load_s: Option<f64>,
    pub(super) prompt: &'a Prompt,
    pub(super) answer: &'a Answer,
    pub(super) result: &'a Result<FinishReason, JobError>,
}

/// Appends the observation of a run to the registry. A failure that the user, a
/// pack or a file caused says nothing about the model and is left out.
///
/// # Errors
/// Returns an error if the line cannot be written.
pub(super) fn record(store: &RegistryStore, observed: &Observed<'_>) -> Result<(), Error> {
    let Observed {
        instance,
        load_s,
        prompt,
        answer,
        result,
    } = observed;
    let failure = match result {
        Ok(_) => None,
        Err(JobError::Engine(error)) if error.is_caller_error() => return Ok(()),
        Err(JobError::Engine(error)) => Some(error_chain(error)),
        Err(JobError::Expired(_)) => Some("it took too long".to_owned()),
        Err(JobError::Empty) => Some("an answer without text".to_owned()),
        Err(
            JobError::Prepare(_)
            | JobError::Pack(_)
            | JobError::Sink(_)
            | JobError::Cut(_)
            | JobError::Cancelled,
        ) => return Ok(()),
    };
    let model = &instance.selected;
    let timings = answer.timings;
    let first_token_s = timings
        .first_token_s
        .map(|first| first - timings.load_s.unwrap_or(0.0));
    let after_first_s = timings.first_token_s.map(|first| timings.total_s - first);
    let usage = answer.usage;
    // Models in this process are loaded in the time until the first token.
    let is_embedded = model.engine() == EMBEDDED;
    let per_second = |tokens: u32, seconds: Option<f64>| {
        let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
        Some(f64::from(tokens) / seconds)
    };
    store.record_observation(&Observation {
        at: Timestamp::now(),
        engine: model.address().to_owned(),
        kind: model.engine().to_owned(),
        model: model.model.clone(),
        prompt_bytes: Some(prompt.bytes() as u64),
        prompt_tokens: usage.map(|usage| usage.prompt_tokens),
        completion_tokens: usage.map(|usage| usage.completion_tokens),
        load_s: *load_s,
        first_token_s,
        prefill: usage
            .filter(|_| !is_embedded)
            .and_then(|usage| per_second(usage.prompt_tokens, first_token_s)),
        // Of n tokens, n - 1 come after the first one.
        decode: usage
            .and_then(|usage| per_second(usage.completion_tokens.saturating_sub(1), after_first_s)),
        failure,
    })
}
