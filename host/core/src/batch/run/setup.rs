//! The request for a batch.

use std::path::PathBuf;
use std::time::Duration;

use lmstrix_inference::SettingsLayer;

use super::run_state::FailureLimit;
use crate::batch::{ChangedPolicy, Plan, Shard};
use crate::client::TimeoutOptions;
use crate::config::Config;
use crate::environment::Environment;

/// A batch as requested.
pub struct BatchSetup<'a> {
    /// The jobs, as data.
    pub plan: Plan,
    /// The folder of the results.
    pub out: PathBuf,
    /// Settings of the command line, which win over the plan's.
    pub settings: SettingsLayer,
    /// Time limits of the command line.
    pub timeouts: TimeoutOptions,
    /// The options of the run.
    pub options: BatchOptions,
    /// The environment.
    pub env: &'a Environment,
    /// The config file.
    pub config: &'a Config,
}

/// The options of a run, which are not part of the plan.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// The handling of a result whose job has changed since.
    pub changed: ChangedPolicy,
    /// Compare digests of results, and not only their sizes.
    pub verify: bool,
    /// The most jobs at once; `None` leaves it to plan and server.
    pub jobs: Option<usize>,
    /// More failures than this end the run.
    pub failure_limit: Option<FailureLimit>,
    /// The time limit for a server that went away to answer again.
    pub reconnect_timeout: Duration,
    /// The part of the plan that this machine runs.
    pub shard: Option<Shard>,
    /// The text of `shard`, for the journal.
    pub shard_text: Option<String>,
    /// Load nothing and write nothing.
    pub dry_run: bool,
    /// Skip memory and context checks.
    pub force: bool,
    /// The plan is the last one of the folder itself.
    pub is_own_plan: bool,
}
