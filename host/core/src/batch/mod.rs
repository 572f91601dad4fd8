//! Batch runs: plans, jobs, journals and results.
//!
//! In processing order:
//! - `plan`: a batch as requested; `plan_reader`, `plan_toml` and `plan_writer`: its TOML
//!   form
//! - `input`: inputs from files and rows
//! - `matrix`: the jobs of a plan
//! - `shard`: the part of the jobs for one machine
//! - `identity`, `result_name`: the identity of a job and the file name of its result
//! - `record`, `journal`: the record of all runs in a folder; `failure`: its errors
//! - `resume`: which jobs run again
//! - `schedule`: estimates of context lengths and durations
//! - `concurrency_limit`: the number of concurrent jobs
//! - `commit`: flushing results to disk
//! - `export`: results as rows
//! - `run`: the execution of a plan
//!
//! Only `run` depends on engines; nothing here depends on the command line.

mod commit;
mod concurrency_limit;
mod export;
mod failure;
mod history;
mod identity;
mod input;
mod journal;
mod matrix;
mod plan;
mod plan_reader;
mod plan_toml;
mod plan_writer;
mod record;
mod result_name;
mod resume;
mod run;
mod schedule;
mod shard;

pub use commit::Committer;
pub use concurrency_limit::ConcurrencyLimit;
pub use export::{ExportFormat, write_rows};
pub use history::{FolderHistory, JobHistory, JobState, KeptResult, read_history};
pub use identity::{IdentityHasher, has_digest};
pub use input::{
    Error as InputError, Input, InputSource, SkipPath, attachments, images, read_inputs,
    text_files, with_distinct_names,
};
pub use journal::{Error as JournalError, FolderLock, Journal, SkippedLines, visit_records};
pub use matrix::{Combination, JobCoordinates, combinations, job_coordinates};
pub use plan::{
    InputEntry, InputEntrySource, JOBS_MAX, ParamValues, Plan, PlanContext, ProcessorEntry,
    PromptEntry, PromptOptions, ResultOptions, is_pattern, join_pattern, matches_model,
};
pub use plan_reader::{load_plan, parse_plan};
pub use plan_writer::plan_to_toml;
pub use record::{
    AnswerRecord, ContextRecord, DoneRecord, EndRecord, FailedRecord, InstanceRecord, JOURNAL,
    JobLabels, Record, RunRecord, StartRecord, exit_code,
};
pub use result_name::{NameParts, NameTemplate, collision_key};
pub use resume::{ChangedPolicy, ResultOnDisk, ResumeDecision, ResumeFacts, RunReason, decide};
pub use run::{
    BatchEvent, BatchModel, BatchObserver, BatchOptions, BatchSetup, BatchSummary, FailureLimit,
    Interrupts, JobEnd, JobInfo, JobPhase, ModelContext, ModelTotals, PlannedJob, PreparedBatch,
    RunStop, SharedObserver, prepare, with_settings,
};
pub use schedule::{ModelSpeed, TokenNeed, estimate_remaining, fitting_context_length, token_need};
pub use shard::{Shard, jobs_of_shard};
