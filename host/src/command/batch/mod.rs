//! `batch`: models × prompts × inputs, resumable.
//!
//! In the order of the way through: `intent` (what is wanted), `field` (which
//! models there are), `stuff` (what jobs are made of), `planning` (the jobs;
//! `packs` resolves their prompts), `before` (what earlier runs left), `dry` (what
//! would be done), `run` (model after model, `loads` loads them), `pool` (the jobs
//! of one), `one` (one job), `trouble` (whose failure it is), `tell` (where that
//! is said), `summary` (what came of it all). `status`, `export` and `merge` look at folders where a batch ran.

mod before;
mod dry;
mod export;
mod field;
mod intent;
mod loads;
mod merge;
mod one;
mod packs;
mod planning;
mod pool;
mod run;
mod shared;
mod status;
mod stuff;
mod summary;
mod tell;
mod trouble;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::resolve_args;
use crate::args::{
    self, After, Batch, BatchRun, Common, Model as ModelFlags, Patience, Results as ResultFlags,
    Sampling,
};
use crate::batch::{self, Committer, End, Journal, Lock, Plan, Record, Run, Wish, print};
use crate::engine;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::job::Interrupt;
use crate::sink::{Board, Messages, Style};
use before::{adopt, contexts, leftovers, tell_skipped, unreached};
use field::Model;
use intent::Manner;
use loads::Loading;
use run::{Runner, Stop};
use shared::Shared;
use stuff::Stuff;

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
    // A folder that was merged holds the parts that its journal names.
    let shard = run.shard.as_deref().filter(|it| !it.contains('+'));
    let mut manner = intent::manner(&args.way, &results, shard, env)?;
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
        resolve_args::warn_of_unknown_variables(env, messages);
        if plan.prompts.is_empty() {
            return Err(Failure::usage("the plan has no prompts")
                .hint("-P NAME names one, [[prompt]] in a plan file, too"));
        }
        let Some(out) = plan.out.clone().filter(|it| !it.as_os_str().is_empty()) else {
            return Err(Failure::usage("the plan has no folder for the results")
                .hint("-o DIR names it, `out` in a plan file, too"));
        };
        let config = resolve_args::config(&common, env)?;
        let (limits, connect) = resolve_args::limits(&patience, env, &config)?;
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
        let registry = resolve_args::known(env, messages);
        let flags = ModelFlags {
            force: manner.force,
            ..ModelFlags::default()
        };
        let loading = Loading {
            life: resolve_args::life(&flags, env, &registry),
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
        kept_plan.models = stuff.models.iter().map(Model::exact).collect();
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
            store: resolve_args::store(env),
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
            owned: BTreeSet::new(),
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
        let shown = if manner.style == Style::Json {
            Ok(())
        } else {
            summary::show(&stuff, &totals, to_run, env)
        };
        match stop {
            Some(Stop::Fatal(failure)) => return Err(failure),
            _ => safe?,
        }
        ended?;
        shown?;
        summary::exit(stop.as_ref(), done, failed, to_run, &out)
    }
}
