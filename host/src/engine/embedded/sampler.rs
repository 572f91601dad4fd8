//! Chooses the next token from the model's scores, in the order of
//! llama.cpp's default chain: penalties, top-k, top-p, min-p, temperature,
//! draw.
//!
//! Draws come from ChaCha8, whose output is fixed by its specification, so
//! that a seed means the same on every platform and in every release. (The
//! scores themselves may differ in their last bits between kinds of CPU.)

use std::cmp::Ordering;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{OsRng, RngCore, SeedableRng, TryRngCore};

use crate::inference::{REPEAT_LAST_TOKENS, Settings};

/// A token and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    score: f32,
}

/// Chooses tokens; made anew for every inference.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    repeat: f32,
    presence: f32,
    frequency: f32,
    seed: u64,
    random: ChaCha8Rng,
    /// Kept between tokens, so that the vocabulary is allocated once.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// Without a seed one is drawn; `seed` tells which.
    pub(super) fn new(settings: &Settings) -> Self {
        let penalty =
            |given: Option<crate::inference::Given<f64>>| given.map_or(0.0, |given| given.value);
        let seed = match &settings.seed {
            Some(given) => given.value,
            // Short, so that a person can type it again. A system without
            // randomness is no reason to fail.
            None => u64::from(OsRng.try_next_u32().unwrap_or(0)),
        };
        Self {
            temperature: settings.temperature.value,
            top_k: settings.top_k.value as usize,
            top_p: settings.top_p.value,
            min_p: settings.min_p.value,
            repeat: settings.repeat_penalty.value as f32,
            presence: penalty(settings.presence_penalty) as f32,
            frequency: penalty(settings.frequency_penalty) as f32,
            seed,
            random: ChaCha8Rng::seed_from_u64(seed),
            candidates: Vec::new(),
        }
    }

    /// The seed that is in use.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The next token after `tokens` (prompt and answer so far). None when no
    /// score is a number: the model, or its file, is broken.
    pub(super) fn choose(&mut self, scores: &mut [f32], tokens: &[u32]) -> Option<u32> {
        self.penalise(scores, tokens);
        // A model's minus infinity is a decision, its NaN an accident; neither
        // may be chosen.
        let usable = |(_, score): &(u32, &f32)| !score.is_nan() && **score != f32::NEG_INFINITY;
        if self.temperature <= 0.0 || self.temperature.is_nan() {
            let best = (0u32..).zip(&*scores).filter(usable);
            return best.reduce(likelier).map(|(id, _)| id);
        }
        let candidates = (0u32..).zip(&*scores).filter(usable);
        self.candidates.clear();
        self.candidates
            .extend(candidates.map(|(id, score)| Candidate { id, score: *score }));
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        self.draw()
    }

    fn penalise(&self, scores: &mut [f32], tokens: &[u32]) {
        if self.repeat == 1.0 && self.presence == 0.0 && self.frequency == 0.0 {
            return;
        }
        let last = &tokens[tokens.len().saturating_sub(REPEAT_LAST_TOKENS)..];
        for (index, id) in last.iter().enumerate() {
            let (Some(score), false) = (scores.get_mut(*id as usize), last[..index].contains(id))
            else {
                continue;
            };
            let count = last.iter().filter(|other| *other == id).count();
            // Dividing a negative score would reward the token.
            if *score <= 0.0 {
                *score *= self.repeat;
            } else {
                *score /= self.repeat;
            }
            *score -= count as f32 * self.frequency + self.presence;
        }
    }

    /// Sorts, likeliest first, and keeps the first k.
    fn keep_top_k(&mut self) {
        let by_score =
            |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id));
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(self.top_k - 1, by_score);
            self.candidates.truncate(self.top_k);
        }
        self.candidates.sort_unstable_by(by_score);
    }

    /// Keeps the first that reach the probability together; at least one.
    fn keep_top_p(&mut self) {
        if self.top_p >= 1.0 || self.top_p.is_nan() {
            return;
        }
        let total: f64 = weights(&self.candidates, 1.0).sum();
        let mut sum = 0.0;
        let enough = weights(&self.candidates, 1.0).position(|weight| {
            sum += weight / total;
            sum >= self.top_p
        });
        if let Some(last) = enough {
            self.candidates.truncate(last + 1);
        }
    }

    /// Keeps those at least this fraction as likely as the likeliest.
    fn keep_min_p(&mut self) {
        if self.min_p <= 0.0 || self.min_p.is_nan() {
            return;
        }
        let kept = weights(&self.candidates, 1.0)
            .take_while(|weight| *weight >= self.min_p)
            .count();
        self.candidates.truncate(kept.max(1));
    }

    fn draw(&mut self) -> Option<u32> {
        let total: f64 = weights(&self.candidates, self.temperature).sum();
        // 53 bits: every value is an exact double below 1.
        let fraction = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = fraction * total;
        let chosen = weights(&self.candidates, self.temperature).position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding can leave a rest behind the last.
        let chosen = chosen.unwrap_or(self.candidates.len().saturating_sub(1));
        self.candidates.get(chosen).map(|candidate| candidate.id)
    }
}

/// The earlier of two equally likely tokens wins, as in llama.cpp.
fn likelier<'a>(best: (u32, &'a f32), other: (u32, &'a f32)) -> (u32, &'a f32) {
    match other.1.partial_cmp(best.1) {
        Some(Ordering::Greater) => other,
        _ => best,
    }
}

