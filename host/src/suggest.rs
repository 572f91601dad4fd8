//! Names like the one that was typed, for error messages.

/// How many names are offered.
const MOST: usize = 5;

/// Up to five names that are like `name`, the likest first.
pub(crate) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = strsim::osa_distance(&wanted, &lower);
            // A third of the letters may differ; or one holds the other.
            let holds = wanted.len() > 2 && (lower.contains(&wanted) || wanted.contains(&lower));
            let near = distance <= wanted.chars().count().max(3) / 3;
            (holds || near).then_some((distance, candidate))
        })
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(MOST)
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn likely_names_come_first_and_unlikely_ones_not_at_all() {
        let names = ["translate", "tldr", "think", "aps", "tts_optimize"];
        for (typed, expected) in [
            ("tranlsate", vec!["translate"]),
            ("TLDR", vec!["tldr"]),
            ("optimize", vec!["tts_optimize"]),
            ("zzz", vec![]),
        ] {
            assert_eq!(closest(typed, names), expected, "{typed}");
        }
    }
}
