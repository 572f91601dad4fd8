//! How much context a model's jobs need, and how long they will take. Pure.

use std::time::Duration;

use crate::inference::MaxTokens;
use crate::token_estimate::Estimate;

/// Contexts are given in steps of this many tokens, so that an estimate that
/// moves a little does not load a model anew.
const STEP: u32 = 1024;
/// Room for an answer that nobody limited, at least: long enough for an answer
/// to a short question, with some thinking.
const ANSWER_TOKENS: u32 = 2048;
/// The answer that estimates of time think of, where nobody limited it.
const USUAL_ANSWER_TOKENS: f64 = 500.0;

/// What one job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Tokens of its prompt, by the likeliest estimate.
    pub prompt: u32,
    /// Tokens of prompt and answer together, by the high estimate.
    pub context: u32,
    /// Tokens of that which are the answer's.
    pub answer: u32,
    /// The answer's limit, where somebody gave one in tokens.
    pub limit: Option<u32>,
}

/// What a job needs: its prompt by the high estimate, and room for the answer.
#[must_use]
pub(crate) fn need(prompt: Estimate, most: MaxTokens) -> Need {
    let high = prompt.high;
    let context = match most {
        MaxTokens::Tokens(tokens) => high.saturating_add(tokens),
        // An answer of so much of the context leaves the rest to the prompt.
        MaxTokens::Percent(percent) => {
            let left = 100_u64.saturating_sub(percent.into()).max(10);
            u32::try_from(u64::from(high) * 100 / left).unwrap_or(u32::MAX)
        }
        // Translations and rewritings are about as long as their text.
        MaxTokens::Unlimited => high.saturating_add(high.max(ANSWER_TOKENS)),
    };
    Need {
        prompt: prompt.likely,
        context,
        answer: context.saturating_sub(high),
        limit: match most {
            MaxTokens::Tokens(tokens) => Some(tokens),
            MaxTokens::Percent(_) | MaxTokens::Unlimited => None,
        },
    }
}

/// The context for a model's largest job: rounded up, and no more than works.
#[must_use]
pub fn fit(largest: u32, most: Option<u32>) -> u32 {
    let rounded = largest.max(1).div_ceil(STEP).saturating_mul(STEP);
    rounded.min(most.unwrap_or(u32::MAX))
}

/// What is known of a model's speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Seconds of loading.
    pub load_s: Option<f64>,
    /// Tokens of the prompt read per second.
    pub prefill: Option<f64>,
    /// Tokens of the answer per second, of one job alone.
    pub decode: Option<f64>,
    /// Seconds of a job in this run, by the median.
    pub job_s: Option<f64>,
}

/// Seconds that a model's jobs will take: their number, the tokens of their
/// prompts, the limit of each answer, how many run at once, and whether the model
/// must be loaded first. `None` when its speed is not known.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
pub fn remaining(
    speed: Speed,
    jobs: usize,
    prompt_tokens: u64,
    answer: Option<u32>,
    at_once: usize,
    is_loaded: bool,
) -> Option<Duration> {
    if jobs == 0 {
        return Some(Duration::ZERO);
    }
    let at_once = at_once.clamp(1, jobs) as f64;
    let work = match speed.job_s {
        // Measured while as many ran at once.
        Some(job_s) => job_s * (jobs as f64 / at_once).ceil(),
        None => {
            let answer = answer.map_or(USUAL_ANSWER_TOKENS, |it| {
                f64::from(it).min(USUAL_ANSWER_TOKENS)
            });
            let reading = speed.prefill.map_or(0.0, |it| prompt_tokens as f64 / it);
            reading + jobs as f64 * answer / speed.decode?
        }
    };
    let load = if is_loaded {
        0.0
    } else {
        speed.load_s.unwrap_or(0.0)
    };
    Duration::try_from_secs_f64(work + load).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_holds_prompt_and_answer() {
        let prompt = Estimate {
            low: 50,
            likely: 100,
            high: 1000,
        };
        for (most, expected) in [
            (MaxTokens::Tokens(24), 1024),
            (MaxTokens::Percent(50), 2000),
            (MaxTokens::Percent(90), 10_000),
            (MaxTokens::Percent(100), 10_000),
            (MaxTokens::Unlimited, 3048),
        ] {
            assert_eq!(need(prompt, most).context, expected, "{most:?}");
        }
        let long = Estimate {
            high: 30_000,
            ..prompt
        };
        assert_eq!(need(long, MaxTokens::Unlimited).context, 60_000);
        for (largest, most, expected) in [
            (1024, None, 1024),
            (1025, None, 2048),
            (3048, Some(2048), 2048),
            (0, None, 1024),
            (u32::MAX, Some(9), 9),
        ] {
            assert_eq!(fit(largest, most), expected, "{largest}");
        }
    }

    #[test]
    fn time_is_estimated_from_what_is_known() {
        let seconds = |it: Option<Duration>| it.map(|it| it.as_secs());
        let known = Speed {
            load_s: Some(10.0),
            prefill: Some(1000.0),
            decode: Some(50.0),
            job_s: None,
        };
        assert_eq!(seconds(remaining(known, 4, 8000, None, 1, false)), Some(58));
        assert_eq!(
            seconds(remaining(known, 4, 8000, Some(50), 1, true)),
            Some(12)
        );
        let measured = Speed {
            job_s: Some(3.0),
            ..known
        };
        assert_eq!(seconds(remaining(measured, 9, 0, None, 4, true)), Some(9));
        assert_eq!(remaining(Speed::default(), 4, 0, None, 1, true), None);
        assert_eq!(
            seconds(remaining(Speed::default(), 0, 0, None, 1, true)),
            Some(0)
        );
    }
}
