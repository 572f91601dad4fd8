//! One probe: a context, loaded and filled, and what came of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::filling::{Filling, Scale};
use crate::engine::{self, Ask, Choice, Context, Error, FaultKind, Unloader, seconds};
use crate::error::chain;
use crate::inference::{
    Event, Layer, MaxTokens, Origin, Settings, Support, Usage, defaults, settle,
};
use crate::registry::Level;

/// Tokens that are left for an answer that only has to come.
const ROOM: u32 = 16;
/// Tokens at most that are left for an answer that has to be right.
const ROOM_RECALL: u32 = 256;
/// A prompt is full when it has this share of what it should have, in percent.
const FULL_PERCENT: u64 = 93;
/// How often a prompt's size is mended within one probe.
const TRIES: u32 = 4;
/// Bytes of the first prompt, by which the tokenizer gets known.
const FIRST_BYTES: usize = 500;

/// Why something failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Why {
    /// As people read it.
    pub(super) text: String,
    /// Whether it is the context that was too much.
    pub(super) is_of_context: bool,
}

impl Why {
    fn of(error: &Error) -> Self {
        let is_fault =
            |kind: &FaultKind| matches!(kind, FaultKind::OutOfMemory | FaultKind::Overflow { .. });
        Self {
            text: chain(error),
            is_of_context: match error {
                Error::Memory { .. } | Error::Context(_) => true,
                Error::NotLoaded { fault, .. } | Error::Server { fault, .. } => {
                    is_fault(&fault.kind)
                }
                _ => overflow(error).is_some(),
            },
        }
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It does what the level asks for.
    Works,
    /// No instance came up.
    NotLoaded(Why),
    /// One came up with less context.
    Less(u32),
    /// The prompt was not taken, or nothing came of it.
    Refused(Why),
    /// The key did not come back.
    Wrong(String),
    /// It took longer than a probe may.
    TimedOut(Duration),
}

impl Outcome {
    /// As people and the registry read it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Works => "works".to_owned(),
            Self::NotLoaded(why) => format!("did not load: {}", why.text),
            Self::Less(context) => format!("loaded with only {context} tokens"),
            Self::Refused(why) => format!("refused the prompt: {}", why.text),
            Self::Wrong(answer) => format!("answered wrongly: {answer:?}"),
            Self::TimedOut(limit) => format!("timed out after {}", seconds(*limit)),
        }
    }

    /// Whether another context could have another outcome, as far as it says
    /// so: a server that loads nothing today is no reason to forget what it
    /// loaded yesterday.
    pub(super) fn is_of_context(&self) -> bool {
        match self {
            Self::Works | Self::Less(_) | Self::Wrong(_) => true,
            Self::NotLoaded(why) | Self::Refused(why) => why.is_of_context,
            Self::TimedOut(_) => false,
        }
    }

    /// The word for programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::NotLoaded(_) => "did-not-load",
            Self::Less(_) => "loaded-with-less",
            Self::Refused(_) => "refused",
            Self::Wrong(_) => "wrong-answer",
            Self::TimedOut(_) => "timed-out",
        }
    }
}

/// What takes the last instance away; who is interrupted needs it, too.
pub(super) type Last = Arc<Mutex<Option<Unloader>>>;

/// What probes of one model share.
pub(super) struct Prober {
    pub(super) choice: Choice,
    /// Whether a context can be asked for; else it is what the server has.
    pub(super) loads: bool,
    pub(super) limit: Option<Duration>,
    pub(super) scale: Scale,
    /// What takes the last instance away.
    pub(super) unloader: Last,
    /// Numbers the prompts.
    pub(super) number: u32,
}

/// What a probe gives.
#[derive(Clone, Debug)]
pub(super) struct Probed {
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    pub(super) prompt_tokens: Option<u32>,
}

struct Answered {
    text: String,
    usage: Option<Usage>,
}

