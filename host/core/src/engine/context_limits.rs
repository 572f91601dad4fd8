//! The context length with which a model is loaded.

use lmstrix_inference::ContextSize;

use crate::engine::Error;
use crate::engine::memory::{Memory, MemoryNeed};
use crate::quantity::format_bytes;

/// The facts that limit the context of a model. Contexts are in tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContextLimits<'a> {
    pub(super) model: &'a str,
    /// The declared context.
    pub(super) declared: u32,
    /// The tested context, if any.
    pub(super) tested: Option<u32>,
    pub(super) memory_need: MemoryNeed,
    /// The memory of this machine.
    pub(super) memory: Memory,
    /// Skip memory and context checks.
    pub(super) force: bool,
}

/// Returns the context length to load with, in tokens: the requested one,
/// else the tested one, else the declared one. A context that was not requested is
/// reduced to fit into half of the available memory. Also returns a warning if the
/// result is below the declared context without a request.
///
/// # Errors
/// Returns an error if the context exceeds the declared one or does not fit into
/// memory, unless `limits.force` is set.
pub(super) fn resolve_context(
    requested: Option<ContextSize>,
    limits: ContextLimits<'_>,
) -> Result<(u32, Option<String>), Error> {
    let ContextLimits {
        model,
        declared,
        tested,
        memory_need,
        memory,
        force,
    } = limits;
    let tested = tested.map(|tested| tested.min(declared));
    let tokens = match requested {
        Some(ContextSize::Tokens(tokens)) if tokens > declared && !force => {
            return Err(Error::exceeds_declared(tokens, declared));
        }
        Some(ContextSize::Tokens(tokens)) => tokens,
        Some(ContextSize::Percent(percent)) => {
            let share = u64::from(tested.unwrap_or(declared)) * u64::from(percent) / 100;
            u32::try_from(share).unwrap_or(declared).max(1)
        }
        None => {
            let (max, reason) = match tested {
                Some(tested) => (tested, "larger contexts are not tested"),
                None => (declared, ""),
            };
            // The minimum may use more than half of the memory; the check below
            // fails if it does not fit at all.
            let largest = memory_need
                .largest_context(memory.available / 2, max)
                .unwrap_or(1)
                .max(max.min(MIN_DEFAULT_TOKENS));
            let tokens = if force { max } else { max.min(largest) };
            if !force {
                memory_need.check(model, tokens, declared, memory.available)?;
            }
            let reason = if tokens < max {
                format!(
                    "it uses at most half of the available memory ({})",
                    format_bytes(memory.available)
                )
            } else {
                reason.to_owned()
            };
            let warning = (tokens < declared).then(|| {
                format!(
                    "context limited to {tokens} of {declared} tokens: {reason}; use --context \
                     to set another"
                )
            });
            return Ok((tokens, warning));
        }
    };
    if !force {
        memory_need.check(model, tokens, declared, memory.available)?;
    }
    Ok((tokens, None))
}

/// A context that was not requested is not reduced below this, in tokens.
const MIN_DEFAULT_TOKENS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(declared: u32, tested: Option<u32>) -> ContextLimits<'static> {
        ContextLimits {
            model: "m",
            declared,
            tested,
            memory_need: MemoryNeed {
                weight_bytes: 1 << 30,
                bytes_per_token: Some(1 << 17),
            },
            memory: Memory {
                total: 16 << 30,
                available: 8 << 30,
            },
            force: false,
        }
    }

    #[test]
    fn contexts_are_numbers_or_percentages_of_the_tested_context() {
        for (text, declared, tested, expected) in [
            ("100", 2048, None, Some(100)),
            ("50%", 2048, None, Some(1024)),
            ("50%", 2048, Some(1000), Some(500)),
            ("1%", 10, None, Some(1)),
            ("4096", 2048, None, None),
            // 7 of the 8 GiB available are left after the weights.
            ("50000", 131_072, None, Some(50_000)),
            ("60000", 131_072, None, None),
        ] {
            let context = text.parse().unwrap();
            let resolved = resolve_context(Some(context), limits(declared, tested));
            let tokens = resolved.ok().map(|(tokens, _)| tokens);
            assert_eq!(tokens, expected, "{text} of {declared}");
        }
        for text in ["0", "-1", "0%", "101%", "x", ""] {
            assert!(text.parse::<ContextSize>().is_err(), "{text}");
        }
        let forced = ContextLimits {
            force: true,
            ..limits(2048, None)
        };
        let resolved = resolve_context(Some(ContextSize::Tokens(60_000)), forced).unwrap();
        assert_eq!(resolved, (60_000, None));
    }

    #[test]
    fn the_default_is_the_tested_context_or_what_fits() {
        for (declared, tested, expected, warning_part) in [
            (2048, None, 2048, None),
            // Half of 8 GiB, without the weights and the overhead.
            (131_072, None, 24_064, Some("131072")),
            (131_072, Some(8000), 8000, Some("tested")),
            (4096, Some(8000), 4096, None),
        ] {
            let (tokens, warning) = resolve_context(None, limits(declared, tested)).unwrap();
            assert_eq!(tokens, expected, "{declared} {tested:?} {warning:?}");
            assert_eq!(warning.is_some(), warning_part.is_some(), "{warning:?}");
            if let (Some(warning), Some(part)) = (warning, warning_part) {
                assert!(warning.contains(part), "{warning}");
            }
        }
        let little_memory = ContextLimits {
            memory: Memory {
                total: 1 << 30,
                available: 1 << 29,
            },
            ..limits(2048, None)
        };
        let error = resolve_context(None, little_memory).unwrap_err();
        assert!(
            matches!(
                error,
                Error::InsufficientMemory {
                    largest_context: None,
                    ..
                }
            ),
            "{error}"
        );
    }
}
