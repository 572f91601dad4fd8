//! `--shard I/N`: which part of a plan a machine runs.
//!
//! Every machine computes the whole division from the same plan, and takes its
//! part: none asks another. Models are kept whole where that is fair, so that a
//! shard loads few; what else could be balanced, such as how long a single job
//! takes, is not known here.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

/// Which part of a plan is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counts from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Shard {
    /// Reads `I/N`. `I` counts from 0, as Slurm and Kubernetes do; a form that
    /// could also count from 1 would lose jobs.
    ///
    /// # Errors
    /// It is not that, or `I` is not below `N`.
    pub fn parse(text: &str) -> Result<Self, String> {
        // `usize` would also take `+1`.
        let number = |it: &str| {
            it.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| it.parse::<usize>().ok())
                .flatten()
        };
        let (index, count) = text
            .split_once('/')
            .and_then(|(index, count)| Some((number(index)?, number(count)?)))
            .ok_or_else(|| format!("`{text}` is not I/N, such as 0/8"))?;
        if count == 0 {
            return Err(format!("`{text}` has no shards: N is at least 1"));
        }
        if index >= count {
            let last = count - 1;
            return Err(format!(
                "`{text}` is none of the shards: I counts from 0, so they are 0/{count} to {last}/{count}"
            ));
        }
        Ok(Self { index, count })
    }
}

/// A model is split when it is larger than a fair share by more than half: one
/// more load costs less than the others' waiting for so much.
const WHOLE_SHARES_MAX: f64 = 1.5;

/// A model with its jobs in an order that does not depend on the caller's.
struct Model<'a> {
    /// Where the caller has it.
    at: usize,
    key: &'a str,
    weight: f64,
    /// Distinct ones: equal names stay together, as nothing tells them apart.
    names: BTreeSet<&'a str>,
    /// Among how many shards it is split.
    parts: usize,
}

impl Model<'_> {
    #[expect(clippy::cast_precision_loss, reason = "no plan has 2^53 jobs")]
    fn part_weight(&self) -> f64 {
        self.weight / self.parts as f64
    }

    /// Heaviest parts first, then by key.
    fn order(&self, other: &Self) -> Ordering {
        let weights = other.part_weight().total_cmp(&self.part_weight());
        weights.then_with(|| self.key.cmp(other.key))
    }
}

/// For each model (its key; its weight, that is its number of jobs times the
/// cost of one; its jobs' names): whether each job is this shard's, in the shape
/// of the jobs. Keys are distinct. A weight that is no positive number counts
/// as the number of jobs.
///
/// The result depends on neither the order of models nor that of jobs.
#[must_use]
pub fn split<'a>(models: &[(&'a str, f64, Vec<&'a str>)], shard: Shard) -> Vec<Vec<bool>> {
    let mut sorted = prepared(models);
    let names = sorted.iter().map(|it| it.names.len()).sum();
    // More shards than jobs have nothing to do, whatever number was typed.
    let count = shard.count.min(names);
    let mut mine: Vec<Vec<bool>> = models
        .iter()
        .map(|(_, _, jobs)| vec![false; jobs.len()])
        .collect();
    if count == 0 {
        return mine;
    }
    decide_parts(&mut sorted, count);
    sorted.sort_by(Model::order);

    let mut loads = vec![0.0_f64; count];
    for model in &sorted {
        // The heaviest first, each to the shard with the least so far.
        let shards: Vec<usize> = (0..model.parts)
            .map(|_| {
                let least = (0..count).min_by(|a, b| loads[*a].total_cmp(&loads[*b]));
                let least = least.unwrap_or(0);
                loads[least] += model.part_weight();
                least
            })
            .collect();
        let parts = parts_of_jobs(model);
        for (mine, name) in mine[model.at].iter_mut().zip(&models[model.at].2) {
            let part = parts.get(name).copied().unwrap_or(0);
            *mine = shards[part] == shard.index;
        }
    }
    mine
}

