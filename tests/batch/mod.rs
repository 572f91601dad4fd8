//! `batch`: plans, scheduling, results, failures and resuming.

mod faults;
mod kills;
mod plans;
mod resume;
mod support;

pub(crate) use plans::{check_six, six_prompts};
