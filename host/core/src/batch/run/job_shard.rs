//! The part of a plan's jobs that one machine runs.

use super::identity_text;
use super::job_inputs::JobInputs;
use crate::batch::{self, JobCoordinates, Shard};

/// Returns the jobs of one part of the plan, by model first.
pub(super) fn of_shard(
    inputs: &JobInputs,
    all: &[JobCoordinates],
    shard: Shard,
) -> Vec<JobCoordinates> {
    let names: Vec<String> = all
        .iter()
        .map(|job| {
            let labels = inputs.labels(*job);
            format!(
                "{} {} {}",
                identity_text::quoted(&labels.prompt),
                identity_text::optional(labels.input.as_deref()),
                identity_text::pairs(&labels.params)
            )
        })
        .collect();
    let mut by_model: Vec<(&str, f64, Vec<&str>)> = Vec::new();
    let mut jobs_by_model: Vec<Vec<JobCoordinates>> = Vec::new();
    for (index, model) in inputs.models.iter().enumerate() {
        let (jobs, of_model): (Vec<JobCoordinates>, Vec<&str>) = all
            .iter()
            .zip(&names)
            .filter(|(job, _)| job.model == index)
            .map(|(job, name)| (*job, name.as_str()))
            .unzip();
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = of_model.len() as f64;
        by_model.push((&model.label, weight, of_model));
        jobs_by_model.push(jobs);
    }
    let taken = batch::jobs_of_shard(&by_model, shard);
    jobs_by_model
        .into_iter()
        .flatten()
        .zip(taken.into_iter().flatten())
        .filter_map(|(job, is_ours)| is_ours.then_some(job))
        .collect()
}
