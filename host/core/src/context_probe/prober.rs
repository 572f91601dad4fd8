//! Runs one probe: loads a context length, fills it and checks the answer.

use std::time::Duration;

use tokio::time::Instant;

use super::outcome::{ProbeFailure, ProbeOutcome, ProbeReport, PromptOverflow};
use super::probe_engine::ProbeEngine;
use super::probe_prompt::{ProbePrompt, PromptSizer};
use crate::engine::Error;
use crate::registry::TestLevel;

/// Tokens reserved for an answer of any content.
const ANSWER_TOKENS: u32 = 16;
/// Maximum number of tokens reserved for an answer that must contain the key.
const MAX_RECALL_ANSWER_TOKENS: u32 = 256;
/// A prompt fills the context if it has at least this share of the target, in percent.
const MIN_FILL_PERCENT: u64 = 93;
/// Maximum number of prompts per probe: the size is corrected after each one.
const MAX_PROMPTS_PER_PROBE: u32 = 4;
/// Bytes of the first prompt, which calibrates the sizer.
const CALIBRATION_BYTES: usize = 500;
/// Number of characters of a wrong answer to keep.
const WRONG_ANSWER_CHARS: usize = 60;

/// Runs the probes of one model.
pub(super) struct Prober<'a, E> {
    pub(super) engine: &'a E,
    /// The engine can load a requested context length; otherwise the server decides it.
    pub(super) can_set_context: bool,
    /// Time limit per probe.
    pub(super) timeout: Option<Duration>,
    sizer: PromptSizer,
    /// Number of the last prompt.
    prompt_number: u32,
}

impl<'a, E: ProbeEngine> Prober<'a, E> {
    pub(super) fn new(engine: &'a E, can_set_context: bool, timeout: Option<Duration>) -> Self {
        Self {
            engine,
            can_set_context,
            timeout,
            sizer: PromptSizer::default(),
            prompt_number: 0,
        }
    }

    /// Probes one context length.
    ///
    /// # Errors
    /// Returns an error if the engine is unreachable or does not have the model.
    pub(super) async fn probe(
        &mut self,
        context: u32,
        level: TestLevel,
    ) -> Result<ProbeReport, Error> {
        let start = Instant::now();
        let timeout = self.timeout;
        let mut prompt_tokens = None;
        let run = self.run(context, level, &mut prompt_tokens);
        let outcome = match timeout {
            None => run.await?,
            Some(timeout) => match tokio::time::timeout(timeout, run).await {
                Ok(outcome) => outcome?,
                Err(_) => ProbeOutcome::TimedOut(timeout),
            },
        };
        Ok(ProbeReport {
            context,
            level,
            outcome,
            prompt_tokens,
            elapsed: start.elapsed(),
        })
    }

    async fn run(
        &mut self,
        context: u32,
        level: TestLevel,
        prompt_tokens: &mut Option<u32>,
    ) -> Result<ProbeOutcome, Error> {
        let answer_tokens = answer_tokens(context, level);
        let target = context.saturating_sub(answer_tokens).max(1);
        for prompts_left in (0..MAX_PROMPTS_PER_PROBE).rev() {
            let instance = match self.load_instance(context).await? {
                Ok(instance) => instance,
                Err(outcome) => return Ok(outcome),
            };
            if level == TestLevel::Loads {
                return Ok(ProbeOutcome::Passed);
            }
            let is_first = !self.sizer.is_calibrated();
            let bytes = match is_first {
                true => CALIBRATION_BYTES.min(self.sizer.bytes(target)),
                false => self.sizer.bytes(target),
            };
            self.prompt_number += 1;
            let prompt = ProbePrompt::new(bytes, self.prompt_number);
            let inferring = self.engine.infer(instance, &prompt.prompt, answer_tokens);
            let answer = match inferring.await {
                Ok(answer) => answer,
                Err(error) => match PromptOverflow::from_error(&error) {
                    // The sizer made it too long, as the engine's own count shows.
                    Some(PromptOverflow {
                        prompt_tokens: Some(tokens),
                    }) if tokens > target && prompts_left > 0 => {
                        self.sizer.calibrate(prompt.bytes, tokens);
                        continue;
                    }
                    None if error.is_unreachable() => return Err(error),
                    _ => return Ok(ProbeOutcome::Refused(ProbeFailure::from_error(&error))),
                },
            };
            if let Some(tokens) = answer.prompt_tokens {
                self.sizer.calibrate(prompt.bytes, tokens);
                *prompt_tokens = Some(tokens);
                let is_filled = u64::from(tokens) * 100 >= u64::from(target) * MIN_FILL_PERCENT;
                if !is_filled && prompts_left > 0 {
                    continue;
                }
            } else if is_first {
                // The engine reports no token counts: use an estimate.
                self.sizer
                    .calibrate(prompt.bytes, estimate_tokens(prompt.bytes));
                continue;
            }
            return Ok(check_answer(&answer.text, &prompt.key, level));
        }
        Ok(refused("the token counts of the engine are inconsistent"))
    }

    /// Returns an instance with at least `context` tokens, or the outcome if there is none.
    async fn load_instance(
        &self,
        context: u32,
    ) -> Result<Result<E::Instance, ProbeOutcome>, Error> {
        let not_loaded = |error| {
            Ok(Err(ProbeOutcome::NotLoaded(ProbeFailure::from_error(
                &error,
            ))))
        };
        let selecting = self.engine.select(self.can_set_context.then_some(context));
        let selected = match selecting.await {
            Ok(selected) => selected,
            Err(error @ (Error::InsufficientMemory { .. } | Error::InvalidContext(_))) => {
                return not_loaded(error);
            }
            Err(error) => return Err(error),
        };
        let instance = match self.engine.load(selected).await {
            Ok(instance) => instance,
            Err(error @ (Error::Unreachable { .. } | Error::WriteState { .. })) => {
                return Err(error);
            }
            Err(error) => return not_loaded(error),
        };
        Ok(match self.engine.context(&instance) {
            Some(effective) if effective < context => Err(ProbeOutcome::LoadedWithLess(effective)),
            _ => Ok(instance),
        })
    }
}

/// Returns the number of tokens to reserve for the answer.
fn answer_tokens(context: u32, level: TestLevel) -> u32 {
    match level {
        TestLevel::Recalls => (context / 8).clamp(ANSWER_TOKENS, MAX_RECALL_ANSWER_TOKENS),
        TestLevel::Loads | TestLevel::Accepts => ANSWER_TOKENS.min(context / 4),
    }
}

fn check_answer(answer: &str, key: &str, level: TestLevel) -> ProbeOutcome {
    let text = answer.trim();
    match level {
        _ if text.is_empty() => refused("the answer has no text"),
        TestLevel::Recalls if !text.contains(key) => {
            ProbeOutcome::WrongAnswer(text.chars().take(WRONG_ANSWER_CHARS).collect())
        }
        _ => ProbeOutcome::Passed,
    }
}

fn refused(message: &str) -> ProbeOutcome {
    ProbeOutcome::Refused(ProbeFailure::unrelated(message))
}

fn estimate_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX)
}
