//! Runs a plan with engines, packs and a folder.
//!
//! In the order of the data:
//! - `setup`: the batch as requested
//! - `models`: the models of the plan; `listed_model`: a model of an engine;
//!   `model_matching`: the names of the plan; `batch_model`: a model of the batch
//! - `job_inputs`: prompts, inputs and settings; `plan_prompt` and `plan_inputs`: their
//!   files
//! - `prompt_identity`, `job_identity`, `identity_text`: digests of prompts and jobs
//! - `job_list`: the jobs; `job_shard`: those of one machine; `job_names`: their names;
//!   `prompt_resolver` and `spool`: their resolved prompts; `identified_jobs` and
//!   `planned_job`: a job before and after it is compared with the folder
//! - `contexts`, `recovery`: the state of earlier runs
//! - `prepared_batch`, `execution`, `batch_summary`: the batch before, during and after
//!   the run; `kept_plan` and `run_journal`: its records
//! - `scheduler`, `scheduler_input`, `worker_pool`, `run_state`, `queue`: the order of
//!   jobs; `throughput`, `totals`: their speed
//! - `backend`: the scheduler's interface to engines and files; `live_backend`: the one
//!   of real runs; `model_loader`, `job_progress`: its engines; `result_folder`,
//!   `publish_result`, `record_failure`: its files
//! - `event`: events for observers

mod backend;
mod batch_model;
mod batch_summary;
mod contexts;
mod event;
mod execution;
mod identified_jobs;
mod identity_text;
mod job_identity;
mod job_inputs;
mod job_list;
mod job_names;
mod job_progress;
mod job_shard;
mod kept_plan;
mod listed_model;
mod live_backend;
mod model_loader;
mod model_matching;
mod models;
mod plan_inputs;
mod plan_packs;
mod plan_prompt;
mod planned_job;
mod prepared_batch;
mod prompt_identity;
mod prompt_resolver;
mod publish_result;
mod queue;
mod record_failure;
mod recovery;
mod result_folder;
mod run_journal;
mod run_state;
mod scheduler;
mod scheduler_input;
#[cfg(test)]
mod scheduler_tests;
mod setup;
mod spool;
mod throughput;
mod totals;
mod worker_pool;

pub use batch_model::BatchModel;
pub use batch_summary::BatchSummary;
pub use contexts::ModelContext;
pub use event::{BatchEvent, BatchObserver, JobEnd, JobInfo, JobPhase, SharedObserver};
pub use kept_plan::with_settings;
pub use planned_job::PlannedJob;
pub use prepared_batch::{PreparedBatch, prepare};
pub use run_state::{FailureLimit, Interrupts, RunStop};
pub use setup::{BatchOptions, BatchSetup};
pub use totals::ModelTotals;
