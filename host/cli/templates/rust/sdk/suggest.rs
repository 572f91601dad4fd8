//! Suggests similar names for an unknown name.

/// The maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 5;
/// If there are at most this many names and none is similar, all are suggested.
const MAX_SHORT_LIST: usize = 8;
/// Longer names are not compared, because the comparison takes quadratic time.
const MAX_COMPARED_CHARS: usize = 64;

/// Returns up to five of `names` that are similar to `query`, the most similar first.
/// Returns all names if there are at most eight and none is similar.
pub fn similar_names<'a>(query: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut ranked: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|name| Some((distance(query, name)?, *name)))
        .collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    if ranked.is_empty() && names.len() <= MAX_SHORT_LIST {
        return names.iter().map(|name| (*name).to_owned()).collect();
    }
    ranked.truncate(MAX_SUGGESTIONS);
    ranked
        .into_iter()
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Returns the distance between `query` and `name`, or `None` if they are not similar.
fn distance(query: &str, name: &str) -> Option<usize> {
    let (query, name) = (query.to_lowercase(), name.to_lowercase());
    let max_edits = (query.chars().count() / 3).clamp(1, 3);
    let last_segment = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let similar = |a: &str, b: &str| edit_distance(a, b).filter(|edits| *edits <= max_edits);
    let edits = match similar(&query, &name) {
        Some(edits) => Some(edits),
        // `translate` for `work.translate`, or the right name in another table.
        None => similar(&last_segment(&query), &last_segment(&name)).map(|edits| edits + 1),
    };
    // A single letter is a prefix of too many names.
    let is_prefix = query.chars().count() >= 2
        && (name.starts_with(&query) || last_segment(&name).starts_with(&query));
    edits.or_else(|| is_prefix.then_some(max_edits + 2))
}

/// Returns the edit distance: the number of characters to insert, delete, replace or swap
/// with the next one. `None` if a name is too long to compare.
fn edit_distance(a: &str, b: &str) -> Option<usize> {
    let a: Vec<char> = a.chars().take(MAX_COMPARED_CHARS + 1).collect();
    let b: Vec<char> = b.chars().take(MAX_COMPARED_CHARS + 1).collect();
    if a.len() > MAX_COMPARED_CHARS || b.len() > MAX_COMPARED_CHARS {
        return None;
    }
    let mut second_last_row: Vec<usize> = Vec::new();
    let mut last_row: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last_row[j] + usize::from(from != to);
            let mut best = replaced.min(last_row[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(second_last_row[j - 1] + 1);
            }
            row.push(best);
        }
        second_last_row = std::mem::replace(&mut last_row, row);
    }
    last_row.last().copied()
}

#[cfg(test)]
mod tests {
    use super::similar_names;

    const NAMES: [&str; 10] = [
        "translate",
        "tldr",
        "aps",
        "humanize",
        "think",
        "caps",
        "work.translate",
        "work.reply",
        "code",
        "song",
    ];

    #[test]
    fn suggests_similar_names() {
        for (query, expected) in [
            ("tranlsate", &["translate", "work.translate"][..]),
            ("Translate", &["translate", "work.translate"]),
            ("reply", &["work.reply"]),
            ("home.reply", &["work.reply"]),
            ("human", &["humanize"]),
            ("work", &["work.translate", "work.reply"]),
            ("ap", &["aps"]),
            ("zzzzzz", &[]),
            ("", &[]),
        ] {
            let mut suggestions = similar_names(query, NAMES);
            let mut expected: Vec<&str> = expected.to_vec();
            suggestions.sort();
            expected.sort();
            assert_eq!(suggestions, expected, "{query}");
        }
    }

    #[test]
    fn suggests_all_of_a_few_names_if_none_is_similar() {
        assert_eq!(similar_names("zzzz", ["aps", "tldr"]), ["aps", "tldr"]);
        assert!(similar_names("zzzz", []).is_empty());
        assert_eq!(similar_names(&"z".repeat(100), ["aps"]), ["aps"]);
    }

    #[test]
    fn suggests_at_most_five_names() {
        let many: Vec<String> = (0..20).map(|n| format!("prompt{n}")).collect();
        assert_eq!(
            similar_names("prompt", many.iter().map(String::as_str)).len(),
            5
        );
    }
}
