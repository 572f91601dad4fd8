//! `test`: finds the largest context that really works.
//!
//! `search` says what to try next, `probe` tries it, `filling` makes the
//! prompts. What is known is written before each try, so that a machine that
//! dies of one remembers it.

mod filling;
mod probe;
mod search;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::models::{Start, print, print_json, shown, span, start, table};
use super::resolve_args;
use crate::args::{Model, Test};
use crate::engine::{self, Choice, EMBEDDED, Wanted, survey};
use crate::environment::Env;
use crate::error::{Exit, Failure, chain};
use crate::job::Interrupt;
use crate::registry::{Level, ModelRecord, Pending, Row, Sort, Store, Tested, Trial, sort};
use crate::sink::Messages;
use filling::Scale;
use probe::{Last, Outcome, Prober};
use search::Known;

/// How long a probe may take when nobody says otherwise.
const PROBE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The context at which it shows whether a model recalls anything at all.
const SMALL: u32 = 1024;
/// How long an unload may take at the end.
const UNLOAD_LIMIT: Duration = Duration::from_secs(30);
/// The same after Ctrl-C: whoever is interrupted has to leave within seconds.
const UNLOAD_LIMIT_INTERRUPTED: Duration = Duration::from_millis(1500);

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    schema: u32,
    results: Vec<Found>,
}

/// One model's result.
#[derive(Serialize)]
struct Found {
    model: String,
    engine: String,
    level: Level,
    context: Option<u32>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    probes: Vec<Tried>,
}

#[derive(Serialize)]
struct Tried {
    /// Whether the outcome is one of the context, and not of a bad day.
    #[serde(skip)]
    is_of_context: bool,
    context: u32,
    level: Level,
    outcome: &'static str,
    text: String,
    prompt_tokens: Option<u32>,
    seconds: f64,
}

