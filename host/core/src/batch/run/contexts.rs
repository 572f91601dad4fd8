//! The context length that each model is loaded with.

use lmstrix_inference::ContextSize;

use super::batch_model::BatchModel;
use super::planned_job::PlannedJob;
use crate::batch::{ContextRecord, FolderHistory, PlanContext, fitting_context_length};

/// The context length that a model is loaded with.
#[derive(Clone, Debug)]
pub struct ModelContext {
    /// The context length in tokens, where known.
    pub tokens: Option<u32>,
    /// The size that is requested from the engine.
    pub(super) size: ContextSize,
    /// The record that the journal does not have yet.
    pub(super) new: Option<ContextRecord>,
}

/// Returns the contexts of all models. The context of an earlier run is kept as long as
/// no prompt is longer than its longest: estimates vary, and must not reload a model.
pub(super) fn contexts(
    models: &[BatchModel],
    jobs: &[PlannedJob],
    history: &FolderHistory,
) -> Vec<ModelContext> {
    models
        .iter()
        .enumerate()
        .map(|(index, model)| {
            let size = match model.plan_context {
                PlanContext::Tokens(tokens) => ContextSize::Tokens(tokens),
                PlanContext::Percent(percent) => ContextSize::Percent(percent),
                PlanContext::Fit => {
                    let jobs = jobs.iter().filter(|job| job.coordinates.model == index);
                    return fitting_context(model, jobs, history);
                }
            };
            let tokens = match (size, model.largest_context) {
                (ContextSize::Tokens(tokens), _) => Some(tokens),
                (ContextSize::Percent(percent), Some(largest)) => {
                    u32::try_from(u64::from(largest) * u64::from(percent) / 100).ok()
                }
                (ContextSize::Percent(_), None) => None,
            };
            ModelContext {
                size,
                tokens,
                new: None,
            }
        })
        .collect()
}

/// Returns the context that the largest job of a model needs.
fn fitting_context<'a>(
    model: &BatchModel,
    jobs: impl Iterator<Item = &'a PlannedJob> + Clone,
    history: &FolderHistory,
) -> ModelContext {
    let longest = jobs.clone().map(|job| job.prompt_bytes).max().unwrap_or(0);
    let answer = jobs.clone().map(|job| job.need.answer).max().unwrap_or(0);
    let images = jobs.clone().map(|job| job.images).max().unwrap_or(0);
    let known = history
        .contexts
        .get(&(model.place.clone(), model.id.clone()))
        .filter(|known| known.prompt_bytes >= longest && known.answer_tokens >= answer)
        .filter(|known| known.images >= images);
    let (tokens, new) = match known {
        Some(known) => (known.context, None),
        None => {
            let need = jobs.map(|job| job.need.context).max().unwrap_or(0);
            let tokens = fitting_context_length(need, model.largest_context);
            let record = ContextRecord {
                engine: model.place.clone(),
                model: model.id.clone(),
                context: tokens,
                prompt_bytes: longest,
                answer_tokens: answer,
                images,
            };
            (tokens, Some(record))
        }
    };
    ModelContext {
        size: ContextSize::Tokens(tokens),
        tokens: Some(tokens),
        new,
    }
}
