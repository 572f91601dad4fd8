//! How much context a model is loaded with.

use super::Error;
use super::memory::{Memory, Need, gigabytes};

/// How much context to load a model with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// This many tokens.
    Tokens(u32),
    /// This share of what the model was made for, in percent (1 to 100).
    Percent(u8),
}

impl Context {
    /// Reads `8192` or `50%`.
    ///
    /// # Errors
    /// It is neither; the text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("context is `{text}`; it takes a number from 1, or `1%` to `100%`");
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }
}

/// What a model says and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) model: &'a str,
    /// What it was made for.
    pub(super) declared: u32,
    /// What was found to work.
    pub(super) tested: Option<u32>,
    pub(super) need: Need,
    /// The memory of this machine.
    pub(super) memory: Memory,
    /// Somebody knows better.
    pub(super) force: bool,
}

/// More context than the model was made for: it answers nonsense there, or the
/// server takes memory until the machine stands still.
pub(super) fn beyond(tokens: u32, declared: u32) -> Error {
    Error::Context(format!(
        "a context of {tokens} tokens is more than the {declared} that the model was made for"
    ))
}

/// The context for the embedded engine: what was asked for, else what was
/// tested, else what the model was made for, as far as half of the free memory
/// goes. With a warning where that is less.
pub(super) fn settle(
    wanted: Option<Context>,
    limits: Limits<'_>,
) -> Result<(u32, Option<String>), Error> {
    let Limits {
        model,
        declared,
        tested,
        need,
        memory,
        force,
    } = limits;
    let tested = tested.map(|it| it.min(declared));
    let tokens = match wanted {
        Some(Context::Tokens(tokens)) if tokens > declared && !force => {
            return Err(beyond(tokens, declared));
        }
        Some(Context::Tokens(tokens)) => tokens,
        Some(Context::Percent(percent)) => {
            // Percent are of what works, where that is known.
            let share = u64::from(tested.unwrap_or(declared)) * u64::from(percent) / 100;
            u32::try_from(share).unwrap_or(declared).max(1)
        }
        None => {
            let (most, why) = match tested {
                Some(tested) => (tested, "that is what was tested"),
                None => (declared, ""),
            };
            let fits = need.largest(memory.available / 2, most).unwrap_or(1).max(
                // Memory for this much is there or nothing is.
                most.min(LEAST_TOKENS),
            );
            let tokens = if force { most } else { most.min(fits) };
            if !force {
                need.check(model, tokens, declared, memory.available)?;
            }
            let why = if tokens < most {
                format!(
                    "{} of memory are free, and half of that is left to others",
                    gigabytes(memory.available)
                )
            } else {
                why.to_owned()
            };
            let warning = (tokens < declared).then(|| {
                format!(
                    "the model is loaded with {tokens} of its {declared} tokens of context: {why}; \
                     --context sets it"
                )
            });
            return Ok((tokens, warning));
        }
    };
    if !force {
        need.check(model, tokens, declared, memory.available)?;
    }
    Ok((tokens, None))
}

/// A context below this is of no use.
const LEAST_TOKENS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(declared: u32, tested: Option<u32>) -> Limits<'static> {
        Limits {
            model: "m",
            declared,
            tested,
            need: Need {
                weights: 1 << 30,
                per_token: Some(1 << 17),
            },
            memory: Memory {
                total: 16 << 30,
                available: 8 << 30,
            },
            force: false,
        }
    }

    #[test]
    fn contexts_are_numbers_or_percent_of_what_works() {
        for (text, declared, tested, expected) in [
            ("100", 2048, None, Some(100)),
            ("50%", 2048, None, Some(1024)),
            ("50%", 2048, Some(1000), Some(500)),
            ("1%", 10, None, Some(1)),
            ("4096", 2048, None, None),
            // Seven of the eight GB free, after the weights.
            ("50000", 131_072, None, Some(50_000)),
            ("60000", 131_072, None, None),
        ] {
            let context = Context::parse(text).unwrap();
            let settled = settle(Some(context), limits(declared, tested));
            let settled = settled.ok().map(|(tokens, _)| tokens);
            assert_eq!(settled, expected, "{text} of {declared}");
        }
        for text in ["0", "-1", "0%", "101%", "x", ""] {
            assert!(Context::parse(text).is_err(), "{text}");
        }
        let forced = Limits {
            force: true,
            ..limits(2048, None)
        };
        let settled = settle(Some(Context::Tokens(60_000)), forced).unwrap();
        assert_eq!(settled, (60_000, None));
    }

    #[test]
    fn without_a_wish_it_is_what_was_tested_or_what_fits() {
        for (declared, tested, expected, says) in [
            (2048, None, 2048, None),
            // Half of eight GB, without the weights and the overhead.
            (131_072, None, 24_064, Some("131072")),
            (131_072, Some(8000), 8000, Some("tested")),
            (4096, Some(8000), 4096, None),
        ] {
            let (tokens, warning) = settle(None, limits(declared, tested)).unwrap();
            assert_eq!(tokens, expected, "{declared} {tested:?} {warning:?}");
            assert_eq!(warning.is_some(), says.is_some(), "{warning:?}");
            if let (Some(warning), Some(says)) = (warning, says) {
                assert!(warning.contains(says), "{warning}");
            }
        }
        let tiny = Limits {
            memory: Memory {
                total: 1 << 30,
                available: 1 << 29,
            },
            ..limits(2048, None)
        };
        let refused = settle(None, tiny).unwrap_err();
        assert!(
            matches!(refused, Error::Memory { largest: None, .. }),
            "{refused}"
        );
    }
}
