//! `--shard I/N`: divides the jobs of a plan among machines.
//!
//! Every machine computes the same division from the same plan, without communication.
//! Models are kept whole where that is fair, so that each shard loads few models. The
//! durations of single jobs are unknown here and are not balanced.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A shard of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, starting at 0.
    pub index: usize,
    /// The number of shards.
    pub count: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Parses `I/N`. `I` starts at 0, as in Slurm and Kubernetes; accepting `N/N` as well
    /// would lose jobs.
    fn from_str(text: &str) -> Result<Self, String> {
        // `usize::parse` would also accept `+1`.
        let number = |digits: &str| {
            digits
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| digits.parse::<usize>().ok())
                .flatten()
        };
        let (index, count) = text
            .split_once('/')
            .and_then(|(index, count)| Some((number(index)?, number(count)?)))
            .ok_or_else(|| "expected I/N, such as 0/8".to_owned())?;
        if count == 0 {
            return Err("N must be at least 1".to_owned());
        }
        if index >= count {
            let last = count - 1;
            return Err(format!(
                "I starts at 0, so the shards are 0/{count} to {last}/{count}"
            ));
        }
        Ok(Self { index, count })
    }
}

/// A model is split if it exceeds this multiple of a fair share: then one more load
/// costs less than the wait of the other shards for a shard that large.
const WHOLE_SHARES_MAX: f64 = 1.5;

/// A model and its jobs, independent of the order of the caller's jobs.
struct ModelJobs<'a> {
    /// Index in the caller's list.
    index: usize,
    key: &'a str,
    weight: f64,
    /// Distinct job names. Jobs of the same name stay together, since they cannot be
    /// distinguished.
    names: BTreeSet<&'a str>,
    /// The number of parts that the model is split into.
    parts: usize,
}

impl ModelJobs<'_> {
    #[expect(clippy::cast_precision_loss, reason = "no plan has 2^53 jobs")]
    fn part_weight(&self) -> f64 {
        self.weight / self.parts as f64
    }

    /// Orders by weight per part, descending, then by key.
    fn order(&self, other: &Self) -> Ordering {
        let weights = other.part_weight().total_cmp(&self.part_weight());
        weights.then_with(|| self.key.cmp(other.key))
    }
}

/// Returns for each job of each model whether it belongs to the shard.
///
/// `models` lists key, weight and job names of each model. Keys must be distinct. The
/// weight is the number of jobs times the cost of one; a weight that is not a positive
/// number is replaced by the number of jobs.
///
/// The division does not depend on the order of the models or of the jobs.
#[must_use]
pub fn jobs_of_shard<'a>(models: &[(&'a str, f64, Vec<&'a str>)], shard: Shard) -> Vec<Vec<bool>> {
    let mut sorted = sort_models(models);
    let names = sorted.iter().map(|model| model.names.len()).sum();
    // Shards beyond the number of jobs are empty, and a huge count costs nothing.
    let count = shard.count.min(names);
    let mut in_shard: Vec<Vec<bool>> = models
        .iter()
        .map(|(_, _, jobs)| vec![false; jobs.len()])
        .collect();
    if count == 0 {
        return in_shard;
    }
    split_models(&mut sorted, count);
    sorted.sort_by(ModelJobs::order);

    let mut weights = vec![0.0_f64; count];
    for model in &sorted {
        // The heaviest parts first, each to the shard with the least weight so far.
        let shards: Vec<usize> = (0..model.parts)
            .map(|_| {
                let lightest = (0..count).min_by(|a, b| weights[*a].total_cmp(&weights[*b]));
                let lightest = lightest.unwrap_or(0);
                weights[lightest] += model.part_weight();
                lightest
            })
            .collect();
        let parts = parts_of_jobs(model);
        let names = &models[model.index].2;
        for (in_shard, name) in in_shard[model.index].iter_mut().zip(names) {
            let part = parts.get(name).copied().unwrap_or(0);
            *in_shard = shards[part] == shard.index;
        }
    }
    in_shard
}

