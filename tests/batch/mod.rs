//! `batch`: plans, scheduling, results, failures and resuming.

mod faults;
mod kills;
pub(crate) mod plans;
mod resume;
mod support;