/// The models that have jobs, heaviest first.
#[expect(clippy::cast_precision_loss, reason = "no plan has 2^53 jobs")]
fn prepared<'a>(models: &[(&'a str, f64, Vec<&'a str>)]) -> Vec<Model<'a>> {
    let mut sorted: Vec<Model<'a>> = models
        .iter()
        .enumerate()
        .filter(|(_, (_, _, jobs))| !jobs.is_empty())
        .map(|(at, (key, weight, jobs))| Model {
            at,
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
    sorted.sort_by(Model::order);
    sorted
}

/// Splits those that are too large for one shard, and then the largest for as
/// long as there are shards without work.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded quotient between 1 and the number of shards"
)]
fn decide_parts(sorted: &mut [Model<'_>], count: usize) {
    // In their order: a sum of floats depends on it.
    let total: f64 = sorted.iter().map(|it| it.weight).sum();
    let fair = total / count as f64;
    for model in sorted.iter_mut() {
        let shares = model.weight / fair;
        if shares > WHOLE_SHARES_MAX {
            let most = count.min(model.names.len()).max(1);
            model.parts = (shares.round() as usize).clamp(1, most);
        }
    }
    let mut parts: usize = sorted.iter().map(|it| it.parts).sum();
    while parts < count {
        let divisible = sorted
            .iter_mut()
            .filter(|it| it.parts < it.names.len())
            .min_by(|a, b| a.order(b));
        let Some(largest) = divisible else { break };
        largest.parts += 1;
        parts += 1;
    }
}

/// In which part each job of a split model is. The hash decides the order, so
/// that similar jobs, whose names are similar, are spread; cutting that order
/// into equal pieces balances better than the hash's remainder would.
fn parts_of_jobs<'a>(model: &Model<'a>) -> HashMap<&'a str, usize> {
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
    let part = |at: usize| at * model.parts / length;
    hashed
        .iter()
        .enumerate()
        .map(|(at, (_, name))| (*name, part(at)))
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

    /// Models `m0`, `m1`, … of these weights and numbers of jobs.
    fn plan(models: &[(f64, usize)]) -> Vec<(String, f64, Vec<String>)> {
        models
            .iter()
            .enumerate()
            .map(|(at, (weight, jobs))| {
                let jobs = (0..*jobs).map(|job| format!("m{at}/page-{job:04}"));
                (format!("m{at}"), *weight, jobs.collect())
            })
            .collect()
    }

    /// For each shard the number of its jobs of each model.
    fn counts(models: &Models<'_>, count: usize) -> Vec<Vec<usize>> {
        (0..count)
            .map(|index| {
                split(models, Shard { index, count })
                    .iter()
                    .map(|jobs| jobs.iter().filter(|it| **it).count())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn shards_count_from_zero() {
        for (text, index, count) in [("0/1", 0, 1), ("0/8", 0, 8), ("7/8", 7, 8)] {
            assert_eq!(Shard::parse(text), Ok(Shard { index, count }));
        }
        for (text, expected) in [
            ("8/8", "counts from 0, so they are 0/8 to 7/8"),
            ("9/8", "counts from 0"),
            ("0/0", "N is at least 1"),
            ("", "is not I/N"),
            ("1", "is not I/N"),
            ("/", "is not I/N"),
            ("+1/8", "is not I/N"),
            ("-1/8", "is not I/N"),
            (" 1/8", "is not I/N"),
            ("1/8/9", "is not I/N"),
            ("0/99999999999999999999999", "is not I/N"),
        ] {
            let error = Shard::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn models_stay_whole_where_that_is_fair() {
        for (models, count, expected) in [
            // The largest first, each to the least.
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
            // One that is twice its share.
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
            // Weights that are none.
            (&[(f64::NAN, 4), (-1.0, 4)], 2, vec![vec![4, 0], vec![0, 4]]),
            (&[], 2, vec![vec![], vec![]]),
        ] {
            let plan = plan(models);
            assert_eq!(counts(&borrowed(&plan), count), expected, "{models:?}");
        }
    }

    #[test]
    fn the_division_is_the_same_on_every_machine_and_in_every_version() {
        let jobs: Vec<String> = (0..12).map(|it| it.to_string()).collect();
        let models = [("m".to_owned(), 1.0, jobs)];
        let models = borrowed(&models);
        let shown: Vec<String> = (0..3)
            .map(|index| {
                let mine = split(&models, Shard { index, count: 3 });
                let mine = mine[0].iter().zip(&models[0].2).filter(|(it, _)| **it);
                mine.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(shown, ["4 8 9 10", "0 1 3 11", "2 5 6 7"]);
    }

    #[test]
    fn absurd_shards_cost_nothing() {
        let plan = plan(&[(1.0, 3)]);
        let count = usize::MAX;
        for (index, expected) in [(0, 1), (2, 1), (3, 0), (count - 1, 0)] {
            let mine = split(&borrowed(&plan), Shard { index, count });
            let found = mine[0].iter().filter(|it| **it).count();
            assert_eq!(found, expected, "{index}");
        }
        // Not what `parse` makes, but the fields are open.
        let none = split(&borrowed(&plan), Shard { index: 0, count: 0 });
        assert_eq!(none, [[false; 3]]);
    }

    fn any_plan() -> impl Strategy<Value = Vec<(String, f64, Vec<String>)>> {
        // Some weights are equal, and some jobs are there twice.
        let weight = prop_oneof![Just(1.0), Just(10.0), 0.01..1000.0_f64];
        let jobs = prop::collection::vec("[a-c]{1,3}", 0..30);
        prop::collection::btree_map("[a-z]{1,3}", (weight, jobs), 0..8)
            .prop_map(|it| it.into_iter().map(|(k, (w, j))| (k, w, j)).collect())
    }

    proptest! {
        #[test]
        fn every_job_is_in_one_shard(plan in any_plan(), count in 1_usize..12) {
            let models = borrowed(&plan);
            let mut times: Vec<Vec<usize>> = plan.iter().map(|it| vec![0; it.2.len()]).collect();
            for index in 0..count {
                let mine = split(&models, Shard { index, count });
                prop_assert_eq!(mine.len(), times.len());
                for (mine, times) in mine.iter().zip(&mut times) {
                    prop_assert_eq!(mine.len(), times.len());
                    for (mine, times) in mine.iter().zip(times) {
                        *times += usize::from(*mine);
                    }
                }
            }
            prop_assert!(times.iter().flatten().all(|it| *it == 1), "{:?}", times);
        }

        #[test]
        fn the_order_does_not_matter(
            (plan, turned) in any_plan().prop_flat_map(|plan| {
                let models = Just(plan.clone()).prop_shuffle();
                let turned = models.prop_flat_map(|models| {
                    let models: Vec<_> = models
                        .into_iter()
                        .map(|(k, w, j)| (Just(k), Just(w), Just(j).prop_shuffle()))
                        .collect();
                    models
                });
                (Just(plan), turned)
            }),
            count in 1_usize..12,
        ) {
            for index in 0..count {
                let shard = Shard { index, count };
                let found = |plan: &[(String, f64, Vec<String>)]| {
                    let mine = split(&borrowed(plan), shard);
                    let mut found: Vec<(String, String, bool)> = plan
                        .iter()
                        .zip(&mine)
                        .flat_map(|((key, _, jobs), mine)| {
                            let jobs = jobs.iter().zip(mine);
                            jobs.map(|(job, mine)| (key.clone(), job.clone(), *mine))
                        })
                        .collect();
                    found.sort();
                    found
                };
                prop_assert_eq!(found(&plan), found(&turned));
            }
        }

        #[test]
        fn equal_models_are_loaded_by_few(more in 0_usize..20, count in 1_usize..10, weight in 0.1..9.0_f64) {
            let models = count + more;
            let plan = plan(&vec![(weight, 5); models]);
            for jobs in counts(&borrowed(&plan), count) {
                let loads = jobs.iter().filter(|it| **it > 0).count();
                prop_assert!(loads <= models.div_ceil(count), "{} of {}", loads, models);
            }
        }

        #[test]
        fn one_model_is_balanced(jobs in 30_usize..300, count in 1_usize..20) {
            let plan = plan(&[(7.0, jobs)]);
            let counts = counts(&borrowed(&plan), count);
            let sizes = counts.iter().map(|it| it[0]);
            let (least, most) = (sizes.clone().min(), sizes.max());
            prop_assert!(most <= least.map(|it| it + 1), "{:?}", counts);
        }

        #[test]
        fn no_shard_has_far_more_than_its_share(
            models in prop::collection::vec(20_usize..200, 1..8),
            count in 1_usize..12,
        ) {
            // A job costs the same in all, so that jobs can be counted.
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let plan = plan(&models.iter().map(|it| (*it as f64, *it)).collect::<Vec<_>>());
            let total: usize = models.iter().sum();
            for jobs in counts(&borrowed(&plan), count) {
                let size: usize = jobs.iter().sum();
                // A part has at most 1.5 shares, and comes to a shard that has
                // less than one; cutting adds a job for each part.
                let most = total * 5 / (count * 2) + models.len() + 1;
                prop_assert!(size <= most, "{} of {}", size, total);
            }
        }
    }
}
