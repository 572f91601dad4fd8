//! Lists of names in hints.

use super::definition::Error;

pub(super) fn did_you_mean(failure: Error, similar: &[String]) -> Error {
    if similar.is_empty() {
        failure
    } else {
        failure.hint(format!("did you mean {}?", quoted_list(similar)))
    }
}

pub(super) fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
