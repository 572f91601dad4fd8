//! Context probes with a fake engine and tokio's paused clock: no test waits.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::event::{ProbeEvent, ProbeObserver, ProbeWarning};
use super::fake_engine::{FakeEngine, fault};
use super::{ProbeError, ProbeOptions, ProbeOutcome, ProbedModel, probe_with};
use crate::engine::{Error, FaultKind};
use crate::registry::TestLevel::{Loads, Recalls};
use crate::registry::{
    ContextTrial, ModelRecord, PendingProbe, RegistryStore, TestLevel, TestedContext,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Keeps events as text, and the numbers of probes that a search announced.
#[derive(Default)]
struct EventLog {
    lines: RefCell<Vec<String>>,
    /// The probes so far, and the largest number of probes left, at each announcement.
    announced: RefCell<Vec<(usize, u32)>>,
    probes: Cell<usize>,
}

impl ProbeObserver for EventLog {
    fn event(&self, event: ProbeEvent<'_>) {
        let line = match event {
            ProbeEvent::Planned { plan, .. } => format!("{plan:?}"),
            ProbeEvent::LevelLowered { lowered, .. } => format!("lowered {:?}", lowered.level),
            ProbeEvent::LimitedByEarlierFailure { context, .. } => format!("limited {context}"),
            ProbeEvent::Started { remaining, .. } => {
                if let Some(remaining) = remaining {
                    let mut announced = self.announced.borrow_mut();
                    announced.push((self.probes.get(), remaining.max_probes));
                }
                return;
            }
            ProbeEvent::Finished { .. } => return self.probes.set(self.probes.get() + 1),
            ProbeEvent::Warning(ProbeWarning::EarlierCrash { context, .. }) => {
                format!("crashed {context}")
            }
            ProbeEvent::Warning(warning) => format!("{warning:?}"),
        };
        self.lines.borrow_mut().push(line);
    }
}

/// A finished run.
struct Run {
    result: Result<ProbedModel, ProbeError>,
    record: ModelRecord,
    /// The events except for the start and end of probes.
    events: Vec<String>,
}

/// Probes the model with `record` as the result of earlier runs. Checks what holds for
/// every run: nothing stays loaded or pending, and a search keeps to its announcements.
async fn run(
    engine: &FakeEngine,
    options: &ProbeOptions,
    record: &ModelRecord,
    cancel_after: Duration,
) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let store = RegistryStore::new(folder.path());
    let before = record.clone();
    store
        .update(|registry| *registry.model_mut("http://e", "m") = before)
        .unwrap();
    let log = EventLog::default();
    let cancel = pin!(sleep(cancel_after));
    let result = probe_with(engine, options, &store, &log, cancel).await;
    let announced = log.announced.take();
    for (probes, max_probes) in announced {
        let rest = log.probes.get() - probes;
        assert!(rest <= max_probes as usize, "{rest} probes of {max_probes}");
    }
    let registry = store.read().unwrap().registry;
    let record = registry.model("http://e", "m").cloned().unwrap();
    if !options.dry_run {
        let mut trials = record.trials.values();
        assert!(trials.all(|trial| trial.pending.is_none()), "{record:?}");
    }
    Run {
        result,
        record,
        events: log.lines.take(),
    }
}

/// Returns a result as text: context, level, and the outcome of the last failed probe.
fn summary(run: &Run) -> String {
    let result = match &run.result {
        Ok(result) => result,
        Err(error) => return error.to_string(),
    };
    let context = result
        .context
        .map_or("none".to_owned(), |context| context.to_string());
    let level = result.level.as_str();
    let suffix = if result.complete { "" } else { ", incomplete" };
    let mut probes = result.probes.iter().rev();
    let failed = probes.find(|probe| probe.outcome != ProbeOutcome::Passed);
    let failed = failed.map_or(String::new(), |probe| format!("; {}", probe.outcome));
    format!("{context} {level}{suffix}{failed}")
}

/// Runs a search and compares its summary and its events.
async fn check(engine: FakeEngine, options: ProbeOptions, record: &ModelRecord, expected: &str) {
    let run = run(&engine, &options, record, 1000 * HOUR).await;
    let events: String = run
        .events
        .iter()
        .map(|event| format!(" [{event}]"))
        .collect();
    assert_eq!(format!("{}{events}", summary(&run)), expected);
    assert!(!engine.is_loaded.get(), "{expected}");
    let tested = run.record.tested.map(|tested| tested.context);
    if let Ok(ProbedModel {
        context: Some(context),
        ..
    }) = run.result
    {
        assert!(tested >= Some(context), "{expected}: {tested:?}");
    }
}

fn at(level: TestLevel) -> ProbeOptions {
    ProbeOptions::at(level)
}

/// Returns a record with one trial of the level `loads`.
fn record_with(trial: ContextTrial) -> ModelRecord {
    let mut record = ModelRecord::default();
    record.trials.insert(Loads, trial);
    record
}

