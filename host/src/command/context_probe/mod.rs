//! `test`: finds the largest context length that works in practice.
//!
//! [`search`] chooses the next context length, [`prober`] probes it, [`probe_prompt`]
//! creates the prompts. The registry records each probe before it starts, so that a
//! machine that crashes during a probe does not repeat it.

mod probe_prompt;
mod prober;
mod search;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::models::{
    CommandSetup, command_setup, escape_for_terminal, format_duration, format_table, print,
    print_json,
};
use crate::args::TestArgs;
use crate::client::{self, LoadPolicy};
use crate::command::notices;
use crate::engine::{self, EMBEDDED, EngineSelection, ModelQuery, query_catalog};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::error_chain::error_chain;
use crate::job::Cancel;
use crate::job::ModelReference;
use crate::registry::{
    ContextTrial, ModelRecord, PendingProbe, RegistryStore, SortKey, SortRow, TestLevel,
    TestedContext, sort_models,
};
use crate::sink::Messages;
use probe_prompt::PromptSizer;
use prober::{ProbeOutcome, Prober, UnloaderSlot};
use search::ContextBounds;

/// Time limit of a probe without `--probe-timeout`.
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Context length that shows whether a model can recall a key at all.
const SMALL_CONTEXT: u32 = 1024;
/// Time limit of the unload after a test.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the unload after Ctrl-C: the program must exit within seconds.
const CANCELLED_UNLOAD_TIMEOUT: Duration = Duration::from_millis(1500);

/// Output of `test --json`.
#[derive(Serialize)]
struct TestReport {
    schema: u32,
    results: Vec<TestResult>,
}

/// Result of one model.
#[derive(Serialize)]
struct TestResult {
    model: String,
    engine: String,
    level: TestLevel,
    context: Option<u32>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    probes: Vec<ProbeReport>,
}

/// One probe of a [`TestResult`].
#[derive(Serialize)]
struct ProbeReport {
    /// The outcome is caused by the context size, not by a transient error.
    #[serde(skip)]
    depends_on_context: bool,
    context: u32,
    level: TestLevel,
    outcome: &'static str,
    text: String,
    prompt_tokens: Option<u32>,
    seconds: f64,
}

/// Runs `test`.
///
/// # Errors
/// Returns an error if a flag is invalid, the model is not found, the engine is
/// unreachable, or a model passes with no context length.
pub(crate) async fn test(
    args: TestArgs,
    env: &Env,
    mut interrupt: Cancel<'_>,
) -> Result<Exit, Failure> {
    let setup = command_setup(&args.common, &args.engines, env)?;
    let messages = setup.messages;
    if args.prompt.is_some() || args.file_prompt.is_some() || args.fast {
        messages.warning(
            "--prompt, --file_prompt and --fast have no effect: `test` uses its own prompts",
        );
    }
    let level = TestLevel::from_name(&args.level).ok_or_else(|| {
        Failure::usage(format!(
            "--level `{}`: expected `loads`, `accepts` or `recalls`",
            args.level
        ))
    })?;
    let probe_timeout = match &args.probe_timeout {
        None => Some(DEFAULT_PROBE_TIMEOUT),
        Some(text) => crate::duration::parse(text)
            .map_err(|cause| Failure::usage(format!("--probe-timeout: {cause}")))?,
    };
    let queries = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        queries = model_queries(&args, &setup, env) => queries?,
    };
    let has_several = queries.len() > 1;
    let mut results = Vec::new();
    for query in queries {
        let name = query.model.clone().unwrap_or_default();
        let mut tester = ModelTester {
            store: client::registry_store(env),
            messages,
            args: &args,
            level,
            probe_timeout,
            unloader: Arc::default(),
        };
        let unloader = Arc::clone(&tester.unloader);
        let (tested, unload_timeout) = tokio::select! {
            biased;
            () = &mut interrupt => (Err(Failure::interrupted()), CANCELLED_UNLOAD_TIMEOUT),
            tested = tester.test_model(query) => (tested, UNLOAD_TIMEOUT),
        };
        // Also after Ctrl-C: unload the instance of the test, even if it is still loading.
        unload(&unloader, unload_timeout, messages).await;
        match tested {
            Ok(result) => results.push(result),
            Err(failure) if has_several && failure.exit != Exit::Interrupted => {
                messages.error(&format!("{name}: {}", failure.message));
                results.push(TestResult {
                    model: name,
                    engine: String::new(),
                    level,
                    context: None,
                    complete: false,
                    note: None,
                    error: Some(failure.message),
                    probes: Vec::new(),
                });
            }
            Err(failure) => return Err(failure),
        }
    }
    finish(&args, results, env)
}

