//! Valid and distinct names for prompts and parameters.

use std::collections::BTreeSet;

use crate::draft::{Conversion, Draft, TEXT};
use crate::log::Log;

/// Names that all prompts of a file share.
#[derive(Clone, Debug)]
pub(crate) struct SharedNames {
    /// The parameter whose value is the opening braces `{{`.
    pub(crate) open: String,
}

/// Gives each converted prompt its final name.
///
/// A name in double braces is first looked up in the prompt file. A prompt must therefore not
/// have the name of a parameter of any prompt.
pub(crate) fn assign(conversions: &mut [Conversion]) -> SharedNames {
    let drafts = || {
        conversions
            .iter()
            .filter_map(|known| known.result.as_ref().ok())
    };
    let params: BTreeSet<&str> = drafts().flat_map(Draft::params).collect();
    let open = distinct("open", |name| params.contains(name));
    let mut taken: BTreeSet<String> = params.iter().flat_map(|param| path_starts(param)).collect();
    taken.insert(open.clone());
    let param_names = taken.clone();
    for conversion in conversions {
        if conversion.result.is_err() {
            continue;
        }
        let valid = valid_name(&conversion.name);
        let wanted = match param_names.contains(&valid) {
            true => format!("{valid}-prompt"),
            false => valid,
        };
        let name = distinct(&wanted, |name| taken.contains(name));
        taken.insert(name.clone());
        if name != conversion.name {
            let message = format!("renamed from `{}` to `{name}`", conversion.name);
            conversion.log.changed(None, message);
        }
        conversion.name = name;
    }
    SharedNames { open }
}

/// Makes the parameter `input`, the input of the program, the text of the user. A parameter `text` that means something
/// else gets another name.
pub(crate) fn input_becomes_text(draft: &mut Draft, log: &mut Log) {
    let used: BTreeSet<String> = draft.params().map(str::to_owned).collect();
    if !used.contains("input") {
        return;
    }
    if used.contains(TEXT) {
        let other = distinct("text_2", |name| used.contains(name));
        draft.rename_param(TEXT, &other);
        let message = format!("the parameter `text` becomes `{other}`; `text` is the input");
        log.changed(None, message);
    }
    draft.rename_param("input", TEXT);
}

/// Makes the parameter `input` of a format without a special input the text of the user, unless
/// the prompt has a parameter `text`.
pub(crate) fn name_the_input(draft: &mut Draft, log: &mut Log) {
    let has_param = |wanted| draft.params().any(|name| name == wanted);
    if has_param("input") && !has_param(TEXT) {
        log.changed(None, "the parameter `input` becomes `text`");
        draft.rename_param("input", TEXT);
    }
}

/// Returns `a`, `a.b` and `a.b.c` for `a.b.c`.
fn path_starts(name: &str) -> impl Iterator<Item = String> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    dots.chain(std::iter::once(name.len()))
        .filter_map(|end| name.get(..end).map(str::to_owned))
}

/// Replaces the characters that separate names or are awkward in a command, such as `/`, `,`,
/// `.` and spaces, by hyphens.
fn valid_name(name: &str) -> String {
    let is_valid = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let replaced = name.replace(|c| !is_valid(c), "-");
    let trimmed = replaced.trim_matches('-');
    match trimmed.is_empty() {
        true => "prompt".to_owned(),
        false => trimmed.to_owned(),
    }
}

fn distinct(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(wanted) {
        return wanted.to_owned();
    }
    let numbered = (2_u64..).map(|number| format!("{wanted}-{number}"));
    let mut free = numbered.filter(|name| !is_taken(name));
    free.next().unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::valid_name;

    #[test]
    fn names_without_separators() {
        for (name, expected) in [
            ("summarize", "summarize"),
            ("extract wisdom", "extract-wisdom"),
            ("a/b.c,d", "a-b-c-d"),
            ("-x-", "x"),
            ("…", "prompt"),
            ("", "prompt"),
            ("übung_1", "übung_1"),
        ] {
            assert_eq!(valid_name(name), expected, "{name:?}");
        }
    }
}
