//! Estimates the context length and the duration that a model's jobs need. No I/O.

use std::time::Duration;

use lmstrix_inference::MaxTokens;

use crate::token_estimate::TokenEstimate;

/// Context lengths are multiples of this number of tokens, so that a small change of an
/// estimate does not reload a model.
const CONTEXT_STEP: u32 = 1024;
/// The minimum room in tokens for an answer without a limit: enough for an answer to a
/// short question, with some reasoning.
const ANSWER_TOKENS_MIN: u32 = 2048;
/// The answer length in tokens that time estimates assume if there is no lower limit.
const ASSUMED_ANSWER_TOKENS: f64 = 500.0;

/// The estimated token counts of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenNeed {
    /// Prompt tokens, by the likely estimate.
    pub prompt: u32,
    /// Tokens of prompt and answer together, by the high estimate.
    pub context: u32,
    /// The part of `context` reserved for the answer.
    pub answer: u32,
    /// The limit of the answer, if it is given in tokens.
    pub limit: Option<u32>,
}

/// Estimates the tokens of a job: its prompt by the high estimate, and room for the
/// answer.
#[must_use]
pub fn token_need(prompt: TokenEstimate, max_tokens: MaxTokens) -> TokenNeed {
    let high = prompt.high;
    let context = match max_tokens {
        MaxTokens::Tokens(tokens) => high.saturating_add(tokens),
        // The prompt gets what this share of the context leaves.
        MaxTokens::Percent(percent) => {
            let prompt_percent = 100_u64.saturating_sub(percent.into()).max(10);
            u32::try_from(u64::from(high) * 100 / prompt_percent).unwrap_or(u32::MAX)
        }
        // A translation or a rewrite is about as long as its input.
        MaxTokens::Unlimited => high.saturating_add(high.max(ANSWER_TOKENS_MIN)),
    };
    TokenNeed {
        prompt: prompt.likely,
        context,
        answer: context.saturating_sub(high),
        limit: match max_tokens {
            MaxTokens::Tokens(tokens) => Some(tokens),
            MaxTokens::Percent(_) | MaxTokens::Unlimited => None,
        },
    }
}

/// Returns the context length for a model whose largest job needs `need` tokens:
/// rounded up to a step, but not more than `max`.
#[must_use]
pub fn fitting_context_length(need: u32, max: Option<u32>) -> u32 {
    let rounded = need
        .max(1)
        .div_ceil(CONTEXT_STEP)
        .saturating_mul(CONTEXT_STEP);
    rounded.min(max.unwrap_or(u32::MAX))
}

/// The known speeds of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelSpeed {
    /// Load time in seconds.
    pub load_s: Option<f64>,
    /// Prompt processing speed in tokens per second.
    pub prefill: Option<f64>,
    /// Generation speed of a single job in tokens per second.
    pub decode: Option<f64>,
    /// Median duration of a job in this run, in seconds.
    pub job_s: Option<f64>,
}

/// Estimates how long a model's remaining jobs take.
///
/// `prompt_tokens` is the sum over all jobs, `answer_limit` the token limit of each
/// answer, and `at_once` the number of concurrent jobs. The load time is added unless
/// the model is loaded. Returns `None` if the speed of the model is unknown.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
pub fn estimate_remaining(
    speed: ModelSpeed,
    jobs: usize,
    prompt_tokens: u64,
    answer_limit: Option<u32>,
    at_once: usize,
    is_loaded: bool,
) -> Option<Duration> {
    if jobs == 0 {
        return Some(Duration::ZERO);
    }
    let at_once = at_once.clamp(1, jobs) as f64;
    let work_s = match speed.job_s {
        // Measured with the same number of concurrent jobs.
        Some(job_s) => job_s * (jobs as f64 / at_once).ceil(),
        None => {
            let answer_tokens = answer_limit.map_or(ASSUMED_ANSWER_TOKENS, |limit| {
                f64::from(limit).min(ASSUMED_ANSWER_TOKENS)
            });
            let prefill_s = speed
                .prefill
                .map_or(0.0, |tokens_per_s| prompt_tokens as f64 / tokens_per_s);
            prefill_s + jobs as f64 * answer_tokens / speed.decode?
        }
    };
    let load_s = if is_loaded {
        0.0
    } else {
        speed.load_s.unwrap_or(0.0)
    };
    Duration::try_from_secs_f64(work_s + load_s).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_has_room_for_prompt_and_answer() {
        let prompt = TokenEstimate {
            low: 50,
            likely: 100,
            high: 1000,
        };
        for (max_tokens, expected) in [
            (MaxTokens::Tokens(24), 1024),
            (MaxTokens::Percent(50), 2000),
            (MaxTokens::Percent(90), 10_000),
            (MaxTokens::Percent(100), 10_000),
            (MaxTokens::Unlimited, 3048),
        ] {
            assert_eq!(
                token_need(prompt, max_tokens).context,
                expected,
                "{max_tokens:?}"
            );
        }
        let long = TokenEstimate {
            high: 30_000,
            ..prompt
        };
        assert_eq!(token_need(long, MaxTokens::Unlimited).context, 60_000);
        for (need, max, expected) in [
            (1024, None, 1024),
            (1025, None, 2048),
            (3048, Some(2048), 2048),
            (0, None, 1024),
            (u32::MAX, Some(9), 9),
        ] {
            assert_eq!(fitting_context_length(need, max), expected, "{need}");
        }
    }

    #[test]
    fn the_remaining_time_is_estimated_from_known_speeds() {
        let seconds = |duration: Option<Duration>| duration.map(|it| it.as_secs());
        let known = ModelSpeed {
            load_s: Some(10.0),
            prefill: Some(1000.0),
            decode: Some(50.0),
            job_s: None,
        };
        assert_eq!(
            seconds(estimate_remaining(known, 4, 8000, None, 1, false)),
            Some(58)
        );
        assert_eq!(
            seconds(estimate_remaining(known, 4, 8000, Some(50), 1, true)),
            Some(12)
        );
        let measured = ModelSpeed {
            job_s: Some(3.0),
            ..known
        };
        assert_eq!(
            seconds(estimate_remaining(measured, 9, 0, None, 4, true)),
            Some(9)
        );
        assert_eq!(
            estimate_remaining(ModelSpeed::default(), 4, 0, None, 1, true),
            None
        );
        assert_eq!(
            seconds(estimate_remaining(
                ModelSpeed::default(),
                0,
                0,
                None,
                1,
                true
            )),
            Some(0)
        );
    }
}
