//! `batch`: models × prompts × inputs, resumable. The run itself is in `lmstrix::batch`;
//! here are its arguments (`plan_from_args`), what it prints besides progress (`dry_run`,
//! `summary`) and the commands on folders where a batch ran (`status`, `export`,
//! `merge`).

mod dry_run;
mod export;
mod merge;
mod plan_from_args;
mod status;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmstrix::batch::{self, BatchOptions, BatchSetup, Interrupts, Plan, SharedObserver};
use lmstrix::client::{self, TimeoutOptions};
use lmstrix_inference::SettingsLayer;

use super::models::print;
use super::notices;
use super::resolve_args::{self, flag_layer, timeout_options};
use crate::args::{BatchArgs, BatchCommand, BatchRunArgs, CommonArgs, ResultArgs, RetryArgs};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::{BatchProgress, Messages, ProgressMode, WriteError};

/// Runs `batch` and its subcommands.
///
/// # Errors
/// Returns an error if the plan is invalid or the folder cannot be used. Failed jobs are
/// an exit code.
pub(crate) async fn batch(
    args: BatchArgs,
    env: &Env,
    interrupts: Interrupts<'_>,
) -> Result<Exit, Failure> {
    match args.command {
        Some(BatchCommand::Status(args)) => status::status(&args, env),
        Some(BatchCommand::Export(args)) => export::export(&args, env),
        Some(BatchCommand::Merge(args)) => merge::merge(&args, env),
        Some(BatchCommand::Retry(args)) => retry(args, env, interrupts).await,
        None => run_plan(args.run, env, interrupts).await,
    }
}

/// Runs a plan of arguments and plan file.
async fn run_plan(
    args: BatchRunArgs,
    env: &Env,
    interrupts: Interrupts<'_>,
) -> Result<Exit, Failure> {
    let plan = plan_from_args::plan(&args)?;
    let settings = flag_layer(&args.sampling)?;
    if args.jobs.print_plan {
        let text = batch::plan_to_toml(&batch::with_settings(&plan, &settings));
        print(&text.map_err(Failure::usage)?)?;
        return Ok(Exit::Done);
    }
    let mut options = plan_from_args::options(&args.run, &args.results, args.jobs.shard);
    options.force = args.jobs.force;
    let run = Run {
        plan,
        settings,
        timeouts: timeout_options(&args.timeouts),
        options,
        progress: plan_from_args::progress_mode(args.run.progress, env),
        common: args.common,
    };
    run.run(env, interrupts).await
}

/// Runs the last plan of a folder again, where jobs failed.
async fn retry(args: RetryArgs, env: &Env, interrupts: Interrupts<'_>) -> Result<Exit, Failure> {
    let history = batch::read_history(&args.dir)?;
    if history.head.is_none() {
        return Err(batch::JournalError::NotFound { folder: args.dir }.into());
    }
    let Some(last) = &history.run else {
        return Err(Failure::usage(format!(
            "the journal in {} has no plan",
            args.dir.display()
        )));
    };
    let shown = args.dir.join(batch::JOURNAL);
    let mut plan = batch::parse_plan(&last.plan, &shown, Path::new(""))?;
    // The folder may have been moved.
    plan.out = Some(args.dir.clone());
    // A merged folder holds the parts that its journal names.
    let shard = last.shard.as_deref().filter(|shard| !shard.contains('+'));
    let shard = shard
        .map(str::parse)
        .transpose()
        .map_err(|cause| Failure::usage(format!("{}: {cause}", shown.display())))?;
    let mut options = plan_from_args::options(&args.run, &ResultArgs::default(), shard);
    options.shard_text.clone_from(&last.shard);
    options.force = args.force;
    options.is_own_plan = true;
    let run = Run {
        plan,
        // The settings of the command line are in the plan.
        settings: SettingsLayer::default(),
        timeouts: timeout_options(&args.timeouts),
        options,
        progress: plan_from_args::progress_mode(args.run.progress, env),
        common: args.common,
    };
    run.run(env, interrupts).await
}

/// A run of the command.
struct Run {
    plan: Plan,
    settings: SettingsLayer,
    timeouts: TimeoutOptions,
    options: BatchOptions,
    progress: ProgressMode,
    common: CommonArgs,
}

impl Run {
    async fn run(self, env: &Env, mut interrupts: Interrupts<'_>) -> Result<Exit, Failure> {
        let messages = Messages::new(self.common.quiet, env.stderr_is_terminal, env.colour);
        client::warn_about_unknown_variables(env, &notices(messages));
        let out = self.check_plan()?;
        let config = resolve_args::config(&self.common, env)?;
        let is_dry_run = self.options.dry_run;
        let write_error = WriteError::default();
        let progress = BatchProgress::new(self.progress, messages, Arc::clone(&write_error));
        let observer = SharedObserver::new(progress);
        let setup = BatchSetup {
            plan: self.plan,
            out: out.clone(),
            settings: self.settings,
            timeouts: self.timeouts,
            options: self.options,
            env,
            config: &config,
        };
        let batch = batch::prepare(setup, &observer, interrupts.first.as_mut()).await?;
        if is_dry_run {
            return dry_run::show(&batch, env);
        }
        let summary = batch.run(&observer, interrupts).await?;
        if self.progress != ProgressMode::Json {
            summary::show(&summary, env)?;
        }
        let exit = summary::exit(summary, &out)?;
        match write_error.get() {
            None => Ok(exit),
            Some(cause) => Err(Failure::new(
                Exit::Broken,
                format!("cannot write the progress to stdout: {cause}"),
            )),
        }
    }

    /// Returns the folder of the results.
    fn check_plan(&self) -> Result<PathBuf, Failure> {
        if self.plan.prompts.is_empty() {
            return Err(Failure::usage("the plan has no prompts")
                .hint("name one with -P NAME, or with [[prompt]] in a plan file"));
        }
        self.plan
            .out
            .clone()
            .filter(|out| !out.as_os_str().is_empty())
            .ok_or_else(|| {
                Failure::usage("the plan has no folder for the results")
                    .hint("name it with -o DIR, or with `out` in a plan file")
            })
    }
}
