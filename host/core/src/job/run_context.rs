//! What a run of a job gets besides the job.

use std::time::Instant;

use crate::registry::RegistryStore;

/// The start, the statistics and the load time of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunContext<'a> {
    /// The registry that takes the run's statistics; `None` saves none.
    pub statistics: Option<&'a RegistryStore>,
    /// The start of the job, from which all its times are measured.
    pub start: Instant,
    /// Seconds of loading, where the instance was loaded for this job.
    pub load_s: Option<f64>,
}
