//! Models and jobs as the scheduler needs them.

use super::batch_model::BatchModel;
use super::event::JobInfo;
use super::job_inputs::JobInputs;
use super::planned_job::PlannedJob;
use super::run_state::{ScheduledJob, ScheduledModel};

/// Returns the models, in the order in which they run.
pub(super) fn scheduled_models(models: &[BatchModel]) -> Vec<ScheduledModel> {
    models
        .iter()
        .map(|model| ScheduledModel {
            label: model.label.clone(),
            place: model.place.clone(),
            id: model.id.clone(),
            speed: model.speed,
            jobs: model.jobs,
            is_loaded: model.is_loaded(),
        })
        .collect()
}

/// Returns the jobs, with the numbers and labels that observers get.
pub(super) fn scheduled_jobs(inputs: &JobInputs, jobs: &[PlannedJob]) -> Vec<ScheduledJob> {
    let scheduled = |(index, job): (usize, &PlannedJob)| {
        let labels = inputs.labels(job.coordinates);
        let model = inputs.model(job.coordinates);
        // Input and axes distinguish a job from its neighbours.
        let axes = labels
            .params
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let parts: Vec<String> = labels.input.into_iter().chain(axes).collect();
        let info = JobInfo {
            number: index + 1,
            name: job.name.clone(),
            prompt: labels.prompt,
            model: model.map(|model| model.label.clone()).unwrap_or_default(),
            input: Some(parts.join(", ")).filter(|input| !input.is_empty()),
        };
        ScheduledJob {
            info,
            model: job.coordinates.model,
            prompt_bytes: job.prompt_bytes,
            need: job.need,
            runs: job.runs(),
        }
    };
    jobs.iter().enumerate().map(scheduled).collect()
}