/// Returns a record with a probe of a process that has ended.
fn crashed_at(context: u32) -> ModelRecord {
    record_with(ContextTrial {
        pending: Some(PendingProbe {
            context,
            // A new process with the ID of the old one did not start the probe.
            process: std::process::id(),
            at: Timestamp::UNIX_EPOCH,
        }),
        ..ContextTrial::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_search_finds_the_largest_context() {
    let engine = FakeEngine::default;
    let unknown = ModelRecord::default();
    let max_context = |max_context| ProbeOptions {
        max_context: Some(max_context),
        ..at(Loads)
    };
    let failed_at_4096 = record_with(ContextTrial {
        smallest_failed: Some(4096),
        ..ContextTrial::default()
    });
    for (engine, options, record, expected) in [
        (engine(), at(Recalls), &unknown, "32768 recalls"),
        (
            FakeEngine {
                load: |context| Ok(context.min(10_000)),
                ..engine()
            },
            at(Loads),
            &unknown,
            "9984 loads; loaded with only 10000 tokens",
        ),
        (
            FakeEngine {
                answer: |tokens| Ok(if tokens < 6000 { "{}" } else { "12" }),
                ..engine()
            },
            at(Recalls),
            &unknown,
            "6144 recalls; wrong answer: \"12\"",
        ),
        // Without token counts, sizes are estimates.
        (
            FakeEngine {
                counts_tokens: false,
                ..engine()
            },
            at(Recalls),
            &unknown,
            "32768 recalls",
        ),
        // The server decides the context length.
        (
            FakeEngine {
                can_set_context: false,
                ..engine()
            },
            at(Recalls),
            &unknown,
            "8192 recalls",
        ),
        // A model that never loads.
        (
            FakeEngine {
                load: |_| Err(fault(FaultKind::OutOfMemory)),
                ..engine()
            },
            at(Loads),
            &unknown,
            "none loads; did not load: e cannot load model `m`: failed",
        ),
        // Searches that end early.
        (
            engine(),
            max_context(4096),
            &unknown,
            "4096 loads, incomplete",
        ),
        (
            engine(),
            at(Loads),
            &failed_at_4096,
            "4032 loads [limited 4096]",
        ),
        (
            FakeEngine {
                load_time: |context| if context > 9000 { HOUR } else { HOUR / 100 },
                ..engine()
            },
            ProbeOptions {
                timeout: Some(HOUR / 60),
                ..at(Loads)
            },
            &unknown,
            "8960 loads; timed out after 60 s",
        ),
        // Levels that the model does not reach.
        (
            FakeEngine {
                answer: |_| Ok("Yes."),
                ..engine()
            },
            at(Recalls),
            &unknown,
            "32768 accepts; wrong answer: \"Yes.\" [lowered Accepts]",
        ),
        (
            FakeEngine {
                answer: |_| Ok(" "),
                ..engine()
            },
            at(Recalls),
            &unknown,
            "32768 loads; prompt refused: the answer has no text [lowered Loads]",
        ),
    ] {
        check(engine, options, record, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_counts_as_failed_until_forced() {
    let record = crashed_at(2048);
    let single = ProbeOptions {
        context: Some(4096),
        ..at(Loads)
    };
    let force = |options| ProbeOptions {
        force: true,
        ..options
    };
    let refused = "`m` failed with 2048 tokens in an earlier test: the program or the machine \
                   crashed during the probe [crashed 2048]";
    for (options, expected) in [
        (at(Loads), "2016 loads [crashed 2048] [limited 2048]"),
        (force(at(Loads)), "32768 loads [crashed 2048]"),
        (single, refused),
        (force(single), "4096 loads [crashed 2048]"),
        (
            ProbeOptions {
                reset: true,
                ..at(Loads)
            },
            "32768 loads",
        ),
    ] {
        check(FakeEngine::default(), options, &record, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_errors_of_the_context_replace_an_earlier_result() {
    let tested = TestedContext {
        context: 30_000,
        level: Some(Loads),
        at: None,
        complete: true,
    };
    let record = ModelRecord {
        tested: Some(tested.clone()),
        ..ModelRecord::default()
    };
    let busy: fn(u32) -> _ = |_| Err(fault(FaultKind::Busy));
    let out_of_memory: fn(u32) -> _ = |_| Err(fault(FaultKind::OutOfMemory));
    for (load, expected) in [(busy, Some(tested)), (out_of_memory, None)] {
        let engine = FakeEngine {
            load,
            ..FakeEngine::default()
        };
        let run = run(&engine, &at(Loads), &record, 1000 * HOUR).await;
        assert_eq!(run.result.unwrap().context, None);
        assert_eq!(run.record.tested, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn cancellation_unloads_and_records_no_failure() {
    let engine = FakeEngine {
        load_time: |context| if context > 5000 { HOUR } else { Duration::ZERO },
        ..FakeEngine::default()
    };
    let run = run(&engine, &at(Loads), &ModelRecord::default(), HOUR / 2).await;
    assert!(matches!(run.result, Err(ProbeError::Cancelled)));
    assert!(!engine.is_loaded.get());
    let trial = &run.record.trials[&Loads];
    assert_eq!(
        (trial.largest_passed, trial.smallest_failed),
        (Some(4096), None)
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_engine_ends_the_search_without_a_failed_probe() {
    let engine = FakeEngine {
        load: |_| {
            Err(Error::Unreachable {
                engine: "e".to_owned(),
                reason: "refused".to_owned(),
            })
        },
        unload_time: HOUR,
        ..FakeEngine::default()
    };
    let run = run(&engine, &at(Loads), &ModelRecord::default(), 1000 * HOUR).await;
    assert_eq!(summary(&run), "cannot reach e: refused");
    assert_eq!(run.record.trials[&Loads], ContextTrial::default());
    // A slow unload does not delay the result.
    assert_eq!(run.events, ["UnloadTimedOut"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_loads_nothing_and_keeps_the_record() {
    let engine = FakeEngine::default();
    let options = ProbeOptions {
        dry_run: true,
        ..at(Loads)
    };
    let record = crashed_at(2048);
    let run = run(&engine, &options, &record, 1000 * HOUR).await;
    assert_eq!(engine.load_count.get(), 0);
    assert_eq!(run.record, record);
    assert_eq!(
        run.events,
        ["Search { first: 1024, second: None, max_context: 32768, max_probes: 12 }"]
    );
}
