//! Decides how the results of probes change a model's record. Pure functions without I/O.

use jiff::Timestamp;

use super::options::ProbeOptions;
use super::outcome::{ProbeOutcome, ProbeReport, ProbedModel};
use super::search::ContextBounds;
use crate::registry::{ContextTrial, ModelRecord, PendingProbe, TestLevel, TestedContext};

/// A probe during which an earlier run crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CrashedProbe {
    pub(super) level: TestLevel,
    /// In tokens.
    pub(super) context: u32,
}

/// A context length that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailedContext {
    /// In tokens.
    pub(super) context: u32,
    /// The reason, if known.
    pub(super) cause: Option<String>,
}

/// Updates the record of earlier runs before this one, as the options `reset` and `force`
/// say. Pending probes of processes that have ended count as failed; returns them.
pub(super) fn settle_earlier_trials(
    model: &mut ModelRecord,
    options: &ProbeOptions,
    is_running: impl Fn(&PendingProbe) -> bool,
) -> Vec<CrashedProbe> {
    if options.reset {
        model.forget_tests();
    }
    let mut crashed = Vec::new();
    for (level, trial) in &mut model.trials {
        let Some(PendingProbe { context, .. }) =
            trial.pending.take_if(|pending| !is_running(pending))
        else {
            continue;
        };
        let failed = trial.smallest_failed;
        trial.smallest_failed = Some(failed.map_or(context, |failed| failed.min(context)));
        trial.failure = Some("the program or the machine crashed during the probe".to_owned());
        crashed.push(CrashedProbe {
            level: *level,
            context,
        });
    }
    if options.force && options.context.is_none() {
        for trial in model.trials.values_mut() {
            trial.smallest_failed = None;
            trial.failure = None;
        }
    }
    crashed
}

/// Records a finished probe in the trial of its level.
pub(super) fn record_probe(trial: &mut ContextTrial, probe: &ProbeReport) {
    let context = probe.context;
    let (passed, failed) = (trial.largest_passed, trial.smallest_failed);
    trial.pending = None;
    if probe.outcome == ProbeOutcome::Passed {
        trial.largest_passed = Some(passed.map_or(context, |passed| passed.max(context)));
        trial.smallest_failed = failed.filter(|failed| *failed > context);
    } else {
        trial.smallest_failed = Some(failed.map_or(context, |failed| failed.min(context)));
        trial.largest_passed = passed.filter(|passed| *passed < context);
        trial.failure = Some(probe.outcome.to_string());
    }
}

/// Returns the known bounds of a level. A context length that passes a level passes all
/// lower levels; one that fails a level fails all higher levels.
pub(super) fn context_bounds(model: &ModelRecord, level: TestLevel) -> ContextBounds {
    let smallest_failed = smallest_failure(model, level).map(|failed| failed.context);
    let this_and_higher = model.trials.range(level..);
    let largest_passed = this_and_higher
        .filter_map(|(_, trial)| trial.largest_passed)
        .max();
    ContextBounds {
        largest_passed: largest_passed
            .filter(|passed| smallest_failed.is_none_or(|failed| *passed < failed)),
        smallest_failed,
    }
}

/// Returns the smallest context length that failed at the level or a lower one.
pub(super) fn smallest_failure(model: &ModelRecord, level: TestLevel) -> Option<FailedContext> {
    let this_and_lower = model.trials.range(..=level);
    this_and_lower
        .filter_map(|(_, trial)| Some((trial.smallest_failed?, trial.failure.as_ref())))
        .min_by_key(|(failed, _)| *failed)
        .map(|(context, cause)| FailedContext {
            context,
            cause: cause.cloned(),
        })
}

/// Records the passed probe of a single context length. It is a lower bound only.
pub(super) fn record_single(model: &mut ModelRecord, context: u32, level: TestLevel) {
    if model
        .tested
        .as_ref()
        .is_none_or(|tested| tested.context < context)
    {
        model.tested = Some(TestedContext {
            context,
            level: Some(level),
            at: Some(Timestamp::now()),
            complete: false,
        });
    }
}

