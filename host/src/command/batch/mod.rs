//! `batch`: models × prompts × inputs, resumable.
//!
//! In the order of the way through: `intent` (what is wanted), `field` (which
//! models there are), `planning` (the jobs; `packs` resolves their prompts),
//! `dry` (what would be done), `run` (model after model), `pool` (the jobs of
//! one), `one` (one job), `trouble` (whose failure it is), `summary` (what came of
//! it). `status`, `export` and `merge` look at folders where a batch ran.

mod dry;
mod export;
mod field;
mod intent;
mod merge;
mod one;
mod packs;
mod planning;
mod pool;
mod run;
mod status;
mod summary;
mod trouble;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fs_err as fs;
use jiff::Timestamp;
use tokio::sync::watch;

use super::asking;
use crate::args::{
    self, After, Batch, BatchRun, Common, Model as ModelFlags, Patience, Results as ResultFlags,
    Sampling,
};
use crate::batch::{
    self, Committer, Context as ContextRecord, Decision, Done, End, Journal, Kept, Lock, LogItem,
    Past, Plan, Record, Run, Wish, fit, print,
};
use crate::engine::{self, Context};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::pipeline::Interrupt;
use crate::sink::{Board, Messages, ResultFile, Style};
use field::Model;
use intent::Manner;
use planning::{Job, Stuff};
use run::{Loading, Runner, Shared, Stop};

/// What interrupts a batch: the first lets the running jobs end, the second ends
/// them, too.
pub(crate) struct Interrupts<'a> {
    pub(crate) first: Interrupt<'a>,
    pub(crate) second: Interrupt<'a>,
}

/// Runs `batch` and what belongs to it.
///
/// # Errors
/// A plan that cannot be made, a folder that cannot be used; that jobs failed is
/// an exit code.
pub(crate) async fn batch(
    args: Batch,
    env: &Env,
    interrupts: Interrupts<'_>,
) -> Result<Exit, Failure> {
    match args.after {
        Some(After::Status(args)) => status::status(&args, env),
        Some(After::Export(args)) => export::export(&args),
        Some(After::Merge(args)) => merge::merge(&args, env),
        Some(After::Retry(args)) => retry(args, env, interrupts).await,
        None => batch_run(args.run, env, interrupts).await,
    }
}

async fn batch_run(args: BatchRun, env: &Env, interrupts: Interrupts<'_>) -> Result<Exit, Failure> {
    let plan = intent::plan(&args)?;
    if args.jobs.print_plan {
        let printed = print(&intent::with_sampling(&plan, &args.sampling)?);
        let text = printed.map_err(Failure::usage)?;
        super::models::print(&text)?;
        return Ok(Exit::Done);
    }
    let shard = args.jobs.shard.as_deref();
    let mut manner = intent::manner(&args.way, &args.results, shard, env)?;
    manner.force = args.jobs.force;
    let whole = Whole {
        plan,
        sampling: args.sampling,
        patience: args.patience,
        manner,
        common: args.common,
        shard: args.jobs.shard,
    };
    whole.run(env, interrupts).await
}

/// What a folder's own plan says is run again, where it failed.
async fn retry(args: args::Retry, env: &Env, interrupts: Interrupts<'_>) -> Result<Exit, Failure> {
    let past = batch::read(&args.dir)?;
    if past.head.is_none() {
        return Err(batch::JournalError::Absent { folder: args.dir }.into());
    }
    let Some(run) = &past.run else {
        return Err(Failure::usage(format!(
            "the journal in {} has no plan",
            args.dir.display()
        )));
    };
    let shown = args.dir.join(batch::JOURNAL);
    let mut plan = batch::parse(&run.plan, &shown, Path::new(""))?;
    // The folder may have been moved.
    plan.out = Some(args.dir.clone());
    // Settings that were typed then are in the plan.
    let results = ResultFlags::default();
    let mut manner = intent::manner(&args.way, &results, run.shard.as_deref(), env)?;
    manner.force = args.force;
    manner.only_own_plan = true;
    let whole = Whole {
        plan,
        sampling: Sampling::default(),
        patience: args.patience,
        manner,
        common: args.common,
        shard: run.shard.clone(),
    };
    whole.run(env, interrupts).await
}

