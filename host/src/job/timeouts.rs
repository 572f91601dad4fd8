//! Watchdogs: a limit for each phase of an answer, so that nothing waits for
//! ever and every expiry says which wait it was.

use std::time::Duration;

use tokio::time::Instant;

use crate::inference::Event;

/// Limits of time, each off when `None`, and the guard against loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For loading the model.
    pub load: Option<Duration>,
    /// From the request to the first piece of text or reasoning. A prompt that
    /// is seen to be read on starts it anew.
    pub first_token: Option<Duration>,
    /// Between two pieces.
    pub stream: Option<Duration>,
    /// For the whole.
    pub total: Option<Duration>,
    /// An answer that ends with the same piece so often in a row is ended; 0
    /// is off.
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

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The model.
    Load,
    /// The first piece.
    FirstToken,
    /// The next piece.
    Stream,
    /// The end of everything.
    Whole,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// What was waited for.
    pub phase: Phase,
    /// How long.
    pub limit: Duration,
}

/// Follows an answer's phases by its events.
#[derive(Debug)]
pub(super) struct PhaseTimer {
    limits: Timeouts,
    start: Instant,
    phase: Phase,
    since: Instant,
    progress: f32,
}

impl PhaseTimer {
    /// `start` is when the whole began.
    pub(super) fn new(limits: Timeouts, start: Instant) -> Self {
        Self {
            limits,
            start,
            phase: Phase::Load,
            since: Instant::now(),
            progress: 0.0,
        }
    }

    /// An event came.
    pub(super) fn hear(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Loading(_) if self.phase != Phase::Load => self.enter(Phase::Load, now),
            Event::Prefill { progress, .. } => {
                if self.phase == Phase::Load {
                    self.enter(Phase::FirstToken, now);
                    self.progress = *progress;
                } else if *progress > self.progress {
                    self.progress = *progress;
                    self.since = now;
                }
            }
            Event::Reasoning(_) | Event::Text(_) => self.enter(Phase::Stream, now),
            _ => {}
        }
    }

    /// We were busy ourselves (processors, a slow reader): that is nobody
    /// else's delay.
    pub(super) fn was_busy(&mut self) {
        if self.phase == Phase::Stream {
            self.since = Instant::now();
        }
    }

    /// Completes when a limit is reached.
    pub(super) async fn expired(&self) -> Expired {
        let limit = match self.phase {
            Phase::Load => self.limits.load,
            Phase::FirstToken => self.limits.first_token,
            Phase::Stream => self.limits.stream,
            Phase::Whole => None,
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
            whole = self.whole() => whole,
            expired = of_phase => expired,
        }
    }

    /// Completes when the limit of the whole is reached.
    pub(super) async fn whole(&self) -> Expired {
        match self.limits.total {
            Some(limit) => {
                sleep_until(self.start, limit).await;
                Expired {
                    phase: Phase::Whole,
                    limit,
                }
            }
            None => std::future::pending().await,
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}

/// A limit beyond what a clock can say is none.
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

    /// After each wait an event; then which phase expires, and when (seconds
    /// from the start). The clock is tokio's own, and stands still but for us.
    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_limit() {
        let text = || Event::Text("x".to_owned());
        for (events, phase, at) in [
            (vec![], Phase::Load, 100),
            (vec![(40, Event::Loading(None))], Phase::Load, 100),
            (vec![(40, prefill(0.0))], Phase::FirstToken, 90),
            // Only a prompt that is read on counts as life.
            (
                vec![(0, prefill(0.0)), (40, prefill(0.5)), (40, prefill(0.5))],
                Phase::FirstToken,
                90,
            ),
            // Loading found out later has its own time.
            (
                vec![(0, prefill(0.0)), (40, Event::Loading(None))],
                Phase::Load,
                140,
            ),
            (vec![(0, prefill(0.0)), (49, text())], Phase::Stream, 59),
            (
                vec![(0, text()), (9, text()), (9, Event::Warning(String::new()))],
                Phase::Stream,
                19,
            ),
            (vec![(99, prefill(0.0)); 1], Phase::FirstToken, 149),
        ] {
            let start = Instant::now();
            let mut watch = PhaseTimer::new(limits(), start);
            for (wait, event) in events {
                tokio::time::sleep(Duration::from_secs(wait)).await;
                watch.hear(&event);
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
            watch.hear(&Event::Text("x".to_owned()));
        }
        assert_eq!(watch.expired().await.phase, Phase::Whole);
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
