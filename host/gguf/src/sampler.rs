//! Samples the next token from the model's logits, in the order of llama.cpp's default
//! sampler chain: penalties, top-k, top-p, min-p, temperature, random choice.
//!
//! Random numbers come from ChaCha8, whose output is fixed by its specification, so a seed
//! gives the same numbers on every platform and in every release. (The last bits of the
//! logits may differ between CPU types.)

use std::cmp::Ordering;

use lmstrix_inference::{REPEAT_LAST_TOKENS, Settings};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{OsRng, RngCore, SeedableRng, TryRngCore};

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

/// Samples tokens. Each inference uses a new sampler.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    seed: u64,
    rng: ChaCha8Rng,
    /// Buffer that is reused for all tokens, to avoid an allocation per token.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// Returns a sampler for these settings. Generates a seed if none is set; see
    /// [`Sampler::seed`].
    pub(super) fn new(settings: &Settings) -> Self {
        let penalty = |setting: Option<lmstrix_inference::WithOrigin<f64>>| {
            setting.map_or(0.0, |setting| setting.value)
        };
        let seed = match &settings.seed {
            Some(setting) => setting.value,
            // 32 bits, so that the seed is short enough to type. A system without a source
            // of randomness is not an error.
            None => u64::from(OsRng.try_next_u32().unwrap_or(0)),
        };
        Self {
            temperature: settings.temperature.value,
            top_k: settings.top_k.value as usize,
            top_p: settings.top_p.value,
            min_p: settings.min_p.value,
            repeat_penalty: settings.repeat_penalty.value as f32,
            presence_penalty: penalty(settings.presence_penalty) as f32,
            frequency_penalty: penalty(settings.frequency_penalty) as f32,
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            candidates: Vec::new(),
        }
    }

    /// Returns the seed that was set or generated.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the next token. `logits` has one entry per token of the vocabulary; `tokens` is
    /// the prompt and the answer so far. Returns `None` if no logit is a number, which means
    /// that the model or its file is damaged.
    pub(super) fn sample(&mut self, logits: &mut [f32], tokens: &[u32]) -> Option<u32> {
        self.apply_penalties(logits, tokens);
        // Minus infinity excludes a token, and NaN is an error; neither is ever sampled.
        let is_usable = |(_, logit): &(u32, &f32)| !logit.is_nan() && **logit != f32::NEG_INFINITY;
        let usable = (0u32..).zip(&*logits).filter(is_usable);
        if self.temperature <= 0.0 || self.temperature.is_nan() {
            return usable.reduce(more_likely).map(|(id, _)| id);
        }
        self.candidates.clear();
        self.candidates
            .extend(usable.map(|(id, logit)| Candidate { id, logit: *logit }));
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        self.sample_candidate()
    }

    /// Applies the repeat, presence and frequency penalties for the last
    /// [`REPEAT_LAST_TOKENS`] tokens.
    fn apply_penalties(&self, logits: &mut [f32], tokens: &[u32]) {
        if self.repeat_penalty == 1.0
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0
        {
            return;
        }
        let last = &tokens[tokens.len().saturating_sub(REPEAT_LAST_TOKENS)..];
        for (index, id) in last.iter().enumerate() {
            let (Some(logit), false) = (logits.get_mut(*id as usize), last[..index].contains(id))
            else {
                continue;
            };
            let count = last.iter().filter(|other| *other == id).count();
            // Dividing a negative logit would make the token more likely.
            if *logit <= 0.0 {
                *logit *= self.repeat_penalty;
            } else {
                *logit /= self.repeat_penalty;
            }
            *logit -= count as f32 * self.frequency_penalty + self.presence_penalty;
        }
    }

    /// Sorts the candidates by descending logit and keeps the first `top_k`.
    fn keep_top_k(&mut self) {
        let by_logit =
            |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(self.top_k - 1, by_logit);
            self.candidates.truncate(self.top_k);
        }
        self.candidates.sort_unstable_by(by_logit);
    }

    /// Keeps the fewest most likely candidates whose probabilities sum up to at least `top_p`.
    fn keep_top_p(&mut self) {
        if self.top_p >= 1.0 || self.top_p.is_nan() {
            return;
        }
        let total: f64 = relative_probabilities(&self.candidates, 1.0).sum();
        let mut sum = 0.0;
        let last = relative_probabilities(&self.candidates, 1.0).position(|probability| {
            sum += probability / total;
            sum >= self.top_p
        });
        if let Some(last) = last {
            self.candidates.truncate(last + 1);
        }
    }

    /// Keeps the candidates whose probability is at least `min_p` times that of the most likely
    /// one.
    fn keep_min_p(&mut self) {
        if self.min_p <= 0.0 || self.min_p.is_nan() {
            return;
        }
        let count = relative_probabilities(&self.candidates, 1.0)
            .take_while(|probability| *probability >= self.min_p)
            .count();
        self.candidates.truncate(count.max(1));
    }

    /// Samples one of the candidates at random, after applying the temperature.
    fn sample_candidate(&mut self) -> Option<u32> {
        let total: f64 = relative_probabilities(&self.candidates, self.temperature).sum();
        // 53 random bits give a uniform f64 in [0, 1).
        let fraction = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut remaining = fraction * total;
        let index =
            relative_probabilities(&self.candidates, self.temperature).position(|probability| {
                remaining -= probability;
                remaining < 0.0
            });
        // Because of rounding, the sum can stay below `fraction * total`.
        let index = index.unwrap_or(self.candidates.len().saturating_sub(1));
        self.candidates.get(index).map(|candidate| candidate.id)
    }
}

