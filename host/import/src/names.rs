//! Valid and distinct names for prompts and parameters.

use std::collections::{BTreeMap, BTreeSet};

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
    let open =
        Taken::new(params.iter().map(|param| (*param).to_owned()).collect()).distinct("open");
    // The name of a prompt contains no dot, so that only the start of a path can equal it.
    let mut param_names: BTreeSet<String> = params
        .iter()
        .filter_map(|param| param.split('.').next())
        .map(str::to_owned)
        .collect();
    param_names.insert(open.clone());
    let mut taken = Taken::new(param_names.clone());
    for conversion in conversions {
        if conversion.result.is_err() {
            continue;
        }
        let valid = valid_name(&conversion.name);
        let wanted = match param_names.contains(&valid) {
            true => format!("{valid}-prompt"),
            false => valid,
        };
        let name = taken.distinct(&wanted);
        if name != conversion.name {
            let message = format!("renamed from `{}` to `{name}`", conversion.name);
            conversion.log.changed(None, message);
        }
        conversion.name = name;
    }
    SharedNames { open }
}

/// Renames the parameter `input` to `text`. An existing parameter `text` gets another name.
pub(crate) fn input_becomes_text(draft: &mut Draft, log: &mut Log) {
    draft.drop_unused_defaults();
    let used: BTreeSet<String> = draft.params().map(str::to_owned).collect();
    if !used.contains("input") {
        return;
    }
    if used.contains(TEXT) {
        let other = Taken::new(used).distinct("text_2");
        draft.rename_param(TEXT, &other);
        let message = format!("the parameter `text` becomes `{other}`; `text` is the input");
        log.changed(None, message);
    }
    draft.rename_param("input", TEXT);
}

/// Makes the parameter `input` of a format without a special input the text of the user, unless
/// the prompt has a parameter `text`.
pub(crate) fn name_the_input(draft: &mut Draft, log: &mut Log) {
    draft.drop_unused_defaults();
    let has_param = |wanted| draft.params().any(|name| name == wanted);
    if has_param("input") && !has_param(TEXT) {
        log.changed(None, "the parameter `input` becomes `text`");
        draft.rename_param("input", TEXT);
    }
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

/// Names that are in use.
struct Taken {
    names: BTreeSet<String>,
    /// The next number to try for a name. Without it, many equal names take quadratic time.
    next_numbers: BTreeMap<String, u64>,
}

impl Taken {
    fn new(names: BTreeSet<String>) -> Self {
        Self {
            names,
            next_numbers: BTreeMap::new(),
        }
    }

    /// Returns a name that is not in use, and marks it as used: `wanted`, or `wanted-2`, …
    fn distinct(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let number = self.next_numbers.entry(name.clone()).or_insert(2);
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}-{number}");
            *number += 1;
        }
        name
    }
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
