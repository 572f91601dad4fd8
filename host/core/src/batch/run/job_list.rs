//! The jobs of a plan, each with its prompt resolved, its name, and what is to be done
//! about it. Everything that the user can correct is found here, before a model is
//! loaded.

use std::collections::BTreeSet;
use std::path::Path;

use super::event::SharedObserver;
use super::identified_jobs::JobIdentifier;
use super::job_inputs::JobInputs;
use super::job_names::JobNames;
use super::job_shard::of_shard;
use super::planned_job::{PlannedJob, decide};
use super::setup::BatchOptions;
use super::spool::Spool;
use crate::batch::{self, FolderHistory, JobCoordinates};
use crate::error::{Error, ErrorKind, VISION_HINT};
use crate::job::Warning;
use crate::quantity::count;

/// All jobs of a plan.
pub(super) struct JobList {
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) names: JobNames,
    pub(super) spool: Option<Spool>,
    /// Warnings of all prompts, each once, with the prompt's label.
    pub(super) warnings: BTreeSet<(String, Warning)>,
    /// Jobs of other parts of the plan.
    pub(super) elsewhere: usize,
}

/// Lists the jobs of a plan. Jobs that the journal knows with the same key need no
/// pack; the prompts of all others are resolved.
///
/// # Errors
/// Returns an error for everything that the user can correct.
pub(super) async fn list_jobs(
    inputs: &JobInputs,
    names: JobNames,
    options: &BatchOptions,
    history: &FolderHistory,
    out: &Path,
    observer: &SharedObserver,
) -> Result<JobList, Error> {
    let mut coordinates = with_vision(all_coordinates(inputs), inputs, options, observer)?;
    let all = coordinates.len();
    if let Some(shard) = options.shard {
        coordinates = of_shard(inputs, &coordinates, shard);
    }
    let mut identifier = JobIdentifier::new(inputs, &names, options.dry_run);
    let identified = identifier.identify(&coordinates, history, observer).await?;
    let JobIdentifier {
        spool, warnings, ..
    } = identifier;
    let mut jobs = Vec::with_capacity(coordinates.len());
    for (job, identified) in coordinates.iter().zip(identified) {
        names.check_history(inputs, *job, &identified.name, history)?;
        let images = inputs.image_count(*job);
        jobs.push(decide(*job, identified, options, images, history, out));
    }
    names.check_distinct(
        inputs,
        jobs.iter().map(|job| (job.coordinates, job.name.as_str())),
    )?;
    Ok(JobList {
        elsewhere: all - coordinates.len(),
        jobs,
        names,
        spool,
        warnings,
    })
}

/// Leaves out the jobs whose models are known not to take their images.
///
/// # Errors
/// Returns an error if the plan names such a model, or if no job is left.
fn with_vision(
    all: Vec<JobCoordinates>,
    inputs: &JobInputs,
    options: &BatchOptions,
    observer: &SharedObserver,
) -> Result<Vec<JobCoordinates>, Error> {
    let (left_out, kept): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|job| inputs.lacks_vision(*job));
    if left_out.is_empty() {
        return Ok(kept);
    }
    let labels = |jobs: &mut dyn Iterator<Item = &JobCoordinates>| {
        let models = jobs.filter_map(|job| inputs.model(*job));
        let labels: BTreeSet<String> = models.map(|model| format!("`{}`", model.label)).collect();
        labels.into_iter().collect::<Vec<_>>().join(", ")
    };
    // The plan that a folder keeps names all models of its first run.
    let mut named = left_out
        .iter()
        .filter(|job| kept.is_empty() || (!options.is_own_plan && inputs.is_named_model(**job)));
    let named = labels(&mut named);
    if !named.is_empty() {
        let message = format!("jobs with images for models that take none: {named}");
        return Err(Error::new(ErrorKind::Model, message).hint(VISION_HINT));
    }
    observer.warning(&format!(
        "left out {} with images for models that take none: {}",
        count(left_out.len(), "job"),
        labels(&mut left_out.iter())
    ));
    Ok(kept)
}

fn all_coordinates(inputs: &JobInputs) -> Vec<JobCoordinates> {
    let combinations: Vec<usize> = inputs
        .prompts
        .iter()
        .map(|prompt| prompt.combinations.len())
        .collect();
    let is_for = |prompt: usize, model: usize| {
        let prompt = inputs.prompts.get(prompt);
        let model = inputs.models.get(model);
        prompt.zip(model).is_some_and(|(prompt, model)| {
            prompt.models.is_empty() || prompt.models.iter().any(|pattern| model.matches(pattern))
        })
    };
    batch::job_coordinates(
        &combinations,
        inputs.inputs.len(),
        inputs.models.len(),
        is_for,
    )
}