/// Returns the token with the larger logit; of equal ones the first, as in llama.cpp.
fn more_likely<'a>(best: (u32, &'a f32), other: (u32, &'a f32)) -> (u32, &'a f32) {
    match other.1.partial_cmp(best.1) {
        Some(Ordering::Greater) => other,
        _ => best,
    }
}

/// Returns the probability of each candidate, divided by that of the first. The first
/// candidate must be the most likely one.
fn relative_probabilities(candidates: &[Candidate], temperature: f64) -> impl Iterator<Item = f64> {
    let logit_max = candidates
        .first()
        .map_or(0.0, |candidate| f64::from(candidate.logit));
    candidates.iter().map(move |candidate| {
        let difference = f64::from(candidate.logit) - logit_max;
        // Infinity minus infinity: as likely as the first candidate.
        if difference.is_nan() {
            1.0
        } else {
            (difference / temperature).exp()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmstrix_inference::{Origin, Settings, SettingsLayer};

    fn sampler(layer: SettingsLayer) -> Sampler {
        let off = SettingsLayer {
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            repeat_penalty: Some(1.0),
            temperature: Some(1.0),
            seed: Some(7),
            ..SettingsLayer::default()
        };
        Sampler::new(&Settings::resolve(&[
            (Origin::Flag, &layer),
            (Origin::Config, &off),
        ]))
    }

    /// Returns the distinct tokens of many samples, sorted.
    fn sampled_tokens(layer: SettingsLayer, logits: &[f32]) -> Vec<u32> {
        let mut sampler = sampler(layer);
        let mut tokens: Vec<u32> = (0..2000)
            .filter_map(|_| sampler.sample(&mut logits.to_vec(), &[]))
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    #[test]
    fn each_setting_limits_the_candidates() {
        // Probabilities 0.64, 0.24, 0.09, 0.03.
        let logits = [2.0, 3.0, 0.0, 1.0];
        let with = |change: fn(&mut SettingsLayer)| {
            let mut layer = SettingsLayer::default();
            change(&mut layer);
            layer
        };
        for (name, layer, expected) in [
            ("nothing", with(|_| {}), &[0, 1, 2, 3][..]),
            ("greedy", with(|layer| layer.temperature = Some(0.0)), &[1]),
            ("cold", with(|layer| layer.temperature = Some(-1.0)), &[1]),
            ("top-k 1", with(|layer| layer.top_k = Some(1)), &[1]),
            ("top-k 2", with(|layer| layer.top_k = Some(2)), &[0, 1]),
            (
                "top-k 9",
                with(|layer| layer.top_k = Some(9)),
                &[0, 1, 2, 3],
            ),
            ("top-p 0", with(|layer| layer.top_p = Some(0.0)), &[1]),
            ("top-p 0.6", with(|layer| layer.top_p = Some(0.6)), &[1]),
            ("top-p 0.7", with(|layer| layer.top_p = Some(0.7)), &[0, 1]),
            (
                "top-p 0.9",
                with(|layer| layer.top_p = Some(0.9)),
                &[0, 1, 3],
            ),
            (
                "top-p 1",
                with(|layer| layer.top_p = Some(1.0)),
                &[0, 1, 2, 3],
            ),
            ("min-p 0.3", with(|layer| layer.min_p = Some(0.3)), &[0, 1]),
            ("min-p 1", with(|layer| layer.min_p = Some(1.0)), &[1]),
            ("min-p 2", with(|layer| layer.min_p = Some(2.0)), &[1]),
        ] {
            assert_eq!(sampled_tokens(layer, &logits), expected, "{name}");
        }
    }

    #[test]
    fn logits_that_are_not_numbers_are_never_sampled() {
        let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, f32::NAN];
        for temperature in [0.0, 1.0] {
            let layer = SettingsLayer {
                temperature: Some(temperature),
                ..SettingsLayer::default()
            };
            assert_eq!(sampled_tokens(layer.clone(), &logits), [1]);
            assert!(sampled_tokens(layer.clone(), &[f32::NAN, f32::NAN]).is_empty());
            assert!(sampled_tokens(layer.clone(), &[]).is_empty());
            assert_eq!(sampled_tokens(layer, &[0.0, f32::INFINITY]), [1]);
        }
    }

    #[test]
    fn penalties_apply_to_the_last_tokens() {
        let greedy = |change: fn(&mut SettingsLayer), tokens: &[u32]| {
            let mut layer = SettingsLayer {
                temperature: Some(0.0),
                ..SettingsLayer::default()
            };
            change(&mut layer);
            sampler(layer).sample(&mut [1.0, 1.5, -1.0, -1.5], tokens)
        };
        let outside_window = [&[1][..], &[3; REPEAT_LAST_TOKENS]].concat();
        assert_eq!(greedy(|_| {}, &[1]), Some(1));
        assert_eq!(
            greedy(|layer| layer.repeat_penalty = Some(2.0), &[1]),
            Some(0)
        );
        assert_eq!(
            greedy(|layer| layer.repeat_penalty = Some(2.0), &outside_window),
            Some(1)
        );
        assert_eq!(
            greedy(|layer| layer.presence_penalty = Some(0.6), &[1]),
            Some(0)
        );
        assert_eq!(
            greedy(|layer| layer.frequency_penalty = Some(0.3), &[1]),
            Some(1)
        );
        assert_eq!(
            greedy(|layer| layer.frequency_penalty = Some(0.3), &[1, 1]),
            Some(0)
        );

        // A negative logit is multiplied.
        let mut logits = [-1.0, -1.5];
        let layer = SettingsLayer {
            repeat_penalty: Some(2.0),
            ..SettingsLayer::default()
        };
        sampler(layer).apply_penalties(&mut logits, &[0, 0]);
        assert_eq!(logits, [-2.0, -1.5]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let run = |seed| {
            let layer = SettingsLayer {
                seed: Some(seed),
                ..SettingsLayer::default()
            };
            let mut sampler = sampler(layer);
            (0..24)
                .filter_map(|_| sampler.sample(&mut [0.0; 10], &[]))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        // A change of these values would change the answers of existing seeds.
        assert_eq!(run(42)[..8], [6, 9, 4, 6, 2, 1, 3, 8]);
    }
}