/// A run, as it is wanted.
struct Whole {
    plan: Plan,
    sampling: Sampling,
    patience: Patience,
    manner: Manner,
    common: Common,
    shard: Option<String>,
}

impl Whole {
    async fn run(self, env: &Env, mut interrupts: Interrupts<'_>) -> Result<Exit, Failure> {
        let Self {
            plan,
            sampling,
            patience,
            manner,
            common,
            shard,
        } = self;
        let start = Instant::now();
        let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
        asking::warn_of_unknown_variables(env, messages);
        if plan.prompts.is_empty() {
            return Err(Failure::usage("the plan has no prompts")
                .hint("-P NAME names one, [[prompt]] in a plan file, too"));
        }
        let Some(out) = plan.out.clone().filter(|it| !it.as_os_str().is_empty()) else {
            return Err(Failure::usage("the plan has no folder for the results")
                .hint("-o DIR names it, `out` in a plan file, too"));
        };
        let config = asking::config(&common, env)?;
        let (limits, connect) = asking::limits(&patience, env, &config)?;
        // Before anything is asked of anybody: another run, or a folder that
        // cannot be written, shows now.
        let lock = if manner.dry_run {
            None
        } else {
            Some(Lock::take(&out)?)
        };
        let past = batch::read(&out)?;
        if past.garbage > 0 {
            messages.warning(&format!(
                "{} lines of the journal in {} make no sense and are passed over",
                past.garbage,
                out.display()
            ));
        }
        let first = interrupts.first.as_mut();
        let models = field::models(&plan, manner.force, env, &config, messages, first).await?;
        let stuff = Stuff::new(&plan, models, &sampling, env, &config, messages)?;
        let planning = planning::plan_jobs(&stuff, &plan, &manner, &past, &out, messages);
        let planning = run::until(interrupts.first.as_mut(), planning).await?;
        for warning in &planning.warnings {
            messages.warning(warning);
        }
        let by_pattern = |it: &String| it == "all" || batch::is_pattern(it);
        if manner.shard.is_some() && (plan.models.is_empty() || plan.models.iter().any(by_pattern))
        {
            messages.warning(
                "--shard splits the models that are found here; all machines must find the same, \
                 so better name each with -m",
            );
        }
        unreached(&planning.jobs, &past, &manner, messages);
        let contexts = contexts(&stuff, &planning.jobs, &past);
        tell_skipped(&planning.jobs, messages);
        if manner.dry_run {
            return dry::show(&stuff, &planning, &contexts, &manner, &out, env);
        }
        let registry = asking::known(env, messages);
        let flags = ModelFlags {
            force: manner.force,
            ..ModelFlags::default()
        };
        let loading = Loading {
            life: asking::life(&flags, env, &registry),
            reach: engine::Reach {
                connect,
                load: limits.load,
            },
            models_folder: env.paths.data.join("models"),
            contexts: contexts.iter().map(|it| it.asked).collect(),
            fits: stuff.models.iter().map(|it| it.wish == Wish::Fit).collect(),
        };
        let mut journal = Journal::open(&out)?;
        if past.head.is_none() {
            journal.begin(planning.template.as_str(), Timestamp::now())?;
        }
        let mut kept_plan = intent::absolute(&intent::with_sampling(&plan, &sampling)?);
        // `retry` means these models, and not those that there are then.
        kept_plan.models = stuff.models.iter().map(|it| it.id.clone()).collect();
        let mut by_model: BTreeMap<String, usize> = BTreeMap::new();
        for job in &planning.jobs {
            let label = stuff.model(job.cell).map(|it| it.label.clone());
            *by_model.entry(label.unwrap_or_default()).or_default() += 1;
        }
        journal.append(&Record::Run(Box::new(Run {
            at: Timestamp::now(),
            plan: print(&kept_plan).map_err(Failure::usage)?,
            shard: shard.clone(),
            jobs: by_model,
        })))?;
        for it in contexts.iter().filter_map(|it| it.new.clone()) {
            journal.append(&Record::Context(it))?;
        }
        let mut jobs = planning.jobs;
        let adopted = adopt(&mut jobs, &stuff, &past, &out, &mut journal)?;
        if adopted > 0 {
            messages.status(&format!(
                "{adopted} results were complete when an earlier run was killed, and count"
            ));
        }
        leftovers(&stuff, &jobs, &past, &loading, env, &mut journal, messages).await;
        let to_run = jobs.iter().filter(|it| it.runs()).count();
        let skipped = jobs.len() - to_run;
        let board = Arc::new(Mutex::new(Board::new(manner.style, common.quiet)));
        if let Ok(mut board) = board.lock() {
            board.begin(to_run, skipped);
        }
        let committer = Committer::start(&out, journal.another()?)?;
        let (cancel, cancelled) = watch::channel(false);
        let shared = Shared {
            stuff: &stuff,
            jobs: &jobs,
            out: &out,
            results: plan.results,
            limits,
            store: asking::store(env),
            board: Arc::clone(&board),
            pieces: Arc::new(AtomicU64::new(0)),
            journal: RefCell::new(journal),
            committer,
            cancel: cancelled,
            said: RefCell::new(BTreeSet::new()),
        };
        let mut runner = Runner {
            shared: &shared,
            manner: &manner,
            loading: &loading,
            past: &past,
            interrupts: Interrupts {
                first: interrupts.first.as_mut(),
                second: interrupts.second.as_mut(),
            },
            has_first: false,
            has_second: false,
            cancel,
            stop: None,
            totals: Vec::new(),
        };
        runner.run().await;
        let Runner { stop, totals, .. } = runner;
        let Shared {
            committer,
            journal,
            store,
            ..
        } = shared;
        if let Ok(mut board) = board.lock() {
            board.finish();
        }
        let safe = committer.finish();
        let done: usize = totals.iter().map(|it| it.done).sum();
        let failed: usize = totals.iter().map(|it| it.failed).sum();
        let mut journal = journal.into_inner();
        let ended = journal
            .append(&Record::End(End {
                at: Timestamp::now(),
                done,
                failed,
                left: to_run.saturating_sub(done + failed),
                seconds: start.elapsed().as_secs_f64(),
                why: stop.as_ref().map(|it| summary::why(it).to_owned()),
            }))
            .and_then(|()| journal.sync());
        // What the runs taught becomes known; a registry that cannot be written
        // does not make the results worse.
        if let Err(error) = store.update(|_| ()) {
            messages.warning(&crate::error::chain(&error));
        }
        drop(lock);
        if manner.style != Style::Json {
            summary::show(&stuff, &totals, to_run, env)?;
        }
        match stop {
            Some(Stop::Fatal(failure)) => return Err(failure),
            _ => safe?,
        }
        ended?;
        summary::exit(stop.as_ref(), done, failed, to_run, &out)
    }
}

