//! Runs one probe: loads a context length, fills it and checks the answer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::probe_prompt::{ProbePrompt, PromptSizer};
use crate::engine::{
    self, ContextSize, Error, FaultKind, InferenceRequest, ModelQuery, Unloader, format_seconds,
};
use crate::error_chain::error_chain;
use crate::inference::{
    Event, MaxTokens, Origin, SettingSupport, Settings, SettingsLayer, Usage, defaults,
    resolve_settings,
};
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

/// The reason why a model did not load or did not answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProbeFailure {
    /// Human-readable message.
    pub(super) message: String,
    /// The failure is caused by the context size, not by a transient error.
    pub(super) is_context_limit: bool,
}

impl ProbeFailure {
    fn new(error: &Error) -> Self {
        let is_context_fault =
            |kind: &FaultKind| matches!(kind, FaultKind::OutOfMemory | FaultKind::Overflow { .. });
        Self {
            message: error_chain(error),
            is_context_limit: match error {
                Error::InsufficientMemory { .. } | Error::InvalidContext(_) => true,
                Error::LoadFailed { fault, .. } | Error::Server { fault, .. } => {
                    is_context_fault(&fault.kind)
                }
                _ => prompt_overflow(error).is_some(),
            },
        }
    }
}

/// The outcome of a probe.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProbeOutcome {
    /// The model passes the level.
    Passed,
    /// The model did not load.
    NotLoaded(ProbeFailure),
    /// The instance has less context than requested, in tokens.
    LoadedWithLess(u32),
    /// The engine rejected the prompt, or the answer is empty.
    Refused(ProbeFailure),
    /// The answer does not contain the key; holds its first characters.
    WrongAnswer(String),
    /// The probe exceeded this time limit.
    TimedOut(Duration),
}

impl ProbeOutcome {
    /// Returns the outcome as a human-readable text, which the registry stores, too.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::NotLoaded(failure) => format!("did not load: {}", failure.message),
            Self::LoadedWithLess(context) => format!("loaded with only {context} tokens"),
            Self::Refused(failure) => format!("prompt refused: {}", failure.message),
            Self::WrongAnswer(answer) => format!("wrong answer: {answer:?}"),
            Self::TimedOut(limit) => format!("timed out after {}", format_seconds(*limit)),
        }
    }

    /// Returns whether the outcome depends on the context length. A server that fails for
    /// another reason does not invalidate an earlier result.
    pub(super) fn depends_on_context(&self) -> bool {
        match self {
            Self::Passed | Self::LoadedWithLess(_) | Self::WrongAnswer(_) => true,
            Self::NotLoaded(failure) | Self::Refused(failure) => failure.is_context_limit,
            Self::TimedOut(_) => false,
        }
    }

    /// Returns the identifier that `--json` prints.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Passed => "works",
            Self::NotLoaded(_) => "did-not-load",
            Self::LoadedWithLess(_) => "loaded-with-less",
            Self::Refused(_) => "refused",
            Self::WrongAnswer(_) => "wrong-answer",
            Self::TimedOut(_) => "timed-out",
        }
    }
}

/// Holds the unloader of the last instance; shared, so that a cancelled test can unload it.
pub(super) type UnloaderSlot = Arc<Mutex<Option<Unloader>>>;

/// Runs the probes of one model.
pub(super) struct Prober {
    pub(super) query: ModelQuery,
    /// The engine can load a requested context length; otherwise the server decides it.
    pub(super) can_set_context: bool,
    /// Time limit per probe.
    pub(super) timeout: Option<Duration>,
    pub(super) sizer: PromptSizer,
    /// The unloader of the last instance.
    pub(super) unloader: UnloaderSlot,
    /// Number of the last prompt.
    pub(super) prompt_number: u32,
}

/// The outcome of a probe, with measurements.
#[derive(Clone, Debug)]
pub(super) struct ProbeResult {
    pub(super) outcome: ProbeOutcome,
    pub(super) elapsed: Duration,
    pub(super) prompt_tokens: Option<u32>,
}

struct ProbeAnswer {
    text: String,
    usage: Option<Usage>,
}

impl Prober {
    /// Probes one context length.
    ///
    /// # Errors
    /// Returns an error if the engine is unreachable or does not have the model.
    pub(super) async fn probe(
        &mut self,
        context: u32,
        level: TestLevel,
    ) -> Result<ProbeResult, Error> {
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
        Ok(ProbeResult {
            outcome,
            elapsed: start.elapsed(),
            prompt_tokens,
        })
    }