/// Records the result of a search.
pub(super) fn record_search(model: &mut ModelRecord, result: &ProbedModel) {
    let tested = result.context.map(|context| TestedContext {
        context,
        level: Some(result.level),
        at: Some(Timestamp::now()),
        complete: result.complete,
    });
    let summary = SearchSummary {
        has_probes: !result.probes.is_empty(),
        depends_on_context: result
            .probes
            .iter()
            .any(|probe| probe.level == result.level && probe.outcome.depends_on_context()),
    };
    let smallest_failed = context_bounds(model, result.level).smallest_failed;
    model.tested = merge_tested_context(model.tested.take(), tested, summary, smallest_failed);
}

/// The facts of a search that decide whether its result replaces an earlier one.
#[derive(Clone, Copy, Debug)]
struct SearchSummary {
    /// The search ran at least one probe.
    has_probes: bool,
    /// At least one outcome depends on the context length.
    depends_on_context: bool,
}

/// Returns the tested context to record after a search. A search that was limited to less,
/// or that ended with a transient error, does not replace a better result.
/// `smallest_failed` is the smallest context length that is known to fail.
fn merge_tested_context(
    old: Option<TestedContext>,
    new: Option<TestedContext>,
    summary: SearchSummary,
    smallest_failed: Option<u32>,
) -> Option<TestedContext> {
    let Some(old) = old else {
        return new;
    };
    let is_refuted = smallest_failed.is_some_and(|failed| failed <= old.context);
    let Some(new) = new else {
        return (!(summary.depends_on_context && is_refuted)).then_some(old);
    };
    // Results of the Python program have no level: they show only that the model loads.
    let level = |tested: &TestedContext| tested.level.unwrap_or(TestLevel::Loads);
    if old.context > new.context && level(&old) >= level(&new) && !is_refuted {
        return Some(old);
    }
    if !summary.has_probes && (old.context, old.level) == (new.context, new.level) {
        return Some(TestedContext {
            complete: new.complete,
            ..old
        });
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_replaces_only_results_that_it_refutes() {
        use TestLevel::{Accepts, Loads, Recalls};
        let tested = |context: u32, level: TestLevel, complete: bool| TestedContext {
            context,
            level: Some(level),
            at: None,
            complete,
        };
        let old = tested(30_000, Recalls, true);
        let python = TestedContext {
            level: None,
            ..old.clone()
        };
        let limited = tested(4096, Recalls, false);
        let summary = |has_probes: bool, depends_on_context: bool| SearchSummary {
            has_probes,
            depends_on_context,
        };
        let all = summary(true, true);
        for (number, (old, new, summary, smallest_failed, expected)) in [
            (None, Some(&limited), all, None, Some(&limited)),
            (None, None, all, Some(64), None),
            // Limited by --max-context.
            (Some(&old), Some(&limited), all, None, Some(&old)),
            (Some(&old), Some(&limited), all, Some(30_001), Some(&old)),
            (Some(&old), Some(&limited), all, Some(4200), Some(&limited)),
            (Some(&python), Some(&limited), all, None, Some(&limited)),
            (
                Some(&tested(30_000, Loads, true)),
                Some(&tested(4096, Accepts, true)),
                all,
                None,
                Some(&tested(4096, Accepts, true)),
            ),
            // Nothing passed: because of the context length, or of a transient error.
            (Some(&old), None, all, Some(64), None),
            (Some(&old), None, summary(true, false), Some(64), Some(&old)),
            (Some(&old), None, all, None, Some(&old)),
        ]
        .into_iter()
        .enumerate()
        {
            let merged = merge_tested_context(old.cloned(), new.cloned(), summary, smallest_failed);
            assert_eq!(merged.as_ref(), expected, "case {number}");
        }
        // A search without probes keeps the time of the old result.
        let now = TestedContext {
            at: Some(Timestamp::now()),
            ..old.clone()
        };
        let merged = merge_tested_context(
            Some(old.clone()),
            Some(now.clone()),
            summary(false, false),
            None,
        );
        assert_eq!(merged.unwrap().at, None);
        let merged = merge_tested_context(Some(old), Some(now), all, None);
        assert!(merged.unwrap().at.is_some());
    }
}
