//! Time limits: one for each phase of an answer, so that no wait is endless and each
//! expiry names its phase.

use std::time::Duration;

use lmstrix_inference::Event;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Time limits, each off when `None`, and the limit of repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// For loading the model.
    pub load: Option<Duration>,
    /// From the request to the first piece of text or reasoning; restarts whenever
    /// the server reports prompt progress.
    pub first_token: Option<Duration>,
    /// Between two pieces.
    pub stream: Option<Duration>,
    /// For the whole job.
    pub total: Option<Duration>,
    /// Ends an answer that repeats the same piece this many times in a row; 0 is off.
    pub max_repeat: usize,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            load: Some(Duration::from_secs(600)),
            first_token: Some(Duration::from_secs(600)),
            stream: Some(Duration::from_secs(120)),
            total: None,
            max_repeat: 200,
        }
    }
}

/// The phase that a time limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// Reading the input files, before the job begins.
    Input,
    /// Loading the model.
    Load,
    /// The wait for the first piece.
    FirstToken,
    /// The wait for the next piece.
    Stream,
    /// The whole job.
    Total,
}

/// A time limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time limit of {} s was reached", limit.as_secs_f64())]
pub struct Expired {
    /// The phase.
    pub phase: TimeoutPhase,
    /// Its limit.
    pub limit: Duration,
}

/// Follows the phases of an answer by its events.
#[derive(Debug)]
pub(super) struct PhaseTimer {
    limits: Timeouts,
    start: Instant,
    phase: TimeoutPhase,
    since: Instant,
    progress: f32,
}

impl PhaseTimer {
    /// `start` is when the job began.
    pub(super) fn new(limits: Timeouts, start: Instant) -> Self {
        Self {
            limits,
            start,
            phase: TimeoutPhase::Load,
            since: Instant::now(),
            progress: 0.0,
        }
    }

    /// Takes note of an event.
    pub(super) fn observe(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Loading(_) if self.phase != TimeoutPhase::Load => {
                self.enter(TimeoutPhase::Load, now)
            }
            Event::Prefill { progress, .. } => {
                if self.phase == TimeoutPhase::Load {
                    self.enter(TimeoutPhase::FirstToken, now);
                    self.progress = *progress;
                } else if *progress > self.progress {
                    self.progress = *progress;
                    self.since = now;
                }
            }
            Event::Reasoning(_) | Event::Text(_) => self.enter(TimeoutPhase::Stream, now),
            _ => {}
        }
    }

    /// Restarts the wait for the next piece after processors or a slow reader took
    /// time: the model did not cause that delay.
    pub(super) fn was_busy(&mut self) {
        if self.phase == TimeoutPhase::Stream {
            self.since = Instant::now();
        }
    }

    /// Completes when the limit of the current phase or of the whole job is reached.
    pub(super) async fn expired(&self) -> Expired {
        let limit = match self.phase {
            TimeoutPhase::Load => self.limits.load,
            TimeoutPhase::FirstToken => self.limits.first_token,
            TimeoutPhase::Stream => self.limits.stream,
            TimeoutPhase::Input | TimeoutPhase::Total => None,
        };
        let of_phase = async {
            match limit {
                Some(limit) => {
                    sleep_until(self.since, limit).await;
                    Expired {
                        phase: self.phase,
                        limit,
                    }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            total = self.total() => total,
            expired = of_phase => expired,
        }
    }

    /// Completes when the limit of the whole job is reached.
    pub(super) async fn total(&self) -> Expired {
        match self.limits.total {
            Some(limit) => {
                sleep_until(self.start, limit).await;
                Expired {
                    phase: TimeoutPhase::Total,
                    limit,
                }
            }
            None => std::future::pending().await,
        }
    }

    fn enter(&mut self, phase: TimeoutPhase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}

/// Never completes for a limit beyond the range of the clock.
async fn sleep_until(since: Instant, limit: Duration) {
    match since.checked_add(limit) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn limits() -> Timeouts {
        Timeouts {
            load: Some(Duration::from_secs(100)),
            first_token: Some(Duration::from_secs(50)),
            stream: Some(Duration::from_secs(10)),
            total: Some(Duration::from_secs(1000)),
            max_repeat: 0,
        }
    }

    fn prefill(progress: f32) -> Event {
        Event::Prefill {
            progress,
            tokens: None,
        }
    }

    /// Each row: events with the wait before them in seconds, the phase that expires,
    /// and when it expires, in seconds from the start.
    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_limit() {
        let text = || Event::Text("x".to_owned());
        for (events, phase, at) in [
            (vec![], TimeoutPhase::Load, 100),
            (vec![(40, Event::Loading(None))], TimeoutPhase::Load, 100),
            (vec![(40, prefill(0.0))], TimeoutPhase::FirstToken, 90),
            // Only progress of the prompt restarts the limit.
            (
                vec![(0, prefill(0.0)), (40, prefill(0.5)), (40, prefill(0.5))],
                TimeoutPhase::FirstToken,
                90,
            ),
            // Loading found out later has its own time.
            (
                vec![(0, prefill(0.0)), (40, Event::Loading(None))],
                TimeoutPhase::Load,
                140,
            ),
            (
                vec![(0, prefill(0.0)), (49, text())],
                TimeoutPhase::Stream,
                59,
            ),
            (
                vec![(0, text()), (9, text()), (9, Event::Warning(String::new()))],
                TimeoutPhase::Stream,
                19,
            ),
            (vec![(99, prefill(0.0)); 1], TimeoutPhase::FirstToken, 149),
        ] {
            let start = Instant::now();
            let mut watch = PhaseTimer::new(limits(), start);
            for (wait, event) in events {
                tokio::time::sleep(Duration::from_secs(wait)).await;
                watch.observe(&event);
            }
            let expired = watch.expired().await;
            assert_eq!(
                (expired.phase, start.elapsed().as_secs()),
                (phase, at),
                "{expired:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_has_a_limit_and_off_is_off() {
        let start = Instant::now();
        let mut watch = PhaseTimer::new(
            Timeouts {
                total: Some(Duration::from_secs(25)),
                ..limits()
            },
            start,
        );
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            watch.observe(&Event::Text("x".to_owned()));
        }
        assert_eq!(watch.expired().await.phase, TimeoutPhase::Total);
        assert_eq!(start.elapsed().as_secs(), 25);
        let off = Timeouts {
            load: None,
            first_token: None,
            stream: None,
            total: None,
            max_repeat: 0,
        };
        let watch = PhaseTimer::new(off, start);
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, watch.expired()).await.is_err());
    }
}