/// How much context a model is loaded with.
pub(super) struct ModelContext {
    /// What is asked for; `None` leaves it to the server.
    pub(super) asked: Option<Context>,
    /// In tokens, where it is known.
    pub(super) tokens: Option<u32>,
    /// What the journal does not know yet.
    new: Option<ContextRecord>,
}

/// The contexts of all models. What a run before this one took is kept, as long
/// as no prompt is longer than its longest: estimates move, and must not load a
/// model anew.
fn contexts(stuff: &Stuff, jobs: &[Job], past: &Past) -> Vec<ModelContext> {
    let of_model = |(index, model): (usize, &Model)| {
        let asked = match model.wish {
            Wish::Tokens(tokens) => Context::Tokens(tokens),
            Wish::Percent(percent) => Context::Percent(percent),
            Wish::Fit => {
                let own = || jobs.iter().filter(|it| it.cell.model == index);
                let longest = own().map(|it| it.prompt_bytes).max().unwrap_or(0);
                let answer = own().map(|it| it.need.answer).max().unwrap_or(0);
                let known = past
                    .contexts
                    .get(&(model.place.clone(), model.id.clone()))
                    .filter(|it| it.prompt_bytes >= longest && it.answer_tokens >= answer);
                if let Some(known) = known {
                    return ModelContext {
                        asked: Some(Context::Tokens(known.context)),
                        tokens: Some(known.context),
                        new: None,
                    };
                }
                let need = own().map(|it| it.need.context).max().unwrap_or(0);
                let tokens = fit(need, model.most_context);
                return ModelContext {
                    asked: Some(Context::Tokens(tokens)),
                    tokens: Some(tokens),
                    new: Some(ContextRecord {
                        engine: model.place.clone(),
                        model: model.id.clone(),
                        context: tokens,
                        prompt_bytes: longest,
                        answer_tokens: answer,
                    }),
                };
            }
        };
        ModelContext {
            asked: Some(asked),
            tokens: match (asked, model.most_context) {
                (Context::Tokens(tokens), _) => Some(tokens),
                (Context::Percent(percent), Some(most)) => {
                    u32::try_from(u64::from(most) * u64::from(percent) / 100).ok()
                }
                (Context::Percent(_), None) => None,
            },
            new: None,
        }
    };
    stuff.models.iter().enumerate().map(of_model).collect()
}

