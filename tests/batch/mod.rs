//! `batch`: plans, scheduling, results, failures and resuming.

mod campaign;
mod faults;
mod foreign_folders;
mod kills;
pub(crate) mod plans;
mod resume;
mod support;