    async fn run(
        &mut self,
        context: u32,
        level: TestLevel,
        prompt_tokens: &mut Option<u32>,
    ) -> Result<ProbeOutcome, Error> {
        let answer_tokens = match level {
            TestLevel::Recalls => (context / 8).clamp(ANSWER_TOKENS, MAX_RECALL_ANSWER_TOKENS),
            TestLevel::Loads | TestLevel::Accepts => ANSWER_TOKENS.min(context / 4),
        };
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
            let answer = match self.infer(instance, &prompt, answer_tokens).await {
                Ok(answer) => answer,
                Err(error) => match prompt_overflow(&error) {
                    // The sizer made it too long, as the server's own count shows.
                    Some(Some(tokens)) if tokens > target && prompts_left > 0 => {
                        self.sizer.calibrate(prompt.bytes, tokens);
                        continue;
                    }
                    None if error.is_unreachable() => return Err(error),
                    _ => return Ok(ProbeOutcome::Refused(ProbeFailure::new(&error))),
                },
            };
            if let Some(usage) = answer.usage {
                self.sizer.calibrate(prompt.bytes, usage.prompt_tokens);
                *prompt_tokens = Some(usage.prompt_tokens);
                let percent = u64::from(usage.prompt_tokens) * 100;
                if percent < u64::from(target) * MIN_FILL_PERCENT && prompts_left > 0 {
                    continue;
                }
            } else if is_first {
                // The engine reports no token counts: use an estimate.
                self.sizer
                    .calibrate(prompt.bytes, estimate_tokens(prompt.bytes));
                continue;
            }
            let text = answer.text.trim();
            return Ok(match level {
                _ if text.is_empty() => refused("the answer has no text"),
                TestLevel::Recalls if !text.contains(&prompt.key) => {
                    ProbeOutcome::WrongAnswer(text.chars().take(60).collect())
                }
                _ => ProbeOutcome::Passed,
            });
        }
        Ok(refused("the token counts of the engine are inconsistent"))
    }

    /// Returns an instance with at least `context` tokens, or the outcome if there is none.
    async fn load_instance(
        &mut self,
        context: u32,
    ) -> Result<Result<engine::Instance, ProbeOutcome>, Error> {
        let mut query = self.query.clone();
        if self.can_set_context {
            query.context = Some(ContextSize::Tokens(context));
            query.lifecycle.exact_context = true;
        }
        let selected = match engine::select_model(query).await {
            Ok(selected) => selected,
            Err(error @ (Error::InsufficientMemory { .. } | Error::InvalidContext(_))) => {
                return Ok(Err(ProbeOutcome::NotLoaded(ProbeFailure::new(&error))));
            }
            Err(error) => return Err(error),
        };
        // Set before loading: a test that is cancelled during the load must unload, too.
        if let Ok(mut unloader) = self.unloader.lock() {
            *unloader = Some(selected.unloader());
        }
        let instance = match selected.load(&mut |_| {}).await {
            Ok(instance) => instance,
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error @ Error::WriteState { .. }) => return Err(error),
            Err(error) => return Ok(Err(ProbeOutcome::NotLoaded(ProbeFailure::new(&error)))),
        };
        if let Ok(mut unloader) = self.unloader.lock() {
            *unloader = Some(instance.unloader());
        }
        Ok(match instance.context() {
            Some(effective) if effective < context => Err(ProbeOutcome::LoadedWithLess(effective)),
            _ => Ok(instance),
        })
    }

    async fn infer(
        &self,
        instance: engine::Instance,
        prompt: &ProbePrompt,
        answer_tokens: u32,
    ) -> Result<ProbeAnswer, Error> {
        let settings = |disables_reasoning: bool| -> Settings {
            let flags = SettingsLayer {
                temperature: Some(0.0),
                seed: Some(1),
                max_tokens: Some(MaxTokens::Tokens(answer_tokens)),
                reasoning: disables_reasoning.then(|| "off".to_owned()),
                ..defaults()
            };
            resolve_settings(&[(Origin::Flag, &flags)])
        };
        // Reasoning takes minutes and does not affect the result.
        let without_reasoning = settings(true);
        let support = instance
            .selected
            .support(&prompt.prompt, &without_reasoning, "reasoning");
        let settings = match support {
            SettingSupport::Honoured => without_reasoning,
            _ => settings(false),
        };
        let mut stream = instance.infer(InferenceRequest {
            prompt: prompt.prompt.clone(),
            settings,
            split_reasoning: true,
            required_settings: Vec::new(),
        })?;
        let mut answer = ProbeAnswer {
            text: String::new(),
            usage: None,
        };
        loop {
            match stream.next().await? {
                Event::Text(text) | Event::Reasoning(text) => answer.text.push_str(&text),
                Event::Usage(usage) => answer.usage = Some(usage),
                Event::Finished(_) => return Ok(answer),
                _ => {}
            }
        }
    }
}

fn refused(message: &str) -> ProbeOutcome {
    ProbeOutcome::Refused(ProbeFailure {
        message: message.to_owned(),
        is_context_limit: false,
    })
}

/// Returns `Some` if the prompt was too long, with the engine's token count where it is
/// known.
#[expect(clippy::option_option, reason = "too long, with or without a count")]
fn prompt_overflow(error: &Error) -> Option<Option<u32>> {
    match error {
        Error::Server { fault, .. } => match fault.kind {
            FaultKind::Overflow { prompt_tokens, .. } => {
                Some(prompt_tokens.and_then(|tokens| u32::try_from(tokens).ok()))
            }
            _ => None,
        },
        Error::PromptTooLong { .. } => Some(None),
        Error::Embedded(engine::embedded::Error::PromptTooLong {
            prompt_tokens,
            exact,
            ..
        }) => Some(exact.then_some(*prompt_tokens)),
        _ => None,
    }
}

fn estimate_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX)
}
