//! Reports the progress of a job, and counts the tokens of its instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lmstrix_inference::Event;

use super::event::{BatchEvent, JobPhase, SharedObserver};
use crate::sink::{self, Sink};

/// Reports the progress of a job.
pub(super) struct JobProgress {
    pub(super) observer: SharedObserver,
    pub(super) all_tokens: Arc<AtomicU64>,
    pub(super) number: usize,
    pub(super) tokens: u32,
}

impl JobProgress {
    fn report(&self, phase: JobPhase) {
        self.observer.event(BatchEvent::JobProgressed {
            number: self.number,
            phase,
            tokens: self.tokens,
        });
    }

    /// Counts a piece: servers send one for each token.
    fn piece(&mut self, phase: JobPhase) {
        self.tokens = self.tokens.saturating_add(1);
        self.all_tokens.fetch_add(1, Ordering::Relaxed);
        self.report(phase);
    }
}

impl Sink for JobProgress {
    fn event(&mut self, event: &Event) -> Result<(), sink::Error> {
        match event {
            Event::Loading(done) => self.report(JobPhase::Loading(*done)),
            Event::Prefill { progress, tokens } => self.report(JobPhase::Reading {
                done: *progress,
                tokens: *tokens,
            }),
            Event::Reasoning(_) => self.piece(JobPhase::Reasoning),
            _ => {}
        }
        Ok(())
    }

    fn raw(&mut self, _text: &str) -> Result<(), sink::Error> {
        self.piece(JobPhase::Writing);
        Ok(())
    }

    fn text(&mut self, _text: &str) -> Result<(), sink::Error> {
        Ok(())
    }

    fn wants_answer(&self) -> bool {
        false
    }
}
