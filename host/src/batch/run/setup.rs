//! What a batch is made from.

use std::path::PathBuf;
use std::time::Duration;

use super::scheduler::FailureLimit;
use crate::batch::{ChangedPolicy, Plan, Shard};
use crate::client::TimeoutOptions;
use crate::config::Config;
use crate::environment::Env;
use crate::inference::SettingsLayer;

/// A batch as it was asked for.
pub struct BatchSetup<'a> {
    /// The jobs, as data.
    pub plan: Plan,
    /// The folder of the results.
    pub out: PathBuf,
    /// Settings of the command line, which win over the plan's.
    pub settings: SettingsLayer,
    /// Time limits of the command line.
    pub timeouts: TimeoutOptions,
    /// How the batch runs.
    pub options: BatchOptions,
    /// The environment.
    pub env: &'a Env,
    /// The config file.
    pub config: &'a Config,
}

/// How a batch runs, beside its plan.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// What becomes of a result whose job has changed since.
    pub changed: ChangedPolicy,
    /// Compare digests of results, and not only their sizes.
    pub verify: bool,
    /// The most jobs at once; `None` leaves it to plan and server.
    pub jobs: Option<usize>,
    /// More failures than this end the run.
    pub failure_limit: Option<FailureLimit>,
    /// How long a server that went away is waited for.
    pub reconnect_timeout: Duration,
    /// The part of the plan that this machine runs.
    pub shard: Option<Shard>,
    /// The same, as it was typed, for the journal.
    pub shard_text: Option<String>,
    /// Load nothing and write nothing.
    pub dry_run: bool,
    /// Skip memory and context checks.
    pub force: bool,
    /// The plan is the last one of the folder itself.
    pub is_own_plan: bool,
}