/// Runs `test`.
///
/// # Errors
/// A wrong flag, no such model, an engine that is not there, or a model that
/// works with no context at all.
pub(crate) async fn test(
    args: Test,
    env: &Env,
    mut interrupt: Interrupt<'_>,
) -> Result<Exit, Failure> {
    let begun = start(&args.common, &args.engines, env)?;
    let messages = begun.messages;
    if args.prompt.is_some() || args.file_prompt.is_some() || args.fast {
        messages.warning(
            "--prompt, --file_prompt and --fast have no effect: `test` asks for a hidden key",
        );
    }
    let level = Level::from_name(&args.level).ok_or_else(|| {
        Failure::usage(format!(
            "--level `{}`: it takes loads, accepts or recalls",
            args.level
        ))
    })?;
    let limit = match &args.probe_timeout {
        None => Some(PROBE_LIMIT),
        Some(text) => crate::duration::parse(text)
            .map_err(|why| Failure::usage(format!("--probe-timeout: {why}")))?,
    };
    let choices = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Failure::interrupted()),
        it = choices(&args, &begun, env) => it?,
    };
    let several = choices.len() > 1;
    let mut results = Vec::new();
    for choice in choices {
        let name = choice.model.clone().unwrap_or_default();
        let mut tester = Tester {
            store: resolve_args::store(env),
            messages,
            args: &args,
            level,
            limit,
            last: Arc::default(),
        };
        let last = Arc::clone(&tester.last);
        let (tested, limit) = tokio::select! {
            biased;
            () = &mut interrupt => (Err(Failure::interrupted()), UNLOAD_LIMIT_INTERRUPTED),
            it = tester.model(choice) => (it, UNLOAD_LIMIT),
        };
        // Also after Ctrl-C: what was loaded for the test goes with it, and
        // what is still being loaded, too.
        unload(&last, limit, messages).await;
        match tested {
            Ok(found) => results.push(found),
            Err(failure) if several && failure.exit != Exit::Interrupted => {
                messages.error(&format!("{name}: {}", failure.message));
                results.push(Found {
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

/// Unloads what the test loaded.
async fn unload(last: &Last, limit: Duration, messages: Messages) {
    let unloader = last.lock().ok().and_then(|mut it| it.take());
    let Some(unloader) = unloader else {
        return;
    };
    match tokio::time::timeout(limit, unloader.unload()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => messages.warning(&chain(&error)),
        Err(_) => messages.warning(
            "the server did not unload the model in time; `ps` shows it, and `unload` takes it away",
        ),
    }
}

fn finish(args: &Test, results: Vec<Found>, env: &Env) -> Result<Exit, Failure> {
    let failed: Vec<String> = results
        .iter()
        .filter(|it| it.context.is_none() && !args.dry_run)
        .map(|it| it.model.clone())
        .collect();
    let several = results.len() > 1;
    if args.json {
        print_json(&Report { schema: 1, results }, env)?;
    } else if !args.dry_run {
        let rows = results.iter().map(|it| {
            vec![
                shown(&it.model, env),
                it.context
                    .map_or_else(|| "-".to_owned(), |it| it.to_string()),
                it.level.as_str().to_owned(),
                if it.complete { "" } else { "not complete" }.to_owned(),
            ]
        });
        print(&table(&["model", "context", "level", ""], rows.collect()))?;
    }
    match failed.as_slice() {
        [] => Ok(Exit::Done),
        [one] if !several => Err(Failure::new(
            Exit::Model,
            format!("`{one}` works with no context that was tried"),
        )
        .hint("-v says more; --level accepts asks for less")),
        some => Err(Failure::new(
            Exit::Broken,
            format!(
                "{} models work with no context that was tried: {}",
                some.len(),
                some.join(", ")
            ),
        )),
    }
}

/// One choice per model.
async fn choices(args: &Test, begun: &Start, env: &Env) -> Result<Vec<Choice>, Failure> {
    let model = |name: &str| Model {
        model: Some(name.to_owned()),
        engine: args.engines.engine.clone(),
        force: args.force,
        ..Model::default()
    };
    let messages = begun.messages;
    if !args.all {
        let name = args.model.as_deref().unwrap_or_default();
        let choice = resolve_args::choice(&model(name), env, &begun.config, begun.reach, messages)?;
        return Ok(vec![choice]);
    }
    let (by, reverse) = Sort::parse(&args.sort)
        .ok_or_else(|| Failure::usage(format!("--sort `{}`: there is no such order", args.sort)))?;
    let state = resolve_args::claims(env);
    let models = env.paths.data.join("models");
    let mut asked = survey(&begun.wanted, &models, &state, begun.reach, &mut |_| {}).await;
    if let Some(refused) = asked.refused.take()
        && asked.places.is_empty()
    {
        return Err(refused.into());
    }
    let known = resolve_args::known(env, messages);
    let records: Vec<(String, String, ModelRecord)> = asked
        .places
        .iter()
        .flat_map(|place| {
            let offers = place.models.iter().flatten().filter(|it| !it.embeds_only);
            offers.map(|it| {
                let record = known
                    .model(&place.place, &it.id)
                    .cloned()
                    .unwrap_or_default();
                let record = ModelRecord {
                    size_bytes: it.size_bytes.or(record.size_bytes),
                    declared_context: it.declared.or(record.declared_context),
                    ..record
                };
                (place.place.clone(), it.id.clone(), record)
            })
        })
        .collect();
    let has_keys = |model: &ModelRecord| {
        let words = args.key.iter().flat_map(|it| it.split(','));
        words.map(str::trim).all(|it| model.has_keyword(it))
    };
    let mut rows: Vec<Row<'_>> = records
        .iter()
        .filter(|(_, _, model)| has_keys(model))
        .map(|(engine, id, model)| Row {
            engine,
            id,
            model,
            fits: true,
        })
        .collect();
    sort(&mut rows, by, reverse);
    rows.iter()
        .map(|row| {
            let choice =
                resolve_args::choice(&model(row.id), env, &begun.config, begun.reach, messages)?;
            let wanted = match (&choice.wanted, row.engine) {
                (_, EMBEDDED) => Wanted::Embedded,
                (Wanted::Servers(all) | Wanted::Auto(all), engine) => Wanted::Servers(
                    all.iter()
                        .filter(|it| it.base() == engine)
                        .cloned()
                        .collect(),
                ),
                (Wanted::Embedded, _) => Wanted::Embedded,
            };
            Ok(Choice { wanted, ..choice })
        })
        .collect()
}

/// Tests one model.
struct Tester<'a> {
    store: Store,
    messages: Messages,
    args: &'a Test,
    level: Level,
    limit: Option<Duration>,
    /// What takes the last instance away.
    last: Last,
}

/// The model as it was chosen.
struct Subject {
    place: String,
    kind: &'static str,
    id: String,
    /// How far this test goes.
    most: u32,
    /// How far any could go.
    top: u32,
}

impl Tester<'_> {
    async fn model(&mut self, choice: Choice) -> Result<Found, Failure> {
        // What nobody checked yet: that it is there at all.
        let chosen = engine::choose(Choice {
            context: None,
            ..choice.clone()
        })
        .await?;
        let loads = chosen.loads_with_context();
        let declared = if loads {
            chosen.declared_context()
        } else {
            chosen.context()
        };
        let most = match (declared, self.args.context.or(self.args.max_context)) {
            (Some(declared), Some(asked)) if self.args.force => {
                asked.max(1).min(declared.max(asked))
            }
            (Some(declared), Some(asked)) => asked.min(declared),
            (Some(declared), None) => declared,
            (None, Some(asked)) => asked,
            (None, None) => {
                return Err(Failure::usage(format!(
                    "{} does not say how much context `{}` was made for",
                    chosen.shown(),
                    chosen.model
                ))
                .hint("--max-context N says how far to go"));
            }
        };
        let subject = Subject {
            place: chosen.place().to_owned(),
            kind: chosen.engine(),
            id: chosen.model.clone(),
            most: most.max(1),
            top: declared.unwrap_or(u32::MAX).max(most),
        };
        if let (Some(asked), Some(declared)) = (self.args.context, declared)
            && asked > declared
            && !self.args.force
        {
            return Err(Failure::usage(format!(
                "`{}` was made for {declared} tokens of context, and --context is {asked}",
                subject.id
            ))
            .hint("--force tries it all the same"));
        }
        let (architecture, quantization) = (
            chosen.architecture().map(str::to_owned),
            chosen.quantization(),
        );
        let declared_context = chosen.declared_context();
        if let Some(context) = chosen.would_replace() {
            self.messages.warning(&format!(
                "somebody else has loaded `{}`{}; {} keeps one of each model, so that the test \
                 takes it away",
                subject.id,
                context.map_or_else(String::new, |it| format!(" with {it} tokens of context")),
                chosen.shown()
            ));
        }
        if self.args.dry_run {
            let known = self.store.read()?.registry;
            let mut model = known
                .model(&subject.place, &subject.id)
                .cloned()
                .unwrap_or_default();
            let _said_by_the_real_run = self.begin(&mut model);
            self.say_what_would_be(&subject, loads, &model);
            return Ok(self.nothing_yet(&subject));
        }
        let dead = self.change(&subject, |model| {
            model.architecture = architecture.or(model.architecture.take());
            model.quantization = quantization.or(model.quantization.take());
            model.declared_context = declared_context.or(model.declared_context);
            self.begin(model)
        })?;
        for (level, pending) in dead {
            self.messages.warning(&format!(
                "an earlier test of `{}` with {} tokens ({}) did not come back; that context \
                 counts as bad, and --force or `reset` forgets it",
                subject.id,
                pending.context,
                level.as_str()
            ));
        }
        let mut prober = Prober {
            choice,
            loads,
            limit: self.limit,
            scale: Scale::default(),
            unloader: Arc::clone(&self.last),
            number: 0,
        };
        self.search(&subject, &mut prober).await
    }

    /// What is forgotten and what is learnt of earlier tests before this one:
    /// a probe that has begun and whose process is gone took it along.
    fn begin(&self, model: &mut ModelRecord) -> Vec<(Level, Pending)> {
        if self.args.reset {
            model.forget_tests();
        }
        let mut dead = Vec::new();
        for (level, trial) in &mut model.trials {
            let Some(pending) = trial.pending.take_if(|it| !is_running(it)) else {
                continue;
            };
            trial.bad = Some(
                trial
                    .bad
                    .map_or(pending.context, |it| it.min(pending.context)),
            );
            trial.why = Some("the program, or the machine, did not survive it".to_owned());
            dead.push((*level, pending));
        }
        if self.args.force && self.args.context.is_none() {
            // What failed in an earlier run is tried again.
            for trial in model.trials.values_mut() {
                trial.bad = None;
                trial.why = None;
            }
        }
        dead
    }

    fn nothing_yet(&self, subject: &Subject) -> Found {
        Found {
            model: subject.id.clone(),
            engine: subject.place.clone(),
            level: self.level,
            context: None,
            complete: false,
            note: None,
            error: None,
            probes: Vec::new(),
        }
    }

    async fn search(&self, subject: &Subject, prober: &mut Prober) -> Result<Found, Failure> {
        let mut found = self.nothing_yet(subject);
        if let Some(context) = self.args.context {
            return self.one(subject, prober, context, found).await;
        }
        self.settle_level(subject, prober, &mut found).await?;
        let level = found.level;
        self.say_what_bounds(subject, &found)?;
        loop {
            let known = self.known(subject, level)?;
            let Some(context) = search::next(known, subject.most) else {
                found.context = known.good;
                // One that --max-context cut says nothing of what is above.
                found.complete = search::next(known, subject.top).is_none();
                break;
            };
            let left = search::probes_left(known, subject.most);
            self.messages.status(&format!(
                "{}: tries {context} tokens ({}); at most {left} probes to go{}",
                subject.id,
                level.as_str(),
                self.remaining(&found, context, left)
            ));
            self.try_one(subject, prober, context, level, &mut found)
                .await?;
        }
        let tested = found.context.map(|context| Tested {
            context,
            level: Some(level),
            at: Some(Timestamp::now()),
            complete: found.complete,
        });
        let run = Run {
            tried: !found.probes.is_empty(),
            is_of_context: found
                .probes
                .iter()
                .any(|it| it.level == level && it.is_of_context),
        };
        self.change(subject, |model| {
            let bad = bounds(model, level).bad;
            model.tested = result(model.tested.take(), tested, run, bad);
        })?;
        Ok(found)
    }

    /// What a model cannot do with little context it cannot do with more: then
    /// less is asked for.
    async fn settle_level(
        &self,
        subject: &Subject,
        prober: &mut Prober,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let small = SMALL.min(subject.most);
        if self.level != Level::Recalls
            || !self.begins_small(self.known(subject, self.level)?, small)
        {
            return Ok(());
        }
        let outcome = self
            .try_one(subject, prober, small, Level::Recalls, found)
            .await?;
        let note = match outcome {
            Outcome::Wrong(_) => {
                found.level = Level::Accepts;
                format!(
                    "`{}` cannot recall a key even from {small} tokens; what it accepts is tested \
                     instead",
                    subject.id
                )
            }
            // Fewer tokens may do; the search goes there.
            Outcome::Refused(why) if why.is_of_context => return Ok(()),
            Outcome::Refused(why) => {
                let outcome = self
                    .try_one(subject, prober, small, Level::Accepts, found)
                    .await?;
                let (level, instead) = match outcome {
                    Outcome::Refused(why) if !why.is_of_context => {
                        (Level::Loads, "with what it loads")
                    }
                    _ => (Level::Accepts, "what it accepts"),
                };
                found.level = level;
                format!(
                    "`{}` was to recall a key from {small} tokens, and gave no answer ({}); \
                     {instead} is tested instead",
                    subject.id, why.text
                )
            }
            _ => return Ok(()),
        };
        self.messages.warning(&note);
        found.note = Some(note);
        Ok(())
    }

    /// Whether the first probe is the small one.
    fn begins_small(&self, known: Known, small: u32) -> bool {
        self.level == Level::Recalls && known.good.is_none_or(|it| it < small)
    }

    /// What failed in an earlier test ends this one sooner, which must not
    /// pass for a result of today.
    fn say_what_bounds(&self, subject: &Subject, found: &Found) -> Result<(), Failure> {
        let store = self.store.read()?;
        let Some(model) = store.registry.model(&subject.place, &subject.id) else {
            return Ok(());
        };
        let trials = model.trials.iter().filter(|(it, _)| **it <= found.level);
        let smallest = trials
            .filter_map(|(_, trial)| Some((trial.bad?, trial.why.as_deref())))
            .min_by_key(|(bad, _)| *bad);
        if let Some((bad, why)) = smallest
            && bad <= subject.most
            && found.probes.iter().all(|it| it.context != bad)
        {
            self.messages.status(&format!(
                "{}: {bad} tokens and more count as bad since an earlier test ({}); --force tries \
                 them again",
                subject.id,
                why.unwrap_or("it failed")
            ));
        }
        Ok(())
    }

    /// What the probes still to come may take, by the time of the last one.
    fn remaining(&self, found: &Found, context: u32, left: u32) -> String {
        match found.probes.last() {
            Some(last) if last.seconds > 1.0 => {
                let each = last.seconds * f64::from(context) / f64::from(last.context.max(1));
                let seconds = (each * f64::from(left)).min(1e6);
                format!(", about {}", span(Duration::from_secs_f64(seconds)))
            }
            _ => String::new(),
        }
    }

    /// `--context N`: one probe alone.
    async fn one(
        &self,
        subject: &Subject,
        prober: &mut Prober,
        context: u32,
        mut found: Found,
    ) -> Result<Found, Failure> {
        let bad = self.known(subject, self.level)?.bad;
        if let Some(bad) = bad.filter(|bad| *bad <= context && !self.args.force) {
            let why = self
                .trial(subject, self.level)?
                .why
                .unwrap_or_else(|| "it failed".to_owned());
            return Err(Failure::new(
                Exit::Model,
                format!("`{}` with {bad} tokens is known as bad: {why}", subject.id),
            )
            .hint("--force tries it all the same, `reset` forgets it"));
        }
        let outcome = self
            .try_one(subject, prober, context, self.level, &mut found)
            .await?;
        found.complete = outcome == Outcome::Works;
        found.context = found.complete.then_some(context);
        let level = self.level;
        if found.complete {
            self.change(subject, |model| {
                // One probe says that so much works, not that more does not.
                if model.tested.as_ref().is_none_or(|it| it.context < context) {
                    model.tested = Some(Tested {
                        context,
                        level: Some(level),
                        at: Some(Timestamp::now()),
                        complete: false,
                    });
                }
            })?;
        }
        Ok(found)
    }

    /// One probe, remembered before and after.
    async fn try_one(
        &self,
        subject: &Subject,
        prober: &mut Prober,
        context: u32,
        level: Level,
        found: &mut Found,
    ) -> Result<Outcome, Failure> {
        let pending = Pending {
            context,
            process: std::process::id(),
            at: Timestamp::now(),
        };
        self.change(subject, |model| {
            model.trials.entry(level).or_default().pending = Some(pending);
        })?;
        // Ctrl-C drops this future: what was interrupted is no failure.
        let mut interrupted = Interrupted {
            tester: self,
            subject,
            level,
            armed: true,
        };
        let probed = prober.probe(context, level).await;
        interrupted.armed = false;
        let probed = match probed {
            Ok(probed) => probed,
            Err(error) => {
                self.change(subject, |model| {
                    model.trials.entry(level).or_default().pending = None;
                })?;
                return Err(error.into());
            }
        };
        let text = probed.outcome.text();
        let seconds = probed.took.as_secs_f64();
        self.messages.status(&format!(
            "{}: {context} tokens ({}): {text}, {seconds:.1} s",
            subject.id,
            level.as_str()
        ));
        let works = probed.outcome == Outcome::Works;
        self.change(subject, |model| {
            let trial = model.trials.entry(level).or_default();
            trial.pending = None;
            if works {
                trial.good = Some(trial.good.map_or(context, |it| it.max(context)));
                trial.bad = trial.bad.filter(|it| *it > context);
            } else {
                trial.bad = Some(trial.bad.map_or(context, |it| it.min(context)));
                trial.good = trial.good.filter(|it| *it < context);
                trial.why = Some(text.clone());
            }
        })?;
        found.probes.push(Tried {
            is_of_context: probed.outcome.is_of_context(),
            context,
            level,
            outcome: probed.outcome.word(),
            text,
            prompt_tokens: probed.prompt_tokens,
            seconds,
        });
        Ok(probed.outcome)
    }

    fn change<T>(
        &self,
        subject: &Subject,
        change: impl FnOnce(&mut ModelRecord) -> T,
    ) -> Result<T, Failure> {
        let (given, warnings) = self.store.update(|registry| {
            let engine = registry.engines.entry(subject.place.clone()).or_default();
            if engine.kind.is_empty() {
                subject.kind.clone_into(&mut engine.kind);
            }
            change(registry.model_mut(&subject.place, &subject.id))
        })?;
        for warning in &warnings {
            self.messages.warning(warning);
        }
        Ok(given)
    }

    fn trial(&self, subject: &Subject, level: Level) -> Result<Trial, Failure> {
        let known = self.store.read()?;
        let model = known.registry.model(&subject.place, &subject.id);
        Ok(model
            .and_then(|it| it.trials.get(&level))
            .cloned()
            .unwrap_or_default())
    }

    fn known(&self, subject: &Subject, level: Level) -> Result<Known, Failure> {
        let store = self.store.read()?;
        let model = store.registry.model(&subject.place, &subject.id);
        Ok(model.map_or_else(Known::default, |it| bounds(it, level)))
    }

    fn say_what_would_be(&self, subject: &Subject, loads: bool, model: &ModelRecord) {
        let (known, most) = (bounds(model, self.level), subject.most);
        let small = SMALL.min(most);
        let what = if let Some(context) = self.args.context {
            match known.bad {
                Some(bad) if bad <= context && !self.args.force => {
                    format!("nothing, since {bad} tokens are known as bad; --force tries them")
                }
                _ => format!("{context} tokens alone"),
            }
        } else if self.begins_small(known, small) {
            let known = Known {
                good: Some(small),
                bad: known.bad.filter(|it| *it > small),
            };
            match search::next(known, most) {
                Some(then) => format!(
                    "{small} tokens first, then {then} and up to {most}, in at most {} probes",
                    search::probes_left(known, most) + 1
                ),
                None => format!("{small} tokens alone"),
            }
        } else {
            match search::next(known, most) {
                Some(context) => format!(
                    "{context} tokens first, then up to {most}, in at most {} probes",
                    search::probes_left(known, most)
                ),
                None => "nothing, since all is known; --reset begins anew".to_owned(),
            }
        };
        let how = if loads {
            ""
        } else {
            ", as the server has loaded it"
        };
        self.messages.status(&format!(
            "{} at {}: would try {what} ({}){how}",
            subject.id,
            subject.place,
            self.level.as_str()
        ));
    }
}

/// What bounds the search: what recalls also accepts and loads, and what does
/// not load does neither.
fn bounds(model: &ModelRecord, level: Level) -> Known {
    let trials = |it: &Level| model.trials.get(it);
    let goods = Level::ALL.iter().filter(|it| **it >= level);
    let bads = Level::ALL.iter().filter(|it| **it <= level);
    let bad = bads.filter_map(trials).filter_map(|it| it.bad).min();
    let good = goods.filter_map(trials).filter_map(|it| it.good).max();
    Known {
        good: good.filter(|good| bad.is_none_or(|bad| *good < bad)),
        bad,
    }
}

/// What a search did, as far as its result is concerned.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// It tried anything at all.
    tried: bool,
    /// Some outcome was one of the context.
    is_of_context: bool,
}

/// What is remembered after a search. A search that went less far, or that a
/// server's bad day ended, takes nothing back; `bad` is the smallest context
/// that is known not to work.
fn result(old: Option<Tested>, new: Option<Tested>, run: Run, bad: Option<u32>) -> Option<Tested> {
    let Some(old) = old else {
        return new;
    };
    let is_refuted = bad.is_some_and(|it| it <= old.context);
    let Some(new) = new else {
        return (!(run.is_of_context && is_refuted)).then_some(old);
    };
    // The Python program's tests showed no more than that.
    let level = |it: &Tested| it.level.unwrap_or(Level::Loads);
    if old.context > new.context && level(&old) >= level(&new) && !is_refuted {
        return Some(old);
    }
    if !run.tried && (old.context, old.level) == (new.context, new.level) {
        return Some(Tested {
            complete: new.complete,
            ..old
        });
    }
    Some(new)
}

/// Takes back that a probe has begun, when it is dropped in the middle.
struct Interrupted<'a> {
    tester: &'a Tester<'a>,
    subject: &'a Subject,
    level: Level,
    armed: bool,
}

impl Drop for Interrupted<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let level = self.level;
        let _unwritable = self.tester.change(self.subject, |model| {
            model.trials.entry(level).or_default().pending = None;
        });
    }
}