/// Failures of the folder that its last plan does not have any more: another plan
/// or part ran there, too.
fn unreached(jobs: &[Job], past: &Past, manner: &Manner, messages: Messages) {
    if !manner.only_own_plan {
        return;
    }
    let is_failed = |known: &batch::Known| matches!(known.state, batch::State::Failed(_));
    let names: BTreeSet<&str> = jobs.iter().map(|it| it.name.as_str()).collect();
    let failed = past.jobs.iter().filter(|(_, known)| is_failed(known));
    let others: Vec<&str> = failed
        .map(|(name, _)| name.as_str())
        .filter(|name| !names.contains(name))
        .collect();
    if let Some(first) = others.first() {
        messages.warning(&format!(
            "{} that failed here are of another plan or part, and are not run again: {first}{}; \
             its own command runs them",
            super::models::count(others.len(), "job"),
            if others.len() > 1 { ", …" } else { "" }
        ));
    }
}

/// What is left alone, and why.
fn tell_skipped(jobs: &[Job], messages: Messages) {
    let names = |is: fn(&Decision) -> bool| {
        let names = jobs
            .iter()
            .filter(|it| is(&it.decision))
            .map(|it| it.name.as_str());
        names.collect::<Vec<_>>()
    };
    let tell = |names: &[&str], one: &str| {
        if let Some(first) = names.first() {
            let others = match names.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            messages.warning(&format!("{first}{others}: {one}"));
        }
    };
    tell(
        &names(|it| matches!(it, Decision::KeepChanged)),
        "prompt, pack, setting or input is another now than when it was made; it stays \
         (--changed rerun runs it again)",
    );
    tell(
        &names(|it| matches!(it, Decision::KeepAltered)),
        "somebody changed the file; it stays (--changed rerun runs it again and keeps the old one \
         beside it)",
    );
    tell(
        &names(|it| matches!(it, Decision::Foreign)),
        "a file of this name is there that no run wrote; it is left as it is, and its job not run",
    );
}

