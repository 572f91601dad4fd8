//! How many jobs of a batch run at once on one instance. It begins with as many
//! as the server has, goes down where fewer give more tokens per second in all,
//! and tries from time to time whether one more would help. It starts nothing
//! and has no clock: it is told what was measured, and asked for a number.

use std::collections::BTreeMap;

/// A level that gives less than this share of what a lower one gives is too
/// high. Nearer to 1, the noise of ordinary answers would count.
const CLEARLY_LESS: f64 = 0.9;
/// So many falls in a row count; one is a busy moment.
const FALLS_THAT_COUNT: u32 = 2;
/// An attempt at one more is judged after so many measurements.
const ATTEMPT_MEASUREMENTS: u32 = 3;
/// So many good measurements lead to the first attempt at one more.
const FIRST_PATIENCE: u32 = 8;
/// Each attempt that failed doubles them, up to this: a busy machine may be
/// free again some day.
const MOST_PATIENCE: u32 = 128;
/// A rate is a plain mean until it rests on so many measurements; from then on
/// older ones fade.
const REMEMBERED: u32 = 4;

/// Decides how many jobs of an instance run at once.
#[derive(Clone, Debug)]
pub struct Slots {
    most: usize,
    now: usize,
    /// What each number of jobs gives in all, as far as it is known.
    rates: BTreeMap<usize, Rate>,
    /// Falls seen in a row.
    falls: u32,
    /// Good measurements since the number last changed.
    good: u32,
    /// How many of them lead to an attempt.
    patience: u32,
    /// Measurements of the attempt under way.
    attempt: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    tokens_per_s: f64,
    measurements: u32,
}

impl Slots {
    /// `most` is what the server has or what was asked for, and at least 1; it
    /// is also where it starts.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            now: most,
            rates: BTreeMap::new(),
            falls: 0,
            good: 0,
            patience: FIRST_PATIENCE,
            attempt: None,
        }
    }

    /// How many may run now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.now
    }

    /// What a single job was measured to give in tokens/s, in this run's first
    /// moments or from earlier runs. The newest word replaces the older ones.
    pub fn alone(&mut self, tokens_per_s: f64) {
        if is_rate(tokens_per_s) {
            self.rates.remove(&1);
            self.learn(1, tokens_per_s);
        }
    }

    /// A span in which so many ran all the time gave so many tokens per second
    /// in total. What was not measured at the present number is remembered, but
    /// decides nothing: jobs may still run from before.
    pub fn measured(&mut self, running: usize, tokens_per_s: f64) {
        if running == 0 || running > self.most || !is_rate(tokens_per_s) {
            return;
        }
        let here = self.learn(running, tokens_per_s);
        if running != self.now {
            return;
        }
        let lower = self.best_below();
        // Both must be low: a mean remembers a bad moment after it has passed.
        let fallen = lower.filter(|(_, best)| here.max(tokens_per_s) < CLEARLY_LESS * best);
        self.falls = if fallen.is_some() { self.falls + 1 } else { 0 };
        if let Some((level, _)) = fallen
            && self.falls >= FALLS_THAT_COUNT
        {
            self.end_attempt(false);
            self.go_to(level);
        } else if let Some(measurements) = self.attempt {
            self.attempt = Some(measurements + 1);
            if measurements + 1 >= ATTEMPT_MEASUREMENTS {
                self.judge_attempt(here);
            }
        } else if fallen.is_none() {
            self.good = self.good.saturating_add(1);
            if self.good >= self.patience && self.now < self.most {
                self.go_to(self.now + 1);
                // What it gave before may have been on a busier machine.
                self.rates.remove(&self.now);
                self.attempt = Some(0);
            }
        }
    }

    /// The server said that it is busy (429, 503), or a job hung: half as many,
    /// at least 1. Each call halves, so a burst of refusals is one call.
    pub fn refused(&mut self) {
        self.end_attempt(false);
        self.go_to((self.now / 2).max(1));
    }

    /// Takes a measurement into a level's mean, and tells the mean.
    fn learn(&mut self, running: usize, tokens_per_s: f64) -> f64 {
        let rate = self.rates.entry(running).or_insert(Rate {
            tokens_per_s,
            measurements: 0,
        });
        rate.measurements = (rate.measurements + 1).min(REMEMBERED);
        rate.tokens_per_s += (tokens_per_s - rate.tokens_per_s) / f64::from(rate.measurements);
        rate.tokens_per_s
    }

    /// The best of the lower levels that are known; of equal ones the highest.
    fn best_below(&self) -> Option<(usize, f64)> {
        self.rates
            .range(..self.now)
            .map(|(level, rate)| (*level, rate.tokens_per_s))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Stays if one more gives more, and else returns.
    fn judge_attempt(&mut self, here: f64) {
        let before = self.now - 1;
        let better = self
            .rates
            .get(&before)
            .is_none_or(|it| here > it.tokens_per_s);
        self.end_attempt(better);
        if !better {
            self.go_to(before);
        }
    }

    fn end_attempt(&mut self, better: bool) {
        if self.attempt.take().is_some() {
            self.patience = if better {
                FIRST_PATIENCE
            } else {
                (self.patience * 2).min(MOST_PATIENCE)
            };
        }
    }

    fn go_to(&mut self, level: usize) {
        self.now = level;
        self.falls = 0;
        self.good = 0;
    }
}

