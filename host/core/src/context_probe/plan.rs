//! Plans the first probes of a search. Pure functions without I/O.

use super::options::ProbeOptions;
use super::search::{ContextBounds, max_probes_left, next_context};
use crate::registry::TestLevel;

/// Context length that shows whether a model can recall a key at all.
const SMALL_CONTEXT: u32 = 1024;

/// The probes that a run would start with, for a dry run. Context lengths are in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePlan {
    /// A single context length.
    Only(u32),
    /// A search.
    Search {
        /// The first context length.
        first: u32,
        /// The second one if the first passes; `None` if it depends on more.
        second: Option<u32>,
        /// The largest one.
        max_context: u32,
        /// The largest number of probes.
        max_probes: u32,
    },
    /// Nothing: this context length failed in an earlier run.
    FailedEarlier(u32),
    /// Nothing: the result is known.
    Known,
}

/// Returns the probes of a run, given the bounds from earlier runs.
pub(super) fn plan_probes(
    bounds: ContextBounds,
    max_context: u32,
    options: &ProbeOptions,
) -> ProbePlan {
    if let Some(context) = options.context {
        return match bounds.smallest_failed {
            Some(failed) if failed <= context && !options.force => ProbePlan::FailedEarlier(failed),
            _ => ProbePlan::Only(context),
        };
    }
    let search = |first, second, max_probes| ProbePlan::Search {
        first,
        second,
        max_context,
        max_probes,
    };
    let Some(small) = small_context(bounds, max_context, options.level) else {
        return match next_context(bounds, max_context) {
            Some(first) => search(first, None, max_probes_left(bounds, max_context)),
            None => ProbePlan::Known,
        };
    };
    let bounds = ContextBounds {
        largest_passed: Some(small),
        smallest_failed: bounds.smallest_failed.filter(|failed| *failed > small),
    };
    match next_context(bounds, max_context) {
        Some(next) => search(small, Some(next), max_probes_left(bounds, max_context) + 1),
        None => ProbePlan::Only(small),
    }
}

/// Returns the context length of the probe that comes before the search: it shows whether
/// the model can recall a key at all. `None` if that is known, or not required.
pub(super) fn small_context(
    bounds: ContextBounds,
    max_context: u32,
    level: TestLevel,
) -> Option<u32> {
    let small = SMALL_CONTEXT.min(max_context);
    (level == TestLevel::Recalls && bounds.largest_passed.is_none_or(|passed| passed < small))
        .then_some(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_the_bounds() {
        use TestLevel::{Loads, Recalls};
        let search = |first, second, max_probes| ProbePlan::Search {
            first,
            second,
            max_context: 32_768,
            max_probes,
        };
        let at = ProbeOptions::at;
        let single = ProbeOptions {
            context: Some(4096),
            ..at(Recalls)
        };
        let forced = ProbeOptions {
            force: true,
            ..single
        };
        for (options, largest_passed, smallest_failed, expected) in [
            (at(Recalls), None, None, search(1024, Some(2048), 12)),
            (at(Recalls), None, Some(1024), search(1024, Some(2048), 12)),
            (at(Recalls), Some(2048), None, search(4096, None, 10)),
            (at(Loads), None, None, search(2048, None, 10)),
            (at(Recalls), Some(2048), Some(2080), ProbePlan::Known),
            (at(Recalls), None, Some(1040), ProbePlan::Only(1024)),
            (single, None, None, ProbePlan::Only(4096)),
            (single, None, Some(4097), ProbePlan::Only(4096)),
            (single, None, Some(4096), ProbePlan::FailedEarlier(4096)),
            (forced, None, Some(4096), ProbePlan::Only(4096)),
        ] {
            let bounds = ContextBounds {
                largest_passed,
                smallest_failed,
            };
            assert_eq!(
                plan_probes(bounds, 32_768, &options),
                expected,
                "{bounds:?} {options:?}"
            );
        }
    }
}