/// By how much two clocks may differ that say when a process began, in seconds.
const CLOCKS_S: i64 = 5;

/// Whether the process that began a probe is still there. Numbers are given
/// again, after a restart of the machine from the first one on: one that began
/// later than the probe is another.
#[cfg(unix)]
fn is_running(pending: &Pending) -> bool {
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
        && engine::process_began(pending.process)
            .is_none_or(|it| it <= pending.at.as_second().saturating_add(CLOCKS_S))
}

#[cfg(not(unix))]
fn is_running(pending: &Pending) -> bool {
    let _ = pending;
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_takes_back_only_what_it_refutes() {
        use Level::{Accepts, Loads, Recalls};
        let tested = |context: u32, level: Level, complete: bool| Tested {
            context,
            level: Some(level),
            at: None,
            complete,
        };
        let old = tested(30_000, Recalls, true);
        let python = Tested {
            level: None,
            ..old.clone()
        };
        let cut = tested(4096, Recalls, false);
        let run = |tried: bool, is_of_context: bool| Run {
            tried,
            is_of_context,
        };
        let all = run(true, true);
        for (number, (old, new, run, bad, expected)) in [
            (None, Some(&cut), all, None, Some(&cut)),
            (None, None, all, Some(64), None),
            // Cut by --max-context.
            (Some(&old), Some(&cut), all, None, Some(&old)),
            (Some(&old), Some(&cut), all, Some(30_001), Some(&old)),
            (Some(&old), Some(&cut), all, Some(4200), Some(&cut)),
            (Some(&python), Some(&cut), all, None, Some(&cut)),
            (
                Some(&tested(30_000, Loads, true)),
                Some(&tested(4096, Accepts, true)),
                all,
                None,
                Some(&tested(4096, Accepts, true)),
            ),
            // Nothing worked: of the context, or of a bad day.
            (Some(&old), None, all, Some(64), None),
            (Some(&old), None, run(true, false), Some(64), Some(&old)),
            (Some(&old), None, all, None, Some(&old)),
        ]
        .into_iter()
        .enumerate()
        {
            let found = result(old.cloned(), new.cloned(), run, bad);
            assert_eq!(found.as_ref(), expected, "case {number}");
        }
        // One that tried nothing leaves the time as it was.
        let now = Tested {
            at: Some(Timestamp::now()),
            ..old.clone()
        };
        let found = result(
            Some(old.clone()),
            Some(now.clone()),
            run(false, false),
            None,
        );
        assert_eq!(found.unwrap().at, None);
        let found = result(Some(old), Some(now), all, None);
        assert!(found.unwrap().at.is_some());
    }
}
