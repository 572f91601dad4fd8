//! Suggests similar names for error messages.

/// The maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 5;

/// Returns up to `MAX_SUGGESTIONS` names similar to `name`, the most similar
/// first.
pub fn similar_names<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let query = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = strsim::osa_distance(&query, &lower);
            // A third of the letters may differ, or one name contains the other.
            let is_part = query.len() > 2 && (lower.contains(&query) || query.contains(&lower));
            let is_close = distance <= query.chars().count().max(3) / 3;
            (is_part || is_close).then_some((distance, candidate))
        })
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(MAX_SUGGESTIONS)
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::similar_names;

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["translate", "tldr", "think", "aps", "tts_optimize"];
        for (typed, expected) in [
            ("tranlsate", vec!["translate"]),
            ("TLDR", vec!["tldr"]),
            ("optimize", vec!["tts_optimize"]),
            ("zzz", vec![]),
        ] {
            assert_eq!(similar_names(typed, names), expected, "{typed}");
        }
    }
}
