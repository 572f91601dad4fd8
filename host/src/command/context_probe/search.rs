//! Which context to try next. Pure: a ladder upwards until something fails,
//! then halving what is left.

/// Where a ladder begins: every model that is any good takes this.
const FIRST: u32 = 2048;
/// Contexts below this are of no use.
const LEAST: u32 = 64;
/// The search ends when the smallest bad context is less than a 32nd above the
/// largest good one: 3 %.
const PRECISION: u32 = 32;
/// Contexts in the middle of a search are multiples of this, where that does
/// no harm; servers round, too.
const STEP: u32 = 64;

/// What is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The largest context that worked.
    pub(super) good: Option<u32>,
    /// The smallest that did not.
    pub(super) bad: Option<u32>,
}

/// The next context to try, at most `most`; `None` when the search is over.
pub(super) fn next(known: Known, most: u32) -> Option<u32> {
    let good = known.good.unwrap_or(0);
    match known.bad {
        _ if good >= most => None,
        Some(bad) if bad <= most => {
            let gap = bad.saturating_sub(good);
            if gap <= (good / PRECISION).max(1) || bad <= LEAST {
                return None;
            }
            let middle = good + gap / 2;
            let stepped = middle / STEP * STEP;
            Some(if stepped > good { stepped } else { middle })
        }
        _ if good == 0 => Some(FIRST.min(most)),
        _ => Some(good.saturating_mul(2).min(most)),
    }
}

/// How many probes may still come at most.
pub(super) fn probes_left(known: Known, most: u32) -> u32 {
    // The worst of both: everything up to the top works, or the next is bad.
    let upwards = (most / known.good.unwrap_or(FIRST).max(1)).max(1).ilog2() + 1;
    let halving = PRECISION.ilog2();
    match known.bad {
        _ if next(known, most).is_none() => 0,
        Some(bad) if bad <= most => {
            let good = known.good.unwrap_or(0);
            let steps = (bad - good) / (good / PRECISION).max(1);
            steps.max(1).ilog2() + 1
        }
        _ => upwards + halving,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches a model that takes `limit`; gives what was found and how many
    /// probes it took.
    fn search(limit: u32, most: u32) -> (u32, u32) {
        let mut known = Known::default();
        let mut probes = 0;
        while let Some(context) = next(known, most) {
            assert!((1..=most).contains(&context), "{context}");
            let may_come = probes_left(known, most);
            assert!(may_come > 0, "{known:?}");
            if context <= limit {
                assert!(
                    known.good.is_none_or(|it| context > it),
                    "{known:?} {context}"
                );
                known.good = Some(context);
            } else {
                assert!(
                    known.bad.is_none_or(|it| context < it),
                    "{known:?} {context}"
                );
                known.bad = Some(context);
            }
            probes += 1;
        }
        assert_eq!(probes_left(known, most), 0);
        (known.good.unwrap_or(0), probes)
    }

    proptest! {
        #[test]
        fn the_limit_is_found_within_five_percent(limit in 128_u32..300_000, most in 128_u32..1_100_000) {
            let (found, probes) = search(limit, most);
            let real = limit.min(most);
            prop_assert!(found <= real && f64::from(found) >= f64::from(real) * 0.95, "{found} of {real}");
            prop_assert!(probes <= 24, "{probes}");
        }
    }

    #[test]
    fn a_model_that_takes_nothing_ends_the_search() {
        let (found, probes) = search(0, 131_072);
        assert_eq!(found, 0);
        assert!(probes <= 8, "{probes}");
        assert_eq!(search(4096, 4096), (4096, 2));
        assert_eq!(search(1024, 1024), (1024, 1));
    }
}
