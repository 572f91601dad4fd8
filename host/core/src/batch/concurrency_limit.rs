//! Limits the number of concurrent jobs of a batch on one instance.
//!
//! The limit starts at the number of slots of the server. It is lowered where fewer
//! jobs give a higher total of tokens per second, and a raise by one is tried from time
//! to time. This module has no clock and starts nothing: the caller records
//! measurements and reads the current limit.

use std::collections::BTreeMap;

/// A limit is too high if its rate is less than this share of the rate of a lower one.
/// A value closer to 1 would react to the noise of ordinary answers.
const DROP_RATIO: f64 = 0.9;
/// The number of consecutive drops that lower the limit. A single one may be a short
/// busy period.
const DROPS_TO_LOWER: u32 = 2;
/// The number of measurements after which a trial raise is judged.
const TRIAL_MEASUREMENTS: u32 = 3;
/// The number of good measurements before the first trial raise.
const TRIAL_AFTER_MIN: u32 = 8;
/// Each failed trial doubles the number of good measurements before the next, up to
/// this: a busy machine may become free later.
const TRIAL_AFTER_MAX: u32 = 128;
/// A rate is the plain mean of its measurements up to this number. From then on, older
/// ones decay.
const MEAN_MEASUREMENTS: u32 = 4;

/// Adapts the number of concurrent jobs of an instance.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    max: usize,
    current: usize,
    /// The known total rates by number of concurrent jobs.
    rates: BTreeMap<usize, Rate>,
    /// Consecutive drops.
    drops: u32,
    /// Good measurements since the limit last changed.
    good: u32,
    /// The number of good measurements before the next trial raise.
    trial_after: u32,
    /// Measurements of the running trial raise.
    trial: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    tokens_per_s: f64,
    measurements: u32,
}

impl ConcurrencyLimit {
    /// Creates a limit that starts at `max`: the slots of the server, or the requested
    /// number of jobs. 0 counts as 1.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            max,
            current: max,
            rates: BTreeMap::new(),
            drops: 0,
            good: 0,
            trial_after: TRIAL_AFTER_MIN,
            trial: None,
        }
    }

    /// Returns the current limit.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current
    }

    /// Records the rate of a single job in tokens per second, measured at the start of
    /// this run or in earlier runs. It replaces older values.
    pub fn record_single_job(&mut self, tokens_per_s: f64) {
        if is_rate(tokens_per_s) {
            self.rates.remove(&1);
            self.update_mean(1, tokens_per_s);
        }
    }

    /// Records the total rate of an interval in which exactly `running` jobs ran. A
    /// rate of another number than the current limit is stored but changes nothing,
    /// since jobs may remain from before the limit changed.
    pub fn record(&mut self, running: usize, tokens_per_s: f64) {
        if running == 0 || running > self.max || !is_rate(tokens_per_s) {
            return;
        }
        let mean = self.update_mean(running, tokens_per_s);
        if running != self.current {
            return;
        }
        let best_below = self.best_below();
        // Both the mean and this measurement must be low: the mean stays low for a while
        // after a short busy period.
        let better = best_below.filter(|(_, rate)| mean.max(tokens_per_s) < DROP_RATIO * rate);
        self.drops = if better.is_some() { self.drops + 1 } else { 0 };
        if let Some((limit, _)) = better
            && self.drops >= DROPS_TO_LOWER
        {
            self.end_trial(false);
            self.set(limit);
        } else if let Some(measurements) = self.trial {
            self.trial = Some(measurements + 1);
            if measurements + 1 >= TRIAL_MEASUREMENTS {
                self.judge_trial(mean);
            }
        } else if better.is_none() {
            self.good = self.good.saturating_add(1);
            if self.good >= self.trial_after && self.current < self.max {
                self.set(self.current + 1);
                // The old rate may come from a busier machine.
                self.rates.remove(&self.current);
                self.trial = Some(0);
            }
        }
    }

    /// Halves the limit, to at least 1, after the server was busy (429, 503) or a job
    /// hung. Call it once per burst of refusals.
    pub fn back_off(&mut self) {
        self.end_trial(false);
        self.set((self.current / 2).max(1));
    }

    /// Adds a measurement to the mean rate of `running` jobs. Returns the mean.
    fn update_mean(&mut self, running: usize, tokens_per_s: f64) -> f64 {
        let rate = self.rates.entry(running).or_insert(Rate {
            tokens_per_s,
            measurements: 0,
        });
        rate.measurements = (rate.measurements + 1).min(MEAN_MEASUREMENTS);
        rate.tokens_per_s += (tokens_per_s - rate.tokens_per_s) / f64::from(rate.measurements);
        rate.tokens_per_s
    }

    /// Returns the lower limit with the best known rate, and that rate. Of equal rates,
    /// the highest limit wins.
    fn best_below(&self) -> Option<(usize, f64)> {
        self.rates
            .range(..self.current)
            .map(|(limit, rate)| (*limit, rate.tokens_per_s))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Keeps the raised limit if its rate `mean` is higher than that of the limit
    /// before; otherwise restores the limit before.
    fn judge_trial(&mut self, mean: f64) {
        let before = self.current - 1;
        let is_better = self
            .rates
            .get(&before)
            .is_none_or(|rate| mean > rate.tokens_per_s);
        self.end_trial(is_better);
        if !is_better {
            self.set(before);
        }
    }

    fn end_trial(&mut self, is_better: bool) {
        if self.trial.take().is_some() {
            self.trial_after = if is_better {
                TRIAL_AFTER_MIN
            } else {
                (self.trial_after * 2).min(TRIAL_AFTER_MAX)
            };
        }
    }

    fn set(&mut self, limit: usize) {
        self.current = limit;
        self.drops = 0;
        self.good = 0;
    }
}