/// Unloads the instance that the test loaded.
async fn unload(unloader: &UnloaderSlot, timeout: Duration, messages: Messages) {
    let unloader = unloader.lock().ok().and_then(|mut slot| slot.take());
    let Some(unloader) = unloader else {
        return;
    };
    match tokio::time::timeout(timeout, unloader.unload()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => messages.warning(&error_chain(&error)),
        Err(_) => messages.warning(
            "the server did not unload the model in time; `ps` shows it, `unload` retries",
        ),
    }
}

fn finish(args: &TestArgs, results: Vec<TestResult>, env: &Env) -> Result<Exit, Failure> {
    let failed: Vec<String> = results
        .iter()
        .filter(|result| result.context.is_none() && !args.dry_run)
        .map(|result| result.model.clone())
        .collect();
    let has_several = results.len() > 1;
    if args.json {
        print_json(&TestReport { schema: 1, results }, env)?;
    } else if !args.dry_run {
        let rows = results.iter().map(|result| {
            vec![
                escape_for_terminal(&result.model, env),
                result
                    .context
                    .map_or_else(|| "-".to_owned(), |context| context.to_string()),
                result.level.as_str().to_owned(),
                if result.complete { "" } else { "incomplete" }.to_owned(),
            ]
        });
        print(&format_table(
            &["model", "context", "level", ""],
            rows.collect(),
        ))?;
    }
    match failed.as_slice() {
        [] => Ok(Exit::Done),
        [model] if !has_several => Err(Failure::new(
            Exit::Model,
            format!("`{model}` passed with no context length"),
        )
        .hint("-v prints more; `--level accepts` requires less")),
        models => Err(Failure::new(
            Exit::Broken,
            format!(
                "{} models passed with no context length: {}",
                models.len(),
                models.join(", ")
            ),
        )),
    }
}

/// Returns the query of each model to test.
async fn model_queries(
    args: &TestArgs,
    setup: &CommandSetup,
    env: &Env,
) -> Result<Vec<ModelQuery>, Failure> {
    let messages = setup.messages;
    let policy = LoadPolicy {
        force: args.force,
        ..LoadPolicy::default()
    };
    let query = |name: &str| {
        let model = ModelReference {
            model: Some(name.to_owned()),
            engine: args.engines.engine.clone(),
            context: None,
        };
        client::model_query(
            &model,
            policy,
            env,
            &setup.config,
            setup.connect_timeouts,
            &notices(messages),
        )
    };
    if !args.all {
        let name = args.model.as_deref().unwrap_or_default();
        return Ok(vec![query(name)?]);
    }
    let (sort_key, is_reversed) = SortKey::parse(&args.sort)
        .ok_or_else(|| Failure::usage(format!("--sort `{}`: unknown sort key", args.sort)))?;
    let ownership_folder = client::ownership_folder(env);
    let models_folder = env.paths.data.join("models");
    let mut catalog = query_catalog(
        &setup.selection,
        &models_folder,
        &ownership_folder,
        setup.connect_timeouts,
        &mut |_| {},
    )
    .await;
    if let Some(error) = catalog.server_error.take()
        && catalog.engines.is_empty()
    {
        return Err(error.into());
    }
    let registry = client::read_registry(env, &notices(messages));
    let records: Vec<(String, String, ModelRecord)> = catalog
        .engines
        .iter()
        .flat_map(|engine| {
            let models = engine.models.iter().flatten();
            models.filter(|model| !model.embeds_only).map(|model| {
                let record = registry
                    .model(&engine.address, &model.id)
                    .cloned()
                    .unwrap_or_default();
                let record = ModelRecord {
                    size_bytes: model.size_bytes.or(record.size_bytes),
                    declared_context: model.declared_context.or(record.declared_context),
                    ..record
                };
                (engine.address.clone(), model.id.clone(), record)
            })
        })
        .collect();
    let has_keywords = |model: &ModelRecord| {
        let keywords = args.key.iter().flat_map(|list| list.split(','));
        keywords
            .map(str::trim)
            .all(|keyword| model.has_keyword(keyword))
    };
    let mut rows: Vec<SortRow<'_>> = records
        .iter()
        .filter(|(_, _, model)| has_keywords(model))
        .map(|(engine, id, model)| SortRow {
            engine,
            id,
            model,
            fits: true,
        })
        .collect();
    sort_models(&mut rows, sort_key, is_reversed);
    rows.iter()
        .map(|row| {
            let query = query(row.id)?;
            let selection = match (&query.selection, row.engine) {
                (_, EMBEDDED) => EngineSelection::Embedded,
                (EngineSelection::Servers(all) | EngineSelection::Auto(all), engine) => {
                    EngineSelection::Servers(
                        all.iter()
                            .filter(|server| server.base_url() == engine)
                            .cloned()
                            .collect(),
                    )
                }
                (EngineSelection::Embedded, _) => EngineSelection::Embedded,
            };
            Ok(ModelQuery { selection, ..query })
        })
        .collect()
}

