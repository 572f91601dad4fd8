//! A batch whose jobs are known: models are found, prompts resolved, and the folder is
//! compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::batch_model::BatchModel;
use super::contexts::{ModelContext, contexts};
use super::event::SharedObserver;
use super::job_inputs::JobInputs;
use super::job_list::{JobList, list_jobs};
use super::job_names::JobNames;
use super::models::select_models;
use super::planned_job::PlannedJob;
use super::recovery::{warn_about_kept, warn_about_other_plans};
use super::setup::BatchSetup;
use crate::batch::{FolderHistory, FolderLock, is_pattern, plan_to_toml, read_history};
use crate::client;
use crate::engine::ConnectTimeouts;
use crate::error::Error;
use crate::job::{Cancel, Timeouts, Warning};

/// A batch whose jobs are known; nothing is loaded.
pub struct PreparedBatch<'a> {
    pub(super) setup: BatchSetup<'a>,
    pub(super) inputs: JobInputs,
    pub(super) list: JobList,
    pub(super) contexts: Vec<ModelContext>,
    pub(super) history: FolderHistory,
    pub(super) timeouts: Timeouts,
    pub(super) connect: ConnectTimeouts,
    pub(super) lock: Option<FolderLock>,
    pub(super) start: Instant,
}

impl PreparedBatch<'_> {
    /// Returns the models, in the order in which they run.
    #[must_use]
    pub fn models(&self) -> &[BatchModel] {
        &self.inputs.models
    }

    /// Returns the context of each model.
    #[must_use]
    pub fn contexts(&self) -> &[ModelContext] {
        &self.contexts
    }

    /// Returns the jobs.
    #[must_use]
    pub fn jobs(&self) -> &[PlannedJob] {
        &self.list.jobs
    }

    /// Returns the number of jobs of other parts of the plan.
    #[must_use]
    pub fn jobs_elsewhere(&self) -> usize {
        self.list.elsewhere
    }

    /// Returns what the batch was made from.
    #[must_use]
    pub fn setup(&self) -> &BatchSetup<'_> {
        &self.setup
    }
}

/// Finds the models, resolves the prompts, and compares the folder.
///
/// # Errors
/// Returns an error for everything that the user can correct, and if another run uses
/// the folder.
pub async fn prepare<'a>(
    setup: BatchSetup<'a>,
    observer: &SharedObserver,
    mut cancel: Cancel<'_>,
) -> Result<PreparedBatch<'a>, Error> {
    let start = Instant::now();
    let (timeouts, connect) = client::timeouts(&setup.timeouts, setup.env, setup.config)?;
    // Before any engine is asked, so that another run or a read-only folder shows
    // at once.
    let lock = if setup.options.dry_run {
        None
    } else {
        Some(FolderLock::acquire(&setup.out)?)
    };
    // The journal keeps the plan, and cannot keep every path.
    plan_to_toml(&setup.plan).map_err(Error::usage)?;
    let history = read_history(&setup.out)?;
    if let Some(warning) = history.skipped.warning(&setup.out) {
        observer.warning(&warning);
    }
    let models = select_models(&setup, connect, observer, cancel.as_mut()).await?;
    let inputs = JobInputs::read(&setup, models, timeouts, observer)?;
    let names = JobNames::new(&inputs, &setup.plan, &history)?;
    let listing = list_jobs(
        &inputs,
        names,
        &setup.options,
        &history,
        &setup.out,
        observer,
    );
    let list = tokio::select! {
        biased;
        () = cancel => return Err(Error::interrupted()),
        list = listing => list?,
    };
    show_warnings(&list.warnings, observer);
    warn_about_shards(&setup, observer);
    if setup.options.is_own_plan {
        warn_about_other_plans(&list.jobs, &history, observer);
    }
    let contexts = contexts(&inputs.models, &list.jobs, &history);
    warn_about_kept(&list.jobs, observer);
    Ok(PreparedBatch {
        setup,
        inputs,
        list,
        contexts,
        history,
        timeouts,
        connect,
        lock,
        start,
    })
}

/// Shows each warning of prompts once, with the first prompt that has it.
fn show_warnings(warnings: &BTreeSet<(String, Warning)>, observer: &SharedObserver) {
    let mut prompts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (prompt, warning) in warnings {
        let of_text = prompts.entry(warning.to_string()).or_default();
        of_text.push(prompt);
    }
    for (text, prompts) in prompts {
        match &prompts[..] {
            [] => {}
            [prompt] => observer.warning(&format!("{prompt}: {text}")),
            [first, others @ ..] => {
                observer.warning(&format!("{first} and {} more: {text}", others.len()));
            }
        }
    }
}

/// Warns if `--shard` splits models that patterns found here: all machines must find the
/// same models, or parts overlap.
fn warn_about_shards(setup: &BatchSetup<'_>, observer: &SharedObserver) {
    let by_pattern = |name: &String| name == "all" || is_pattern(name);
    let models = &setup.plan.models;
    if setup.options.shard.is_some() && (models.is_empty() || models.iter().any(by_pattern)) {
        observer.warning(
            "--shard splits the models that are found here, and all machines must find the same; \
             name each model with -m",
        );
    }
}