impl Prober {
    /// Tries one context. An error is one of the engine itself: it is not there,
    /// or does not know the model.
    pub(super) async fn probe(&mut self, context: u32, level: Level) -> Result<Probed, Error> {
        let start = Instant::now();
        let limit = self.limit;
        let mut prompt_tokens = None;
        let work = self.work(context, level, &mut prompt_tokens);
        let outcome = match limit {
            None => work.await?,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(outcome) => outcome?,
                Err(_) => Outcome::TimedOut(limit),
            },
        };
        Ok(Probed {
            outcome,
            took: start.elapsed(),
            prompt_tokens,
        })
    }

    async fn work(
        &mut self,
        context: u32,
        level: Level,
        prompt_tokens: &mut Option<u32>,
    ) -> Result<Outcome, Error> {
        let room = match level {
            Level::Recalls => (context / 8).clamp(ROOM, ROOM_RECALL),
            Level::Loads | Level::Accepts => ROOM.min(context / 4),
        };
        let target = context.saturating_sub(room).max(1);
        for last in (0..TRIES).rev() {
            let ready = match self.ready(context).await? {
                Ok(ready) => ready,
                Err(outcome) => return Ok(outcome),
            };
            if level == Level::Loads {
                return Ok(Outcome::Works);
            }
            let is_first = !self.scale.is_known();
            let bytes = match is_first {
                true => FIRST_BYTES.min(self.scale.bytes(target)),
                false => self.scale.bytes(target),
            };
            self.number += 1;
            let filling = Filling::new(bytes, self.number);
            let answered = match self.ask(ready, &filling, room).await {
                Ok(it) => it,
                Err(error) => match overflow(&error) {
                    // Too long by our mistake, as its own count shows.
                    Some(Some(tokens)) if tokens > target && last > 0 => {
                        self.scale.learn(filling.bytes, tokens);
                        continue;
                    }
                    None if error.is_unreachable() => return Err(error),
                    _ => return Ok(Outcome::Refused(Why::of(&error))),
                },
            };
            if let Some(usage) = answered.usage {
                self.scale.learn(filling.bytes, usage.prompt_tokens);
                *prompt_tokens = Some(usage.prompt_tokens);
                let has = u64::from(usage.prompt_tokens) * 100;
                if has < u64::from(target) * FULL_PERCENT && last > 0 {
                    continue;
                }
            } else if is_first {
                // It does not count: the guess has to do.
                self.scale.learn(filling.bytes, guess(filling.bytes));
                continue;
            }
            let text = answered.text.trim();
            return Ok(match level {
                _ if text.is_empty() => refused("an answer without text"),
                Level::Recalls if !text.contains(&filling.key) => {
                    Outcome::Wrong(text.chars().take(60).collect())
                }
                _ => Outcome::Works,
            });
        }
        Ok(refused("its counts of tokens make no sense"))
    }

    /// An instance with the context, or why there is none.
    async fn ready(&mut self, context: u32) -> Result<Result<engine::Ready, Outcome>, Error> {
        let mut choice = self.choice.clone();
        if self.loads {
            choice.context = Some(Context::Tokens(context));
            choice.life.exact = true;
        }
        let chosen = match engine::choose(choice).await {
            Ok(chosen) => chosen,
            Err(error @ (Error::Memory { .. } | Error::Context(_))) => {
                return Ok(Err(Outcome::NotLoaded(Why::of(&error))));
            }
            Err(error) => return Err(error),
        };
        // Whoever is interrupted in the middle of a load has to know of it.
        if let Ok(mut last) = self.unloader.lock() {
            *last = Some(chosen.unloader());
        }
        let ready = match chosen.ensure(&mut |_| {}).await {
            Ok(ready) => ready,
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error @ Error::State { .. }) => return Err(error),
            Err(error) => return Ok(Err(Outcome::NotLoaded(Why::of(&error)))),
        };
        if let Ok(mut last) = self.unloader.lock() {
            *last = Some(ready.unloader());
        }
        Ok(match ready.context() {
            Some(has) if has < context => Err(Outcome::Less(has)),
            _ => Ok(ready),
        })
    }

    async fn ask(
        &self,
        ready: engine::Ready,
        filling: &Filling,
        room: u32,
    ) -> Result<Answered, Error> {
        let settings = |reasoning: bool| -> Settings {
            let flags = Layer {
                temperature: Some(0.0),
                seed: Some(1),
                max_tokens: Some(MaxTokens::Tokens(room)),
                reasoning: reasoning.then(|| "off".to_owned()),
                ..defaults()
            };
            settle(&[(Origin::Flag, flags)])
        };
        // Thinking costs minutes here and shows nothing.
        let quiet = settings(true);
        let support = ready.chosen.support(&filling.prompt, &quiet, "reasoning");
        let settings = match support {
            Support::Honoured => quiet,
            _ => settings(false),
        };
        let mut stream = ready.infer(Ask {
            prompt: filling.prompt.clone(),
            settings,
            reasoning_tags: true,
            required: Vec::new(),
        })?;
        let mut answered = Answered {
            text: String::new(),
            usage: None,
        };
        loop {
            match stream.next().await? {
                Event::Text(text) | Event::Reasoning(text) => answered.text.push_str(&text),
                Event::Usage(usage) => answered.usage = Some(usage),
                Event::Finished(_) => return Ok(answered),
                _ => {}
            }
        }
    }
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused(Why {
        text: why.to_owned(),
        is_of_context: false,
    })
}

/// Whether the prompt was too long, and for how many tokens it was taken.
#[expect(clippy::option_option, reason = "too long, with or without a count")]
fn overflow(error: &Error) -> Option<Option<u32>> {
    match error {
        Error::Server { fault, .. } => match fault.kind {
            FaultKind::Overflow { prompt_tokens, .. } => {
                Some(prompt_tokens.and_then(|it| u32::try_from(it).ok()))
            }
            _ => None,
        },
        Error::TooLong { .. } => Some(None),
        Error::Embedded(engine::embedded::Error::TooLong {
            prompt_tokens,
            exact,
            ..
        }) => Some(exact.then_some(*prompt_tokens)),
        _ => None,
    }
}

fn guess(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX)
}
