//! Chooses the next context length to probe: doubles until a probe fails, then bisects.
//! Pure functions without I/O.

/// First context length to probe; practically every model accepts it.
const FIRST_CONTEXT: u32 = 2048;
/// The search stops when this context length has failed; less is of no use.
const MIN_CONTEXT: u32 = 64;
/// The search ends when the smallest failed context length is at most 1/32 (3 %) above
/// the largest passed one.
const PRECISION_DIVISOR: u32 = 32;
/// Bisection rounds down to multiples of this where it can; servers round, too.
const CONTEXT_STEP: u32 = 64;

/// The context lengths that are known to pass and to fail, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ContextBounds {
    /// The largest context length that passed.
    pub(super) largest_passed: Option<u32>,
    /// The smallest context length that failed.
    pub(super) smallest_failed: Option<u32>,
}

/// Returns the next context length to probe, at most `max_context`; `None` when the
/// search is over.
pub(super) fn next_context(bounds: ContextBounds, max_context: u32) -> Option<u32> {
    let passed = bounds.largest_passed.unwrap_or(0);
    match bounds.smallest_failed {
        _ if passed >= max_context => None,
        Some(failed) if failed <= max_context => {
            let gap = failed.saturating_sub(passed);
            if gap <= (passed / PRECISION_DIVISOR).max(1) || failed <= MIN_CONTEXT {
                return None;
            }
            let middle = passed + gap / 2;
            let rounded = middle / CONTEXT_STEP * CONTEXT_STEP;
            Some(if rounded > passed { rounded } else { middle })
        }
        _ if passed == 0 => Some(FIRST_CONTEXT.min(max_context)),
        _ => Some(passed.saturating_mul(2).min(max_context)),
    }
}

/// Returns an upper limit for the number of probes that are still needed.
pub(super) fn max_probes_left(bounds: ContextBounds, max_context: u32) -> u32 {
    // The sum of two worst cases: every doubling passes, or bisection starts now.
    let passed = bounds.largest_passed.unwrap_or(FIRST_CONTEXT).max(1);
    let doublings = (max_context / passed).max(1).ilog2() + 1;
    let bisections = PRECISION_DIVISOR.ilog2();
    match bounds.smallest_failed {
        _ if next_context(bounds, max_context).is_none() => 0,
        Some(failed) if failed <= max_context => {
            let passed = bounds.largest_passed.unwrap_or(0);
            let steps = (failed - passed) / (passed / PRECISION_DIVISOR).max(1);
            steps.max(1).ilog2() + 1
        }
        _ => doublings + bisections,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches with a model that passes up to `limit`. Returns the largest passed
    /// context length and the number of probes.
    fn search(limit: u32, max_context: u32) -> (u32, u32) {
        let mut bounds = ContextBounds::default();
        let mut probes = 0;
        while let Some(context) = next_context(bounds, max_context) {
            assert!((1..=max_context).contains(&context), "{context}");
            let probes_left = max_probes_left(bounds, max_context);
            assert!(probes_left > 0, "{bounds:?}");
            if context <= limit {
                assert!(
                    bounds.largest_passed.is_none_or(|passed| context > passed),
                    "{bounds:?} {context}"
                );
                bounds.largest_passed = Some(context);
            } else {
                assert!(
                    bounds.smallest_failed.is_none_or(|failed| context < failed),
                    "{bounds:?} {context}"
                );
                bounds.smallest_failed = Some(context);
            }
            probes += 1;
        }
        assert_eq!(max_probes_left(bounds, max_context), 0);
        (bounds.largest_passed.unwrap_or(0), probes)
    }

    proptest! {
        #[test]
        fn search_finds_the_limit_within_five_percent(
            limit in 128_u32..300_000,
            max_context in 128_u32..1_100_000,
        ) {
            let (found, probes) = search(limit, max_context);
            let expected = limit.min(max_context);
            prop_assert!(
                found <= expected && f64::from(found) >= f64::from(expected) * 0.95,
                "{found} of {expected}"
            );
            prop_assert!(probes <= 24, "{probes}");
        }
    }

    #[test]
    fn search_ends_when_every_probe_fails_or_the_first_passes() {
        let (found, probes) = search(0, 131_072);
        assert_eq!(found, 0);
        assert!(probes <= 8, "{probes}");
        assert_eq!(search(4096, 4096), (4096, 2));
        assert_eq!(search(1024, 1024), (1024, 1));
    }
}
