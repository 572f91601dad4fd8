//! Batches: which jobs there are, in which order, what of them is done already
//! and what is written of it.
//!
//! In the order of the way through: `plan` (what somebody wants), `file` and
//! `print` (the same as TOML), `input` (what prompts are run on), `matrix` (the jobs),
//! `shard` (this machine's part of them), `identity` and `name` (what a job is,
//! and what its file is called), `record` and `journal` (what happened, line by
//! line),
//! `resume` (what is still to be done), `schedule` (how much context, and for
//! how long), `slots` (how many at once), `commit` (when a result counts as
//! safe), `export` (results as rows). Nothing here knows engines, sinks or the
//! command line; the command `batch` does the work.

mod commit;
mod export;
mod file;
mod identity;
mod input;
mod journal;
mod matrix;
mod name;
mod plan;
mod print;
mod record;
mod resume;
mod schedule;
mod shard;
mod slots;

pub use commit::Committer;
pub use export::{Form, write as export};
pub use file::{Error as PlanError, load, parse};
pub use identity::{Identity, file_digest};
pub use input::{Error as InputError, From as InputFrom, Input, Skip, distinct, files, inputs};
pub use journal::{
    Error as JournalError, JOURNAL, Journal, Kept, Known, Lock, Past, State, read, visit,
};
pub use matrix::{Cell, Combination, cells, combinations};
pub use name::{Parts, Template, key};
pub use plan::{
    Ask, InputEntry, JOBS_MAX, Plan, Post, PromptEntry, Results, Values, Wish, below, is_pattern,
    means,
};
pub use print::print;
pub use record::{Answer, Context, Done, End, Failed, LogItem, Of, Record, Run, Start};
pub use resume::{Decision, OnDisk, Planned, Policy, Reason, decide};
pub(crate) use schedule::need;
pub use schedule::{Need, Speed, fit, remaining};
pub use shard::{Shard, split};
pub use slots::Slots;
