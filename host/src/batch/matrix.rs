//! The jobs of a plan: prompts × axes × inputs × models, as indices. Pure.

use super::plan::Values;

/// One job, by what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which prompt of the plan.
    pub prompt: usize,
    /// Which combination of that prompt's axes.
    pub combination: usize,
    /// Which input; `None` when the plan has none.
    pub input: Option<usize>,
    /// Which model.
    pub model: usize,
}

/// The parameters of a prompt, with one value for each axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combination {
    /// All parameters, in their order.
    pub params: Vec<(String, String)>,
    /// Those of them that are axes.
    pub axes: Vec<(String, String)>,
}

/// Every combination of the axes, the last axis changing fastest.
#[must_use]
pub fn combinations(params: &[(String, Values)]) -> Vec<Combination> {
    let mut all = vec![Combination::default()];
    for (name, values) in params {
        match values {
            Values::One(value) => {
                for it in &mut all {
                    it.params.push((name.clone(), value.clone()));
                }
            }
            Values::Axis(values) => {
                all = all
                    .iter()
                    .flat_map(|before| {
                        values.iter().map(|value| {
                            let mut it = before.clone();
                            it.params.push((name.clone(), value.clone()));
                            it.axes.push((name.clone(), value.clone()));
                            it
                        })
                    })
                    .collect();
            }
        }
    }
    all
}

/// All jobs. `combinations` holds how many each prompt has, `takes` says whether
/// a prompt is meant for a model.
#[must_use]
pub fn cells(
    combinations: &[usize],
    inputs: usize,
    models: usize,
    takes: impl Fn(usize, usize) -> bool,
) -> Vec<Cell> {
    let mut all = Vec::new();
    for model in 0..models {
        for (prompt, count) in combinations.iter().enumerate() {
            if !takes(prompt, model) {
                continue;
            }
            for combination in 0..*count {
                let cell = |input| Cell {
                    prompt,
                    combination,
                    input,
                    model,
                };
                if inputs == 0 {
                    all.push(cell(None));
                }
                all.extend((0..inputs).map(|input| cell(Some(input))));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_meets_every_other() {
        let own = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let params = [
            ("a".to_owned(), Values::Axis(own(&["1", "2"]))),
            ("k".to_owned(), Values::One("x".to_owned())),
            ("b".to_owned(), Values::Axis(own(&["3", "4", "5"]))),
        ];
        let all = combinations(&params);
        assert_eq!(all.len(), 6);
        let shown = |it: &[(String, String)]| {
            let pairs: Vec<String> = it.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join(",")
        };
        assert_eq!(shown(&all[1].params), "a=1,k=x,b=4");
        assert_eq!(shown(&all[5].axes), "a=2,b=5");
        assert_eq!(combinations(&[]), [Combination::default()]);
    }

    #[test]
    fn jobs_are_all_combinations_that_are_wanted() {
        let all = cells(&[1, 2], 3, 2, |prompt, model| prompt == 0 || model == 1);
        // Model 0: one prompt; model 1: both.
        assert_eq!(all.len(), 3 + 9);
        assert!(all.windows(2).all(|it| it[0].model <= it[1].model));
        let without = cells(&[1, 2], 0, 2, |_, _| true);
        assert_eq!(without.len(), 6);
        assert!(without.iter().all(|it| it.input.is_none()));
        assert!(cells(&[1], 1, 0, |_, _| true).is_empty());
    }
}
