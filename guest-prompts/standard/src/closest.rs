//! Names that somebody who typed a wrong one probably meant.

/// The most names that are suggested.
const SUGGESTIONS_MAX: usize = 5;
/// With so few names in all, every one of them is a useful answer.
const SHORT_LIST_MAX: usize = 8;
/// Longer names are not compared letter by letter, which is quadratic.
const COMPARED_CHARS_MAX: usize = 64;

/// Up to five of `names` that are close to `wanted`, the closest first; all of
/// them when there are few and none is close.
pub fn closest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut ranked: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|name| Some((distance(wanted, name)?, *name)))
        .collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    if ranked.is_empty() && names.len() <= SHORT_LIST_MAX {
        return names.iter().map(|name| (*name).to_owned()).collect();
    }
    ranked.truncate(SUGGESTIONS_MAX);
    ranked
        .into_iter()
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// How far `name` is from what was wanted, or `None` when it is not close.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    let close = |a: &str, b: &str| edit_distance(a, b).filter(|edits| *edits <= allowed);
    let close = match close(&wanted, &name) {
        Some(edits) => Some(edits),
        // `translate` for `work.translate`, or the right name in the wrong group.
        None => close(&last(&wanted), &last(&name)).map(|edits| edits + 1),
    };
    // One letter is the beginning of too much to be a hint.
    let prefix = wanted.chars().count() >= 2
        && (name.starts_with(&wanted) || last(&name).starts_with(&wanted));
    close.or_else(|| prefix.then_some(allowed + 2))
}

/// The number of letters to insert, delete, replace or swap with a neighbour.
fn edit_distance(a: &str, b: &str) -> Option<usize> {
    let a: Vec<char> = a.chars().take(COMPARED_CHARS_MAX + 1).collect();
    let b: Vec<char> = b.chars().take(COMPARED_CHARS_MAX + 1).collect();
    if a.len() > COMPARED_CHARS_MAX || b.len() > COMPARED_CHARS_MAX {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied()
}

#[cfg(test)]
mod tests {
    use super::closest;

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
    fn finds_what_was_meant() {
        for (wanted, expected) in [
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
            let mut found = closest(wanted, NAMES);
            let mut expected: Vec<&str> = expected.to_vec();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn lists_all_when_there_are_few_and_none_is_close() {
        assert_eq!(closest("zzzz", ["aps", "tldr"]), ["aps", "tldr"]);
        assert!(closest("zzzz", []).is_empty());
        assert_eq!(closest(&"z".repeat(100), ["aps"]), ["aps"]);
    }

    #[test]
    fn suggests_no_more_than_five() {
        let many: Vec<String> = (0..20).map(|n| format!("prompt{n}")).collect();
        assert_eq!(closest("prompt", many.iter().map(String::as_str)).len(), 5);
    }
}