/// How likely each is, relative to the first, which must be the likeliest.
fn weights(candidates: &[Candidate], temperature: f64) -> impl Iterator<Item = f64> {
    let most = candidates
        .first()
        .map_or(0.0, |candidate| f64::from(candidate.score));
    candidates.iter().map(move |candidate| {
        let distance = f64::from(candidate.score) - most;
        // Infinity minus infinity: as likely as the likeliest.
        if distance.is_nan() {
            1.0
        } else {
            (distance / temperature).exp()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Layer, Origin, settle};

    fn sampler(layer: Layer) -> Sampler {
        let off = Layer {
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            repeat_penalty: Some(1.0),
            temperature: Some(1.0),
            seed: Some(7),
            ..Layer::default()
        };
        Sampler::new(&settle(&[(Origin::Flag, layer), (Origin::Config, off)]))
    }

    /// Which tokens come up in many draws.
    fn drawn(layer: Layer, scores: &[f32]) -> Vec<u32> {
        let mut sampler = sampler(layer);
        let mut drawn: Vec<u32> = (0..2000)
            .filter_map(|_| sampler.choose(&mut scores.to_vec(), &[]))
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    #[test]
    fn each_setting_narrows_the_choice() {
        // Probabilities 0.64, 0.24, 0.09, 0.03.
        let scores = [2.0, 3.0, 0.0, 1.0];
        let set = |change: fn(&mut Layer)| {
            let mut layer = Layer::default();
            change(&mut layer);
            layer
        };
        for (name, layer, expected) in [
            ("nothing", set(|_| {}), &[0, 1, 2, 3][..]),
            ("greedy", set(|l| l.temperature = Some(0.0)), &[1]),
            ("cold", set(|l| l.temperature = Some(-1.0)), &[1]),
            ("top-k 1", set(|l| l.top_k = Some(1)), &[1]),
            ("top-k 2", set(|l| l.top_k = Some(2)), &[0, 1]),
            ("top-k 9", set(|l| l.top_k = Some(9)), &[0, 1, 2, 3]),
            ("top-p 0", set(|l| l.top_p = Some(0.0)), &[1]),
            ("top-p 0.6", set(|l| l.top_p = Some(0.6)), &[1]),
            ("top-p 0.7", set(|l| l.top_p = Some(0.7)), &[0, 1]),
            ("top-p 0.9", set(|l| l.top_p = Some(0.9)), &[0, 1, 3]),
            ("top-p 1", set(|l| l.top_p = Some(1.0)), &[0, 1, 2, 3]),
            ("min-p 0.3", set(|l| l.min_p = Some(0.3)), &[0, 1]),
            ("min-p 1", set(|l| l.min_p = Some(1.0)), &[1]),
            ("min-p 2", set(|l| l.min_p = Some(2.0)), &[1]),
        ] {
            assert_eq!(drawn(layer, &scores), expected, "{name}");
        }
    }

    #[test]
    fn scores_that_are_no_numbers_are_never_chosen() {
        let scores = [f32::NAN, 1.0, f32::NEG_INFINITY, f32::NAN];
        for temperature in [0.0, 1.0] {
            let layer = Layer {
                temperature: Some(temperature),
                ..Layer::default()
            };
            assert_eq!(drawn(layer.clone(), &scores), [1]);
            assert!(drawn(layer.clone(), &[f32::NAN, f32::NAN]).is_empty());
            assert!(drawn(layer.clone(), &[]).is_empty());
            assert_eq!(drawn(layer, &[0.0, f32::INFINITY]), [1]);
        }
    }

    #[test]
    fn penalties_look_at_the_last_tokens() {
        let greedy = |change: fn(&mut Layer), tokens: &[u32]| {
            let mut layer = Layer {
                temperature: Some(0.0),
                ..Layer::default()
            };
            change(&mut layer);
            sampler(layer).choose(&mut [1.0, 1.5, -1.0, -1.5], tokens)
        };
        let long_ago = [&[1][..], &[3; REPEAT_LAST_TOKENS]].concat();
        assert_eq!(greedy(|_| {}, &[1]), Some(1));
        assert_eq!(greedy(|l| l.repeat_penalty = Some(2.0), &[1]), Some(0));
        assert_eq!(greedy(|l| l.repeat_penalty = Some(2.0), &long_ago), Some(1));
        assert_eq!(greedy(|l| l.presence_penalty = Some(0.6), &[1]), Some(0));
        assert_eq!(greedy(|l| l.frequency_penalty = Some(0.3), &[1]), Some(1));
        assert_eq!(
            greedy(|l| l.frequency_penalty = Some(0.3), &[1, 1]),
            Some(0)
        );

        // A negative score is multiplied.
        let mut scores = [-1.0, -1.5];
        let layer = Layer {
            repeat_penalty: Some(2.0),
            ..Layer::default()
        };
        sampler(layer).penalise(&mut scores, &[0, 0]);
        assert_eq!(scores, [-2.0, -1.5]);
    }

    #[test]
    fn a_seed_repeats_the_draws() {
        let run = |seed| {
            let layer = Layer {
                seed: Some(seed),
                ..Layer::default()
            };
            let mut sampler = sampler(layer);
            (0..24)
                .filter_map(|_| sampler.choose(&mut [0.0; 10], &[]))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        // Pinned: a change here changes what users' seeds give.
        assert_eq!(run(42)[..8], [6, 9, 4, 6, 2, 1, 3, 8]);
    }
}