fn is_rate(tokens_per_s: f64) -> bool {
    tokens_per_s.is_finite() && tokens_per_s >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server gives in all to so many jobs.
    type Server = fn(usize) -> f64;

    const IDEAL: Server = |running| [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0][running];
    const FLAT: Server = |_| 40.0;
    const THRASHES_ABOVE_2: Server = |running| match running {
        1 => 40.0,
        2 => 72.0,
        _ => 10.0,
    };
    const THRASHES_ABOVE_1: Server = |running| if running > 1 { 10.0 } else { 40.0 };

    /// Noise that is the same in every run: from -1 to 1.
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

    /// The numbers of jobs over so many spans.
    fn run(slots: &mut Slots, server: Server, spans: usize) -> Vec<usize> {
        let mut levels = Vec::new();
        for _ in 0..spans {
            slots.measured(slots.now(), server(slots.now()));
            levels.push(slots.now());
        }
        levels
    }

    #[test]
    fn a_server_that_gains_or_does_not_lose_keeps_all() {
        for server in [IDEAL, FLAT] {
            for most in [1, 2, 4, 8] {
                let mut slots = Slots::new(most);
                slots.alone(server(1));
                let levels = run(&mut slots, server, 200);
                assert!(levels.iter().all(|it| *it == most), "{levels:?}");
            }
        }
    }

    #[test]
    fn a_server_that_thrashes_gets_what_it_does_best() {
        for (server, best) in [(THRASHES_ABOVE_2, 2), (THRASHES_ABOVE_1, 1)] {
            for most in [3, 4, 8] {
                let mut slots = Slots::new(most);
                slots.alone(server(1));
                let levels = run(&mut slots, server, 600);
                assert_eq!(levels[..2], [most, 1], "two falls count");
                let found = levels.iter().position(|it| *it == best).unwrap();
                assert!(found <= 10, "{levels:?}");
                let late = &levels[100..];
                let wrong = late.iter().filter(|it| **it != best).count();
                assert!(wrong < late.len() / 25, "{wrong} in {levels:?}");
                assert!(late.iter().all(|it| *it <= best + 1), "{levels:?}");
            }
        }
    }

    #[test]
    fn a_server_that_starts_to_thrash_is_noticed_without_alone() {
        let mut slots = Slots::new(4);
        // The end of an earlier group of jobs.
        slots.measured(2, 72.0);
        assert_eq!(run(&mut slots, |_| 100.0, 20), [4; 20]);
        let levels = run(&mut slots, THRASHES_ABOVE_2, 8);
        assert_eq!(levels.last(), Some(&2), "{levels:?}");
    }

    #[test]
    fn noise_lowers_nothing_for_long() {
        for seed in 0..50 {
            for most in [2, 4, 8] {
                let mut noise = Noise(seed);
                let mut slots = Slots::new(most);
                slots.alone(10.0 * (1.0 + 0.2 * noise.next()));
                let mut below = 0;
                for span in 0..500 {
                    // Now and then fewer run, as when a model's jobs end.
                    let running = if span % 5 == 0 {
                        slots.now().saturating_sub(1).max(1)
                    } else {
                        slots.now()
                    };
                    slots.measured(running, IDEAL(running) * (1.0 + 0.2 * noise.next()));
                    below += usize::from(slots.now() < most);
                }
                assert!(below <= 50, "{seed} {most}: {below} of 500 below");
            }
        }
    }

    #[test]
    fn one_busy_moment_does_not_count() {
        let mut slots = Slots::new(4);
        // So near that the mean stays low for a while.
        slots.alone(38.0);
        for _ in 0..20 {
            slots.measured(4, 0.0);
            assert_eq!(slots.now(), 4);
            slots.measured(4, 40.0);
            assert_eq!(slots.now(), 4);
        }
    }

    #[test]
    fn a_refusal_halves_and_it_recovers_step_by_step() {
        let mut slots = Slots::new(8);
        let mut levels = Vec::new();
        for _ in 0..5 {
            slots.refused();
            levels.push(slots.now());
        }
        assert_eq!(levels, [4, 2, 1, 1, 1]);
        let mut levels = run(&mut slots, IDEAL, 100);
        assert_eq!(levels[..8], [1, 1, 1, 1, 1, 1, 1, 2]);
        levels.dedup();
        assert_eq!(levels, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_noisy_server_recovers_too() {
        for seed in 0..50 {
            let mut noise = Noise(seed);
            let mut slots = Slots::new(8);
            slots.refused();
            let mut spans = 0;
            while slots.now() < 8 && spans < 2000 {
                let now = slots.now();
                slots.measured(now, IDEAL(now) * (1.0 + 0.2 * noise.next()));
                spans += 1;
            }
            assert!(spans < 400, "{seed}: {spans}");
        }
    }

    #[test]
    fn failed_attempts_become_rare() {
        let mut slots = Slots::new(2);
        slots.refused();
        let levels = run(&mut slots, FLAT, 600);
        let starts: Vec<usize> = (1..levels.len())
            .filter(|it| levels[it - 1] == 1 && levels[*it] == 2)
            .collect();
        let waits: Vec<usize> = starts.windows(2).map(|it| it[1] - it[0] - 3).collect();
        assert_eq!(waits, [16, 32, 64, 128, 128, 128], "{starts:?}");
    }

    #[test]
    fn an_old_rate_of_one_job_is_corrected() {
        let mut slots = Slots::new(4);
        slots.alone(1000.0);
        let levels = run(&mut slots, IDEAL, 60);
        assert_eq!(levels[1], 1);
        assert_eq!(levels.last(), Some(&4), "{levels:?}");

        let mut slots = Slots::new(4);
        slots.alone(1000.0);
        slots.alone(10.0);
        assert_eq!(run(&mut slots, IDEAL, 20), [4; 20]);
    }

    #[test]
    fn an_attempt_is_judged_by_itself() {
        let mut slots = Slots::new(2);
        slots.alone(40.0);
        assert_eq!(run(&mut slots, THRASHES_ABOVE_1, 2), [2, 1]);
        let better: Server = |running| if running > 1 { 50.0 } else { 40.0 };
        assert_eq!(run(&mut slots, better, 20)[7..], [2; 13]);
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut slots = Slots::new(0);
        assert_eq!(slots.now(), 1);
        slots.measured(1, 5.0);
        assert_eq!(slots.now(), 1);
        let mut slots = Slots::new(4);
        slots.alone(10.0);
        for (running, rate) in [
            (4, f64::NAN),
            (4, f64::INFINITY),
            (4, -1.0),
            (0, 1.0),
            (5, 1.0),
        ] {
            slots.measured(running, rate);
            slots.measured(running, rate);
            slots.alone(rate.min(-1.0));
            assert_eq!(slots.now(), 4, "{running} {rate}");
            assert_eq!(slots.best_below(), Some((1, 10.0)), "{running} {rate}");
        }
        // The level that it is not at decides nothing.
        slots.measured(2, 0.0);
        slots.measured(2, 0.0);
        assert_eq!(slots.now(), 4);
    }
}
