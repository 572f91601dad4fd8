//! Run statistics: one observation of each run, for the registry.

use jiff::Timestamp;
use lmstrix_inference::{FinishReason, Prompt};

use super::run_context::RunContext;
use super::{Answer, JobError, Warning};
use crate::engine::{EMBEDDED, SelectedModel};
use crate::error_chain::error_chain;
use crate::registry::Observation;
use crate::token_estimate::{TokenEstimate, min_tokens};

/// The model and the prompt of a run, as the registry keeps them.
pub(super) struct ObservedModel {
    address: String,
    kind: &'static str,
    model: String,
    prompt_bytes: u64,
    /// A lower bound of the tokens of the prompt.
    min_prompt_tokens: u32,
    /// An upper bound of the tokens of the prompt.
    max_prompt_tokens: u32,
    has_images: bool,
}

impl ObservedModel {
    pub(super) fn new(model: &SelectedModel, prompt: &Prompt) -> Self {
        Self {
            address: model.address().to_owned(),
            kind: model.engine(),
            model: model.model.clone(),
            prompt_bytes: prompt.bytes() as u64,
            min_prompt_tokens: min_tokens(prompt.texts()),
            max_prompt_tokens: TokenEstimate::of_prompt(prompt, None).high,
            has_images: prompt.image_count() > 0,
        }
    }

    /// Returns a warning if the server counted fewer tokens than the prompt must have. 0 is
    /// no count. A prompt that certainly fits into the context is not truncated: then the
    /// server does not count what it has cached.
    pub(super) fn truncation(&self, answer: &Answer, context: Option<u32>) -> Option<Warning> {
        let counted = answer.usage?.prompt_tokens;
        let fits = context.is_some_and(|context| self.max_prompt_tokens <= context);
        (counted > 0 && counted < self.min_prompt_tokens && !fits).then_some(
            Warning::PromptTruncated {
                counted,
                sent: self.min_prompt_tokens,
            },
        )
    }

    /// Appends the observation of a run to the registry. A failure that the user, a
    /// pack or a file caused says nothing about the model and is left out. Returns a
    /// warning if the line cannot be written.
    pub(super) fn record(
        self,
        answer: &Answer,
        result: &Result<FinishReason, JobError>,
        context: RunContext<'_>,
    ) -> Option<Warning> {
        let store = context.statistics?;
        let failure = match result {
            Ok(_) => None,
            Err(JobError::Engine(error)) if error.is_caller_error() => return None,
            Err(JobError::Engine(error)) => Some(error_chain(error)),
            Err(JobError::Expired(_)) => Some("it took too long".to_owned()),
            Err(JobError::Empty | JobError::OnlyReasoning(_)) => {
                Some("an answer without text".to_owned())
            }
            Err(
                JobError::Pack(_)
                | JobError::Attachment(_)
                | JobError::NoVision { .. }
                | JobError::Sink(_)
                | JobError::Cut(_)
                | JobError::PromptTruncated { .. }
                | JobError::Cancelled,
            ) => {
                return None;
            }
        };
        let timings = answer.timings;
        let first_token_s = timings
            .first_token_s
            .map(|first| first - timings.load_s.unwrap_or(0.0));
        let after_first_s = timings.first_token_s.map(|first| timings.total_s - first);
        let usage = answer.usage;
        // The counts of a prompt that was truncated or cached say nothing about its text, and
        // those of one with images count these, too.
        let is_of_text = !self.has_images
            && usage.is_none_or(|usage| usage.prompt_tokens >= self.min_prompt_tokens);
        // Models in this process are loaded in the time until the first token.
        let is_embedded = self.kind == EMBEDDED;
        let per_second = |tokens: u32, seconds: Option<f64>| {
            let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
            Some(f64::from(tokens) / seconds)
        };
        let written = store.record_observation(&Observation {
            at: Timestamp::now(),
            engine: self.address,
            kind: self.kind.to_owned(),
            model: self.model,
            prompt_bytes: Some(self.prompt_bytes),
            prompt_tokens: usage
                .filter(|_| is_of_text)
                .map(|usage| usage.prompt_tokens),
            completion_tokens: usage.map(|usage| usage.completion_tokens),
            load_s: context.load_s,
            first_token_s,
            prefill: usage
                .filter(|_| !is_embedded && is_of_text)
                .and_then(|usage| per_second(usage.prompt_tokens, first_token_s)),
            // Of n tokens, n - 1 come after the first one.
            decode: usage.and_then(|usage| {
                per_second(usage.completion_tokens.saturating_sub(1), after_first_s)
            }),
            failure,
        });
        let error = written.err()?;
        Some(Warning::StatisticsNotSaved(error_chain(&error)))
    }
}