/// Tests one model.
struct ModelTester<'a> {
    store: RegistryStore,
    messages: Messages,
    args: &'a TestArgs,
    level: TestLevel,
    probe_timeout: Option<Duration>,
    /// The unloader of the last instance.
    unloader: UnloaderSlot,
}

/// The selected model.
struct TestTarget {
    /// Address of the engine.
    engine: String,
    kind: &'static str,
    id: String,
    /// Largest context length that this test probes.
    max_context: u32,
    /// Largest context length that any test could probe.
    upper_limit: u32,
}

impl ModelTester<'_> {
    /// Tests one model.
    ///
    /// # Errors
    /// Returns an error if the model is not found, a flag does not fit it, or the engine
    /// or the registry fails.
    async fn test_model(&mut self, query: ModelQuery) -> Result<TestResult, Failure> {
        // Select it without a context length, to check that the model exists.
        let selected = engine::select_model(ModelQuery {
            context: None,
            ..query.clone()
        })
        .await?;
        let can_set_context = selected.can_set_context();
        let declared = if can_set_context {
            selected.declared_context()
        } else {
            selected.expected_context()
        };
        let max_context = match (declared, self.args.context.or(self.args.max_context)) {
            (Some(declared), Some(requested)) if self.args.force => {
                requested.max(1).min(declared.max(requested))
            }
            (Some(declared), Some(requested)) => requested.min(declared),
            (Some(declared), None) => declared,
            (None, Some(requested)) => requested,
            (None, None) => {
                return Err(Failure::usage(format!(
                    "{} does not report the declared context length of `{}`",
                    selected.display_name(),
                    selected.model
                ))
                .hint("set an upper limit with `--max-context N`"));
            }
        };
        let target = TestTarget {
            engine: selected.address().to_owned(),
            kind: selected.engine(),
            id: selected.model.clone(),
            max_context: max_context.max(1),
            upper_limit: declared.unwrap_or(u32::MAX).max(max_context),
        };
        if let (Some(requested), Some(declared)) = (self.args.context, declared)
            && requested > declared
            && !self.args.force
        {
            return Err(Failure::usage(format!(
                "--context {requested} is more than the {declared} tokens that `{}` declares",
                target.id
            ))
            .hint("test it anyway with `--force`"));
        }
        let (architecture, quantization) = (
            selected.architecture().map(str::to_owned),
            selected.quantization(),
        );
        let declared_context = selected.declared_context();
        if let Some(context) = selected.replaced_foreign_context() {
            self.messages.warning(&format!(
                "another program has loaded `{}`{}; {} keeps one instance of each model, so the \
                 test replaces it",
                target.id,
                context.map_or_else(String::new, |tokens| format!(
                    " with {tokens} tokens of context"
                )),
                selected.display_name()
            ));
        }
        if self.args.dry_run {
            let registry = self.store.read()?.registry;
            let mut model = registry
                .model(&target.engine, &target.id)
                .cloned()
                .unwrap_or_default();
            // The real run reports the crashed probes.
            let _crashed = self.update_earlier_trials(&mut model);
            self.print_dry_run(&target, can_set_context, &model);
            return Ok(self.empty_result(&target));
        }
        let crashed = self.update_record(&target, |model| {
            model.architecture = architecture.or(model.architecture.take());
            model.quantization = quantization.or(model.quantization.take());
            model.declared_context = declared_context.or(model.declared_context);
            self.update_earlier_trials(model)
        })?;
        for (level, pending) in crashed {
            self.messages.warning(&format!(
                "an earlier test of `{}` with {} tokens ({}) did not finish; this context length \
                 counts as failed until --force or `reset` clears it",
                target.id,
                pending.context,
                level.as_str()
            ));
        }
        let mut prober = Prober {
            query,
            can_set_context,
            timeout: self.probe_timeout,
            sizer: PromptSizer::default(),
            unloader: Arc::clone(&self.unloader),
            prompt_number: 0,
        };
        self.search(&target, &mut prober).await
    }

    /// Updates the record of earlier tests before this one, by `--reset` and `--force`.
    /// Pending probes of processes that have ended count as failed; returns them.
    fn update_earlier_trials(&self, model: &mut ModelRecord) -> Vec<(TestLevel, PendingProbe)> {
        if self.args.reset {
            model.forget_tests();
        }
        let mut crashed = Vec::new();
        for (level, trial) in &mut model.trials {
            let Some(pending) = trial.pending.take_if(|pending| !is_running(pending)) else {
                continue;
            };
            trial.smallest_failed = Some(
                trial
                    .smallest_failed
                    .map_or(pending.context, |failed| failed.min(pending.context)),
            );
            trial.failure = Some("the program or the machine crashed during the probe".to_owned());
            crashed.push((*level, pending));
        }
        if self.args.force && self.args.context.is_none() {
            for trial in model.trials.values_mut() {
                trial.smallest_failed = None;
                trial.failure = None;
            }
        }
        crashed
    }

    fn empty_result(&self, target: &TestTarget) -> TestResult {
        TestResult {
            model: target.id.clone(),
            engine: target.engine.clone(),
            level: self.level,
            context: None,
            complete: false,
            note: None,
            error: None,
            probes: Vec::new(),
        }
    }

    /// Searches for the largest context length that passes, and records it.
    async fn search(
        &self,
        target: &TestTarget,
        prober: &mut Prober,
    ) -> Result<TestResult, Failure> {
        let mut result = self.empty_result(target);
        if let Some(context) = self.args.context {
            return self.probe_single(target, prober, context, result).await;
        }
        self.choose_level(target, prober, &mut result).await?;
        let level = result.level;
        self.print_earlier_failure(target, &result)?;
        loop {
            let bounds = self.bounds(target, level)?;
            let Some(context) = search::next_context(bounds, target.max_context) else {
                result.context = bounds.largest_passed;
                // A search limited by --max-context is incomplete.
                result.complete = search::next_context(bounds, target.upper_limit).is_none();
                break;
            };
            let probes_left = search::max_probes_left(bounds, target.max_context);
            self.messages.status(&format!(
                "{}: probing {context} tokens ({}), at most {probes_left} probes left{}",
                target.id,
                level.as_str(),
                self.estimate_remaining(&result, context, probes_left)
            ));
            self.probe(target, prober, context, level, &mut result)
                .await?;
        }
        let tested = result.context.map(|context| TestedContext {
            context,
            level: Some(level),
            at: Some(Timestamp::now()),
            complete: result.complete,
        });
        let summary = SearchSummary {
            has_probes: !result.probes.is_empty(),
            depends_on_context: result
                .probes
                .iter()
                .any(|probe| probe.level == level && probe.depends_on_context),
        };
        self.update_record(target, |model| {
            let smallest_failed = context_bounds(model, level).smallest_failed;
            model.tested =
                merge_tested_context(model.tested.take(), tested, summary, smallest_failed);
        })?;
        Ok(result)
    }

    /// Lowers the level of `result` if the model does not reach it with a small context:
    /// then it does not reach it with more.
    async fn choose_level(
        &self,
        target: &TestTarget,
        prober: &mut Prober,
        result: &mut TestResult,
    ) -> Result<(), Failure> {
        let small = SMALL_CONTEXT.min(target.max_context);
        if self.level != TestLevel::Recalls
            || !self.starts_with_small_context(self.bounds(target, self.level)?, small)
        {
            return Ok(());
        }
        let outcome = self
            .probe(target, prober, small, TestLevel::Recalls, result)
            .await?;
        let note = match outcome {
            ProbeOutcome::WrongAnswer(_) => {
                result.level = TestLevel::Accepts;
                format!(
                    "`{}` cannot recall a key from {small} tokens; testing the `accepts` level \
                     instead",
                    target.id
                )
            }
            // The search continues with fewer tokens.
            ProbeOutcome::Refused(failure) if failure.is_context_limit => return Ok(()),
            ProbeOutcome::Refused(failure) => {
                let outcome = self
                    .probe(target, prober, small, TestLevel::Accepts, result)
                    .await?;
                result.level = match outcome {
                    ProbeOutcome::Refused(failure) if !failure.is_context_limit => TestLevel::Loads,
                    _ => TestLevel::Accepts,
                };
                format!(
                    "`{}` gave no answer to a prompt of {small} tokens ({}); testing the `{}` \
                     level instead",
                    target.id,
                    failure.message,
                    result.level.as_str()
                )
            }
            _ => return Ok(()),
        };
        self.messages.warning(&note);
        result.note = Some(note);
        Ok(())
    }

    /// Returns whether the first probe uses [`SMALL_CONTEXT`].
    fn starts_with_small_context(&self, bounds: ContextBounds, small: u32) -> bool {
        self.level == TestLevel::Recalls
            && bounds.largest_passed.is_none_or(|passed| passed < small)
    }

    /// Prints that a failure in an earlier test limits this one, so that it is not taken for
    /// a result of this run.
    fn print_earlier_failure(
        &self,
        target: &TestTarget,
        result: &TestResult,
    ) -> Result<(), Failure> {
        let store = self.store.read()?;
        let Some(model) = store.registry.model(&target.engine, &target.id) else {
            return Ok(());
        };
        let trials = model
            .trials
            .iter()
            .filter(|(level, _)| **level <= result.level);
        let smallest = trials
            .filter_map(|(_, trial)| Some((trial.smallest_failed?, trial.failure.as_deref())))
            .min_by_key(|(failed, _)| *failed);
        if let Some((failed, cause)) = smallest
            && failed <= target.max_context
            && result.probes.iter().all(|probe| probe.context != failed)
        {
            self.messages.status(&format!(
                "{}: {failed} tokens failed in an earlier test ({}); --force probes them again",
                target.id,
                cause.unwrap_or("unknown cause")
            ));
        }
        Ok(())
    }

    /// Estimates the time of the remaining probes from the last one.
    fn estimate_remaining(&self, result: &TestResult, context: u32, probes_left: u32) -> String {
        match result.probes.last() {
            Some(last) if last.seconds > 1.0 => {
                let each = last.seconds * f64::from(context) / f64::from(last.context.max(1));
                let seconds = (each * f64::from(probes_left)).min(1e6);
                format!(
                    ", about {}",
                    format_duration(Duration::from_secs_f64(seconds))
                )
            }
            _ => String::new(),
        }
    }

    /// Runs the single probe of `--context N`.
    async fn probe_single(
        &self,
        target: &TestTarget,
        prober: &mut Prober,
        context: u32,
        mut result: TestResult,
    ) -> Result<TestResult, Failure> {
        let failed = self.bounds(target, self.level)?.smallest_failed;
        if let Some(failed) = failed.filter(|failed| *failed <= context && !self.args.force) {
            let cause = self
                .trial(target, self.level)?
                .failure
                .unwrap_or_else(|| "unknown cause".to_owned());
            return Err(Failure::new(
                Exit::Model,
                format!(
                    "`{}` failed with {failed} tokens in an earlier test: {cause}",
                    target.id
                ),
            )
            .hint("probe it anyway with `--force`, or clear the result with `reset`"));
        }
        let outcome = self
            .probe(target, prober, context, self.level, &mut result)
            .await?;
        result.complete = outcome == ProbeOutcome::Passed;
        result.context = result.complete.then_some(context);
        let level = self.level;
        if result.complete {
            self.update_record(target, |model| {
                // A single probe is a lower bound only.
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
            })?;
        }
        Ok(result)
    }

    /// Runs one probe; the registry records its start and its outcome.
    async fn probe(
        &self,
        target: &TestTarget,
        prober: &mut Prober,
        context: u32,
        level: TestLevel,
        result: &mut TestResult,
    ) -> Result<ProbeOutcome, Failure> {
        let pending = PendingProbe {
            context,
            process: std::process::id(),
            at: Timestamp::now(),
        };
        self.update_record(target, |model| {
            model.trials.entry(level).or_default().pending = Some(pending);
        })?;
        // Ctrl-C drops this future; an interrupted probe is not a failure.
        let mut guard = PendingProbeGuard {
            tester: self,
            target,
            level,
            armed: true,
        };
        let probed = prober.probe(context, level).await;
        guard.armed = false;
        let probed = match probed {
            Ok(probed) => probed,
            Err(error) => {
                self.update_record(target, |model| {
                    model.trials.entry(level).or_default().pending = None;
                })?;
                return Err(error.into());
            }
        };
        let text = probed.outcome.text();
        let seconds = probed.elapsed.as_secs_f64();
        self.messages.status(&format!(
            "{}: {context} tokens ({}): {text}, {seconds:.1} s",
            target.id,
            level.as_str()
        ));
        let has_passed = probed.outcome == ProbeOutcome::Passed;
        self.update_record(target, |model| {
            let trial = model.trials.entry(level).or_default();
            trial.pending = None;
            let (passed, failed) = (trial.largest_passed, trial.smallest_failed);
            if has_passed {
                trial.largest_passed = Some(passed.map_or(context, |passed| passed.max(context)));
                trial.smallest_failed = failed.filter(|failed| *failed > context);
            } else {
                trial.smallest_failed = Some(failed.map_or(context, |failed| failed.min(context)));
                trial.largest_passed = passed.filter(|passed| *passed < context);
                trial.failure = Some(text.clone());
            }
        })?;
        result.probes.push(ProbeReport {
            depends_on_context: probed.outcome.depends_on_context(),
            context,
            level,
            outcome: probed.outcome.name(),
            text,
            prompt_tokens: probed.prompt_tokens,
            seconds,
        });
        Ok(probed.outcome)
    }

    /// Changes the registry's record of the model.
    fn update_record<T>(
        &self,
        target: &TestTarget,
        change: impl FnOnce(&mut ModelRecord) -> T,
    ) -> Result<T, Failure> {
        let (value, warnings) = self.store.update(|registry| {
            let engine = registry.engines.entry(target.engine.clone()).or_default();
            if engine.kind.is_empty() {
                target.kind.clone_into(&mut engine.kind);
            }
            change(registry.model_mut(&target.engine, &target.id))
        })?;
        for warning in &warnings {
            self.messages.warning(warning);
        }
        Ok(value)
    }

    fn trial(&self, target: &TestTarget, level: TestLevel) -> Result<ContextTrial, Failure> {
        let store = self.store.read()?;
        let model = store.registry.model(&target.engine, &target.id);
        Ok(model
            .and_then(|model| model.trials.get(&level))
            .cloned()
            .unwrap_or_default())
    }

    fn bounds(&self, target: &TestTarget, level: TestLevel) -> Result<ContextBounds, Failure> {
        let store = self.store.read()?;
        let model = store.registry.model(&target.engine, &target.id);
        Ok(model.map_or_else(ContextBounds::default, |model| context_bounds(model, level)))
    }

    fn print_dry_run(&self, target: &TestTarget, can_set_context: bool, model: &ModelRecord) {
        let (bounds, max_context) = (context_bounds(model, self.level), target.max_context);
        let small = SMALL_CONTEXT.min(max_context);
        let probes = if let Some(context) = self.args.context {
            match bounds.smallest_failed {
                Some(failed) if failed <= context && !self.args.force => format!(
                    "nothing: {failed} tokens failed in an earlier test; --force probes them again"
                ),
                _ => format!("only {context} tokens"),
            }
        } else if self.starts_with_small_context(bounds, small) {
            let bounds = ContextBounds {
                largest_passed: Some(small),
                smallest_failed: bounds.smallest_failed.filter(|failed| *failed > small),
            };
            match search::next_context(bounds, max_context) {
                Some(next) => format!(
                    "{small} tokens first, then {next} and up to {max_context}, in at most {} \
                     probes",
                    search::max_probes_left(bounds, max_context) + 1
                ),
                None => format!("only {small} tokens"),
            }
        } else {
            match search::next_context(bounds, max_context) {
                Some(context) => format!(
                    "{context} tokens first, then up to {max_context}, in at most {} probes",
                    search::max_probes_left(bounds, max_context)
                ),
                None => "nothing: the result is known; --reset starts over".to_owned(),
            }
        };
        let suffix = if can_set_context {
            ""
        } else {
            ", with the context length that the server has loaded"
        };
        self.messages.status(&format!(
            "{} at {}: would probe {probes} ({}){suffix}",
            target.id,
            target.engine,
            self.level.as_str()
        ));
    }
}

