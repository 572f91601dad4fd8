//! The jobs of a plan: prompts × axes × inputs × models, as indices. No I/O.

use super::plan::ParamValues;

/// A job, as indices of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCoordinates {
    /// Index of the prompt in the plan.
    pub prompt: usize,
    /// Index of the combination of the prompt's axes.
    pub combination: usize,
    /// Index of the input. `None` if the plan has no inputs.
    pub input: Option<usize>,
    /// Index of the model.
    pub model: usize,
}

/// The parameters of a prompt with one value per axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combination {
    /// Names and values of all parameters, in plan order.
    pub params: Vec<(String, String)>,
    /// The parameters that are axes.
    pub axes: Vec<(String, String)>,
}

/// Returns every combination of the axes. The last axis changes fastest.
#[must_use]
pub fn combinations(params: &[(String, ParamValues)]) -> Vec<Combination> {
    let mut all = vec![Combination::default()];
    for (name, values) in params {
        match values {
            ParamValues::One(value) => {
                for combination in &mut all {
                    combination.params.push((name.clone(), value.clone()));
                }
            }
            ParamValues::Axis(values) => {
                all = all
                    .iter()
                    .flat_map(|combination| {
                        values.iter().map(|value| {
                            let mut combination = combination.clone();
                            combination.params.push((name.clone(), value.clone()));
                            combination.axes.push((name.clone(), value.clone()));
                            combination
                        })
                    })
                    .collect();
            }
        }
    }
    all
}

/// Returns all jobs, grouped by model. `combinations` is the number of combinations of
/// each prompt. `runs_on(prompt, model)` returns whether the prompt runs on the model.
#[must_use]
pub fn job_coordinates(
    combinations: &[usize],
    inputs: usize,
    models: usize,
    runs_on: impl Fn(usize, usize) -> bool,
) -> Vec<JobCoordinates> {
    let mut all = Vec::new();
    for model in 0..models {
        for (prompt, count) in combinations.iter().enumerate() {
            if !runs_on(prompt, model) {
                continue;
            }
            for combination in 0..*count {
                let coordinates = |input| JobCoordinates {
                    prompt,
                    combination,
                    input,
                    model,
                };
                if inputs == 0 {
                    all.push(coordinates(None));
                }
                all.extend((0..inputs).map(|input| coordinates(Some(input))));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_the_product_of_the_axes() {
        let axis =
            |values: &[&str]| ParamValues::Axis(values.iter().map(|&it| it.to_owned()).collect());
        let params = [
            ("a".to_owned(), axis(&["1", "2"])),
            ("k".to_owned(), ParamValues::One("x".to_owned())),
            ("b".to_owned(), axis(&["3", "4", "5"])),
        ];
        let all = combinations(&params);
        assert_eq!(all.len(), 6);
        let shown = |params: &[(String, String)]| {
            let pairs: Vec<String> = params
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            pairs.join(",")
        };
        assert_eq!(shown(&all[1].params), "a=1,k=x,b=4");
        assert_eq!(shown(&all[5].axes), "a=2,b=5");
        assert_eq!(combinations(&[]), [Combination::default()]);
    }

    #[test]
    fn jobs_are_the_product_of_prompts_inputs_and_models() {
        let all = job_coordinates(&[1, 2], 3, 2, |prompt, model| prompt == 0 || model == 1);
        // Model 0: one prompt; model 1: both.
        assert_eq!(all.len(), 3 + 9);
        assert!(all.windows(2).all(|jobs| jobs[0].model <= jobs[1].model));
        let without_inputs = job_coordinates(&[1, 2], 0, 2, |_, _| true);
        assert_eq!(without_inputs.len(), 6);
        assert!(without_inputs.iter().all(|job| job.input.is_none()));
        assert!(job_coordinates(&[1], 1, 0, |_, _| true).is_empty());
    }
}
