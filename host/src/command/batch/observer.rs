//! Shows the events of a batch: remarks and warnings before the run, progress during it.

use crate::batch::{BatchEvent, BatchObserver, JobEnd, JobInfo, JobPhase};
use crate::sink::{
    BatchProgress, JobStats, Messages, ProgressJob, ProgressJobEnd, ProgressJobPhase, ProgressMode,
};

/// Passes events to messages and to the progress display.
pub(super) struct ProgressObserver {
    messages: Messages,
    progress: BatchProgress,
    /// The progress display owns the terminal from the start of the run to its end.
    is_running: bool,
}

impl ProgressObserver {
    pub(super) fn new(messages: Messages, mode: ProgressMode, quiet: bool) -> Self {
        Self {
            messages,
            progress: BatchProgress::new(mode, quiet),
            is_running: false,
        }
    }
}

impl BatchObserver for ProgressObserver {
    fn event(&mut self, event: BatchEvent<'_>) {
        let progress = &mut self.progress;
        match event {
            BatchEvent::Status(text) => self.messages.status(text),
            BatchEvent::Warning(text) if self.is_running => progress.message(text, true),
            BatchEvent::Warning(text) => self.messages.warning(text),
            BatchEvent::RunStarted { jobs, skipped } => {
                self.is_running = true;
                progress.run_started(jobs, skipped);
            }
            BatchEvent::TimeLeft(left) => progress.remaining_time(left),
            BatchEvent::ModelLoading {
                model,
                context,
                progress: fraction,
            } => progress.model_loading(model, context, fraction),
            BatchEvent::ModelLoaded {
                model,
                seconds,
                context,
            } => progress.model_loaded(model, Some(seconds), context),
            BatchEvent::ModelUnloaded { model } => progress.model_unloaded(model),
            BatchEvent::JobQueued(_) => {}
            BatchEvent::JobStarted(job) => progress.job_started(&named(job)),
            BatchEvent::JobProgressed {
                number,
                phase,
                tokens,
            } => progress.job_progress(number, shown_phase(phase), tokens),
            BatchEvent::JobFinished {
                job,
                end,
                tokens,
                seconds,
            } => {
                let end = match end {
                    JobEnd::Done => ProgressJobEnd::Done,
                    JobEnd::Failed(cause) => ProgressJobEnd::Failed(cause),
                    JobEnd::Stopped => ProgressJobEnd::Stopped,
                };
                let stats = JobStats {
                    tokens,
                    tokens_per_s: (tokens > 0)
                        .then(|| f64::from(tokens) / seconds)
                        .filter(|rate| rate.is_finite()),
                    seconds,
                };
                progress.job_ended(&named(job), end, &stats);
            }
            BatchEvent::Tick => progress.tick(),
            BatchEvent::RunEnded => {
                self.is_running = false;
                progress.finish();
            }
        }
    }
}

fn named(job: &JobInfo) -> ProgressJob<'_> {
    ProgressJob {
        number: job.number,
        name: &job.name,
        prompt: &job.prompt,
        model: &job.model,
        input: job.input.as_deref(),
    }
}

fn shown_phase(phase: JobPhase) -> ProgressJobPhase {
    match phase {
        JobPhase::Loading => ProgressJobPhase::Loading,
        JobPhase::Reading(fraction) => ProgressJobPhase::Reading(fraction),
        JobPhase::Reasoning => ProgressJobPhase::Reasoning,
        JobPhase::Writing => ProgressJobPhase::Writing,
    }
}
