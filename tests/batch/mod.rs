//! `batch`: what runs, in which order, what is written, and what survives.

mod faults;
mod killing;
mod plans;
mod resuming;
mod support;

pub(crate) use plans::{check_six, six_prompts};