/// Returns the models that have jobs, heaviest first.
#[expect(clippy::cast_precision_loss, reason = "no plan has 2^53 jobs")]
fn sort_models<'a>(models: &[(&'a str, f64, Vec<&'a str>)]) -> Vec<ModelJobs<'a>> {
    let mut sorted: Vec<ModelJobs<'a>> = models
        .iter()
        .enumerate()
        .filter(|(_, (_, _, jobs))| !jobs.is_empty())
        .map(|(index, (key, weight, jobs))| ModelJobs {
            index,
            key,
            weight: if weight.is_finite() && *weight > 0.0 {
                *weight
            } else {
                jobs.len() as f64
            },
            names: jobs.iter().copied().collect(),
            parts: 1,
        })
        .collect();
    sorted.sort_by(ModelJobs::order);
    sorted
}

/// Splits the models that are too large for one shard, then the largest ones while there
/// are fewer parts than shards.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded quotient between 1 and the number of shards"
)]
fn split_models(sorted: &mut [ModelJobs<'_>], count: usize) {
    // Summed in sorted order, since a sum of floats depends on the order.
    let total: f64 = sorted.iter().map(|model| model.weight).sum();
    let fair_share = total / count as f64;
    for model in sorted.iter_mut() {
        let shares = model.weight / fair_share;
        if shares > WHOLE_SHARES_MAX {
            let parts_max = count.min(model.names.len()).max(1);
            model.parts = (shares.round() as usize).clamp(1, parts_max);
        }
    }
    let mut parts: usize = sorted.iter().map(|model| model.parts).sum();
    while parts < count {
        let divisible = sorted
            .iter_mut()
            .filter(|model| model.parts < model.names.len())
            .min_by(|a, b| a.order(b));
        let Some(largest) = divisible else { break };
        largest.parts += 1;
        parts += 1;
    }
}

/// Returns the part of each job of a split model. Jobs are ordered by the hash of their
/// name, which spreads similar jobs. Equal slices of that order are better balanced than
/// remainders of the hash.
fn parts_of_jobs<'a>(model: &ModelJobs<'a>) -> HashMap<&'a str, usize> {
    if model.parts == 1 {
        return HashMap::new();
    }
    let mut hashed: Vec<_> = model
        .names
        .iter()
        .map(|name| (Sha256::digest(name.as_bytes()), *name))
        .collect();
    hashed.sort_unstable();
    let length = hashed.len();
    let part = |index: usize| index * model.parts / length;
    hashed
        .iter()
        .enumerate()
        .map(|(index, (_, name))| (*name, part(index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Models<'a> = Vec<(&'a str, f64, Vec<&'a str>)>;

    fn borrowed(models: &[(String, f64, Vec<String>)]) -> Models<'_> {
        models
            .iter()
            .map(|(key, weight, jobs)| {
                let jobs = jobs.iter().map(String::as_str).collect();
                (key.as_str(), *weight, jobs)
            })
            .collect()
    }

    /// Creates models `m0`, `m1`, … from weights and numbers of jobs.
    fn plan(models: &[(f64, usize)]) -> Vec<(String, f64, Vec<String>)> {
        models
            .iter()
            .enumerate()
            .map(|(index, (weight, jobs))| {
                let jobs = (0..*jobs).map(|job| format!("m{index}/page-{job:04}"));
                (format!("m{index}"), *weight, jobs.collect())
            })
            .collect()
    }

    /// Returns for each shard its number of jobs of each model.
    fn counts(models: &Models<'_>, count: usize) -> Vec<Vec<usize>> {
        (0..count)
            .map(|index| {
                jobs_of_shard(models, Shard { index, count })
                    .iter()
                    .map(|jobs| jobs.iter().filter(|in_shard| **in_shard).count())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn shards_start_at_zero() {
        for (text, index, count) in [("0/1", 0, 1), ("0/8", 0, 8), ("7/8", 7, 8)] {
            assert_eq!(text.parse::<Shard>(), Ok(Shard { index, count }));
        }
        for (text, expected) in [
            ("8/8", "I starts at 0, so the shards are 0/8 to 7/8"),
            ("9/8", "I starts at 0"),
            ("0/0", "N must be at least 1"),
            ("", "expected I/N"),
            ("1", "expected I/N"),
            ("/", "expected I/N"),
            ("+1/8", "expected I/N"),
            ("-1/8", "expected I/N"),
            (" 1/8", "expected I/N"),
            ("1/8/9", "expected I/N"),
            ("0/99999999999999999999999", "expected I/N"),
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn models_stay_whole_where_that_is_fair() {
        for (models, count, expected) in [
            // The largest first, each to the shard with the least weight.
            (
                &[(5.0, 5), (4.0, 4), (3.0, 3), (2.0, 2)][..],
                2,
                vec![vec![5, 0, 0, 2], vec![0, 4, 3, 0]],
            ),
            // Fewer models than shards.
            (
                &[(9.0, 9), (3.0, 3)],
                4,
                vec![vec![3, 0], vec![3, 0], vec![3, 0], vec![0, 3]],
            ),
            (
                &[(1.0, 2), (1.0, 2)],
                3,
                vec![vec![0, 2], vec![1, 0], vec![1, 0]],
            ),
            // A model with twice its share.
            (
                &[(12.0, 12), (3.0, 3), (2.0, 2), (1.0, 1)],
                3,
                vec![vec![6, 0, 0, 0], vec![6, 0, 0, 0], vec![0, 3, 2, 1]],
            ),
            // More shards than jobs.
            (
                &[(1.0, 1), (1.0, 0)],
                3,
                vec![vec![1, 0], vec![0, 0], vec![0, 0]],
            ),
            // Invalid weights.
            (&[(f64::NAN, 4), (-1.0, 4)], 2, vec![vec![4, 0], vec![0, 4]]),
            (&[], 2, vec![vec![], vec![]]),
        ] {
            let plan = plan(models);
            assert_eq!(counts(&borrowed(&plan), count), expected, "{models:?}");
        }
    }

    #[test]
    fn the_division_is_fixed() {
        let jobs: Vec<String> = (0..12).map(|job| job.to_string()).collect();
        let models = [("m".to_owned(), 1.0, jobs)];
        let models = borrowed(&models);
        let shards: Vec<String> = (0..3)
            .map(|index| {
                let in_shard = jobs_of_shard(&models, Shard { index, count: 3 });
                let jobs = in_shard[0].iter().zip(&models[0].2);
                let names = jobs
                    .filter(|(in_shard, _)| **in_shard)
                    .map(|(_, name)| *name);
                names.collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(shards, ["4 8 9 10", "0 1 3 11", "2 5 6 7"]);
    }

    #[test]
    fn huge_and_zero_counts_are_cheap() {
        let plan = plan(&[(1.0, 3)]);
        let count = usize::MAX;
        for (index, expected) in [(0, 1), (2, 1), (3, 0), (count - 1, 0)] {
            let in_shard = jobs_of_shard(&borrowed(&plan), Shard { index, count });
            let found = in_shard[0].iter().filter(|in_shard| **in_shard).count();
            assert_eq!(found, expected, "{index}");
        }
        // `parse` rejects a count of 0, but the fields are public.
        let none = jobs_of_shard(&borrowed(&plan), Shard { index: 0, count: 0 });
        assert_eq!(none, [[false; 3]]);
    }

    fn any_plan() -> impl Strategy<Value = Vec<(String, f64, Vec<String>)>> {
        // Includes equal weights and duplicate jobs.
        let weight = prop_oneof![Just(1.0), Just(10.0), 0.01..1000.0_f64];
        let jobs = prop::collection::vec("[a-c]{1,3}", 0..30);
        prop::collection::btree_map("[a-z]{1,3}", (weight, jobs), 0..8).prop_map(|models| {
            let models = models.into_iter();
            models
                .map(|(key, (weight, jobs))| (key, weight, jobs))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_job_is_in_one_shard(plan in any_plan(), count in 1_usize..12) {
            let models = borrowed(&plan);
            let mut counts: Vec<Vec<usize>> =
                plan.iter().map(|(_, _, jobs)| vec![0; jobs.len()]).collect();
            for index in 0..count {
                let in_shard = jobs_of_shard(&models, Shard { index, count });
                prop_assert_eq!(in_shard.len(), counts.len());
                for (in_shard, counts) in in_shard.iter().zip(&mut counts) {
                    prop_assert_eq!(in_shard.len(), counts.len());
                    for (in_shard, count) in in_shard.iter().zip(counts) {
                        *count += usize::from(*in_shard);
                    }
                }
            }
            prop_assert!(counts.iter().flatten().all(|count| *count == 1), "{:?}", counts);
        }

        #[test]
        fn the_order_does_not_matter(
            (plan, shuffled) in any_plan().prop_flat_map(|plan| {
                let models = Just(plan.clone()).prop_shuffle();
                let shuffled = models.prop_flat_map(|models| {
                    let models: Vec<_> = models
                        .into_iter()
                        .map(|(key, weight, jobs)| {
                            (Just(key), Just(weight), Just(jobs).prop_shuffle())
                        })
                        .collect();
                    models
                });
                (Just(plan), shuffled)
            }),
            count in 1_usize..12,
        ) {
            for index in 0..count {
                let shard = Shard { index, count };
                let found = |plan: &[(String, f64, Vec<String>)]| {
                    let in_shard = jobs_of_shard(&borrowed(plan), shard);
                    let mut found: Vec<(String, String, bool)> = plan
                        .iter()
                        .zip(&in_shard)
                        .flat_map(|((key, _, jobs), in_shard)| {
                            let jobs = jobs.iter().zip(in_shard);
                            jobs.map(|(job, in_shard)| (key.clone(), job.clone(), *in_shard))
                        })
                        .collect();
                    found.sort();
                    found
                };
                prop_assert_eq!(found(&plan), found(&shuffled));
            }
        }

        #[test]
        fn equal_models_are_loaded_by_few_shards(more in 0_usize..20, count in 1_usize..10, weight in 0.1..9.0_f64) {
            let models = count + more;
            let plan = plan(&vec![(weight, 5); models]);
            for jobs in counts(&borrowed(&plan), count) {
                let loads = jobs.iter().filter(|count| **count > 0).count();
                prop_assert!(loads <= models.div_ceil(count), "{} of {}", loads, models);
            }
        }

        #[test]
        fn one_model_is_balanced(jobs in 30_usize..300, count in 1_usize..20) {
            let plan = plan(&[(7.0, jobs)]);
            let counts = counts(&borrowed(&plan), count);
            let sizes = counts.iter().map(|models| models[0]);
            let (min, max) = (sizes.clone().min(), sizes.max());
            prop_assert!(max <= min.map(|min| min + 1), "{:?}", counts);
        }

        #[test]
        fn no_shard_has_far_more_than_its_share(
            models in prop::collection::vec(20_usize..200, 1..8),
            count in 1_usize..12,
        ) {
            // All jobs have the same cost, so that counting them is enough.
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let plan = plan(&models.iter().map(|jobs| (*jobs as f64, *jobs)).collect::<Vec<_>>());
            let total: usize = models.iter().sum();
            for jobs in counts(&borrowed(&plan), count) {
                let size: usize = jobs.iter().sum();
                // A part has at most 1.5 shares and is added to a shard with less than
                // one; rounding adds up to one job per part.
                let size_max = total * 5 / (count * 2) + models.len() + 1;
                prop_assert!(size <= size_max, "{} of {}", size, total);
            }
        }
    }
}