/// Answers that were complete when a run was killed: their results get their
/// names, if they have not got them, and count.
fn adopt(
    jobs: &mut [Job],
    stuff: &Stuff,
    past: &Past,
    out: &Path,
    journal: &mut Journal,
) -> Result<usize, Failure> {
    let mut adopted = Vec::new();
    for job in jobs {
        let Decision::Adopt(kept, file) = &job.decision else {
            continue;
        };
        let target = out.join(&job.name);
        // The result before this one, if a kill came before it was replaced.
        let older = past.jobs.get(&job.name).and_then(|it| it.kept.as_ref());
        if settle(kept, older, &target, &out.join(file)) {
            ResultFile::tidy(&target);
            adopted.push(Record::Done(Box::new(Done {
                job: job.name.clone(),
                identity: kept.identity.clone(),
                key: job.key.clone(),
                length: kept.length,
                sha256: kept.sha256.clone(),
                at: Timestamp::now(),
                of: stuff.of(job.cell),
                prompt_bytes: job.prompt_bytes,
                need: job.need.context,
                adopted: true,
                ..Done::default()
            })));
            job.decision = Decision::Skip;
        } else {
            job.decision = Decision::Run {
                why: batch::Reason::Unfinished,
                ours: !target.exists(),
            };
        }
    }
    for record in &adopted {
        journal.append(record)?;
    }
    if !adopted.is_empty() {
        journal.sync()?;
    }
    Ok(adopted.len())
}

/// Whether the whole answer is there, under its own name in the end.
fn settle(kept: &Kept, older: Option<&Kept>, target: &Path, staged: &Path) -> bool {
    let is = |path: &Path, kept: &Kept| {
        fs::read(path).is_ok_and(|it| batch::file_digest(&it) == kept.sha256)
    };
    let is_whole = |path: &Path| is(path, kept);
    let to_disk = |path: &Path| {
        let synced = fs::File::open(path).and_then(|it| it.sync_all());
        let folder = path.parent().map(fs::File::open);
        if let Some(Ok(folder)) = folder {
            // Not every system can say so of a folder.
            let _unsupported = folder.sync_all();
        }
        synced.is_ok()
    };
    if is_whole(target) {
        return to_disk(target);
    }
    // Something else in its place is somebody's.
    let is_free = !target.exists() || older.is_some_and(|it| is(target, it));
    is_free && is_whole(staged) && fs::rename(staged, target).is_ok() && to_disk(target)
}

/// Models that a killed run of this folder left loaded, and that have nothing
/// more to do here.
async fn leftovers(
    stuff: &Stuff,
    jobs: &[Job],
    past: &Past,
    loading: &Loading,
    env: &Env,
    journal: &mut Journal,
    messages: Messages,
) {
    for (index, model) in stuff.models.iter().enumerate() {
        let of = (model.place.clone(), model.id.clone());
        let has_jobs = jobs.iter().any(|it| it.cell.model == index && it.runs());
        if has_jobs || !past.loaded.contains_key(&of) {
            continue;
        }
        let ours = model.instances.iter().filter(|it| it.is_ours);
        let ours: Vec<(String, engine::Offered)> =
            ours.map(|it| (model.id.clone(), it.clone())).collect();
        if let (Some(endpoint), false) = (&model.endpoint, ours.is_empty()) {
            let state: PathBuf = asking::claims(env);
            let lms = asking::lms(env);
            let lms = lms.as_deref();
            let unloaded = engine::unload(endpoint, &ours, false, &state, lms, loading.reach).await;
            if let Err(error) = unloaded {
                messages.warning(&format!(
                    "`{}` may stay loaded from a run that was killed: {}",
                    model.label,
                    crate::error::chain(&error)
                ));
                continue;
            }
            messages.status(&format!(
                "unloaded `{}`, which a killed run had left",
                model.label
            ));
        }
        let item = LogItem {
            engine: model.place.clone(),
            model: model.id.clone(),
            ..LogItem::default()
        };
        // The next run would only look again.
        let _unwritable = journal.append(&Record::Unloaded(item));
    }
}