/// Returns the known bounds of a level. A context length that passes a level passes all
/// lower levels; one that fails a level fails all higher levels.
fn context_bounds(model: &ModelRecord, level: TestLevel) -> ContextBounds {
    let trial = |level: &TestLevel| model.trials.get(level);
    let this_and_higher = TestLevel::ALL.iter().filter(|other| **other >= level);
    let this_and_lower = TestLevel::ALL.iter().filter(|other| **other <= level);
    let smallest_failed = this_and_lower
        .filter_map(trial)
        .filter_map(|trial| trial.smallest_failed)
        .min();
    let largest_passed = this_and_higher
        .filter_map(trial)
        .filter_map(|trial| trial.largest_passed)
        .max();
    ContextBounds {
        largest_passed: largest_passed
            .filter(|passed| smallest_failed.is_none_or(|failed| *passed < failed)),
        smallest_failed,
    }
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

/// Clears the pending probe in the registry if the probe is cancelled.
struct PendingProbeGuard<'a> {
    tester: &'a ModelTester<'a>,
    target: &'a TestTarget,
    level: TestLevel,
    armed: bool,
}

impl Drop for PendingProbeGuard<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let level = self.level;
        let _unwritable = self.tester.update_record(self.target, |model| {
            model.trials.entry(level).or_default().pending = None;
        });
    }
}

/// Tolerance between the clocks of a process's start time and of the registry, in seconds.
const CLOCK_TOLERANCE_S: i64 = 5;

/// Returns whether the process that started a probe is still running. Process ids are
/// reused, from the first one after a reboot: a process that started later than the probe
/// is a different one.
#[cfg(unix)]
fn is_running(pending: &PendingProbe) -> bool {
    let Some(process) = i32::try_from(pending.process)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    pending.process != std::process::id()
        && !matches!(
            rustix::process::test_kill_process(process),
            Err(rustix::io::Errno::SRCH)
        )
        && engine::process_start_time(pending.process)
            .is_none_or(|start| start <= pending.at.as_second().saturating_add(CLOCK_TOLERANCE_S))
}

#[cfg(not(unix))]
fn is_running(pending: &PendingProbe) -> bool {
    let _ = pending;
    false
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