fn is_rate(tokens_per_s: f64) -> bool {
    tokens_per_s.is_finite() && tokens_per_s >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The total rate of a server by number of concurrent jobs.
    type Server = fn(usize) -> f64;

    const IDEAL: Server = |running| [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0][running];
    const FLAT: Server = |_| 40.0;
    const THRASHES_ABOVE_2: Server = |running| match running {
        1 => 40.0,
        2 => 72.0,
        _ => 10.0,
    };
    const THRASHES_ABOVE_1: Server = |running| if running > 1 { 10.0 } else { 40.0 };

    /// Reproducible noise from -1 to 1.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = u32::try_from(self.0 >> 32).unwrap();
            f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0
        }
    }

    /// Returns the limit after each of `intervals` measurements.
    fn run(limit: &mut ConcurrencyLimit, server: Server, intervals: usize) -> Vec<usize> {
        let mut limits = Vec::new();
        for _ in 0..intervals {
            limit.record(limit.current(), server(limit.current()));
            limits.push(limit.current());
        }
        limits
    }

    #[test]
    fn the_limit_stays_at_the_maximum_unless_the_rate_drops() {
        for server in [IDEAL, FLAT] {
            for max in [1, 2, 4, 8] {
                let mut limit = ConcurrencyLimit::new(max);
                limit.record_single_job(server(1));
                let limits = run(&mut limit, server, 200);
                assert!(limits.iter().all(|limit| *limit == max), "{limits:?}");
            }
        }
    }

    #[test]
    fn a_thrashing_server_gets_its_best_limit() {
        for (server, best) in [(THRASHES_ABOVE_2, 2), (THRASHES_ABOVE_1, 1)] {
            for max in [3, 4, 8] {
                let mut limit = ConcurrencyLimit::new(max);
                limit.record_single_job(server(1));
                let limits = run(&mut limit, server, 600);
                assert_eq!(limits[..2], [max, 1], "two drops lower the limit");
                let found = limits.iter().position(|limit| *limit == best).unwrap();
                assert!(found <= 10, "{limits:?}");
                let late = &limits[100..];
                let wrong = late.iter().filter(|limit| **limit != best).count();
                assert!(wrong < late.len() / 25, "{wrong} in {limits:?}");
                assert!(late.iter().all(|limit| *limit <= best + 1), "{limits:?}");
            }
        }
    }

    #[test]
    fn later_thrashing_is_noticed_without_a_single_job_rate() {
        let mut limit = ConcurrencyLimit::new(4);
        // Measured at the end of an earlier group of jobs.
        limit.record(2, 72.0);
        assert_eq!(run(&mut limit, |_| 100.0, 20), [4; 20]);
        let limits = run(&mut limit, THRASHES_ABOVE_2, 8);
        assert_eq!(limits.last(), Some(&2), "{limits:?}");
    }

    #[test]
    fn noise_does_not_lower_the_limit_for_long() {
        for seed in 0..50 {
            for max in [2, 4, 8] {
                let mut noise = Noise(seed);
                let mut limit = ConcurrencyLimit::new(max);
                limit.record_single_job(10.0 * (1.0 + 0.2 * noise.next()));
                let mut below = 0;
                for interval in 0..500 {
                    // Sometimes fewer jobs run, as at the end of a model's jobs.
                    let running = if interval % 5 == 0 {
                        limit.current().saturating_sub(1).max(1)
                    } else {
                        limit.current()
                    };
                    limit.record(running, IDEAL(running) * (1.0 + 0.2 * noise.next()));
                    below += usize::from(limit.current() < max);
                }
                assert!(below <= 50, "{seed} {max}: {below} of 500 below");
            }
        }
    }

    #[test]
    fn a_single_drop_does_not_lower_the_limit() {
        let mut limit = ConcurrencyLimit::new(4);
        // So close that the mean stays low for a while.
        limit.record_single_job(38.0);
        for _ in 0..20 {
            limit.record(4, 0.0);
            assert_eq!(limit.current(), 4);
            limit.record(4, 40.0);
            assert_eq!(limit.current(), 4);
        }
    }

    #[test]
    fn a_refusal_halves_the_limit_and_it_recovers_step_by_step() {
        let mut limit = ConcurrencyLimit::new(8);
        let mut limits = Vec::new();
        for _ in 0..5 {
            limit.back_off();
            limits.push(limit.current());
        }
        assert_eq!(limits, [4, 2, 1, 1, 1]);
        let mut limits = run(&mut limit, IDEAL, 100);
        assert_eq!(limits[..8], [1, 1, 1, 1, 1, 1, 1, 2]);
        limits.dedup();
        assert_eq!(limits, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_limit_recovers_despite_noise() {
        for seed in 0..50 {
            let mut noise = Noise(seed);
            let mut limit = ConcurrencyLimit::new(8);
            limit.back_off();
            let mut intervals = 0;
            while limit.current() < 8 && intervals < 2000 {
                let now = limit.current();
                limit.record(now, IDEAL(now) * (1.0 + 0.2 * noise.next()));
                intervals += 1;
            }
            assert!(intervals < 400, "{seed}: {intervals}");
        }
    }

    #[test]
    fn failed_trials_become_rare() {
        let mut limit = ConcurrencyLimit::new(2);
        limit.back_off();
        let limits = run(&mut limit, FLAT, 600);
        let starts: Vec<usize> = (1..limits.len())
            .filter(|at| limits[at - 1] == 1 && limits[*at] == 2)
            .collect();
        let waits: Vec<usize> = starts
            .windows(2)
            .map(|starts| starts[1] - starts[0] - 3)
            .collect();
        assert_eq!(waits, [16, 32, 64, 128, 128, 128], "{starts:?}");
    }

    #[test]
    fn an_outdated_single_job_rate_is_corrected() {
        let mut limit = ConcurrencyLimit::new(4);
        limit.record_single_job(1000.0);
        let limits = run(&mut limit, IDEAL, 60);
        assert_eq!(limits[1], 1);
        assert_eq!(limits.last(), Some(&4), "{limits:?}");

        let mut limit = ConcurrencyLimit::new(4);
        limit.record_single_job(1000.0);
        limit.record_single_job(10.0);
        assert_eq!(run(&mut limit, IDEAL, 20), [4; 20]);
    }

    #[test]
    fn a_trial_is_judged_by_its_own_measurements() {
        let mut limit = ConcurrencyLimit::new(2);
        limit.record_single_job(40.0);
        assert_eq!(run(&mut limit, THRASHES_ABOVE_1, 2), [2, 1]);
        let better: Server = |running| if running > 1 { 50.0 } else { 40.0 };
        assert_eq!(run(&mut limit, better, 20)[7..], [2; 13]);
    }

    #[test]
    fn invalid_measurements_are_ignored() {
        let mut limit = ConcurrencyLimit::new(0);
        assert_eq!(limit.current(), 1);
        limit.record(1, 5.0);
        assert_eq!(limit.current(), 1);
        let mut limit = ConcurrencyLimit::new(4);
        limit.record_single_job(10.0);
        for (running, rate) in [
            (4, f64::NAN),
            (4, f64::INFINITY),
            (4, -1.0),
            (0, 1.0),
            (5, 1.0),
        ] {
            limit.record(running, rate);
            limit.record(running, rate);
            limit.record_single_job(rate.min(-1.0));
            assert_eq!(limit.current(), 4, "{running} {rate}");
            assert_eq!(limit.best_below(), Some((1, 10.0)), "{running} {rate}");
        }
        // A rate of another number than the current limit changes nothing.
        limit.record(2, 0.0);
        limit.record(2, 0.0);
        assert_eq!(limit.current(), 4);
    }
}
