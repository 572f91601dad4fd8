//! Distinct names for files that are known by their bare names.

/// Returns `name`, or `stem-2.extension`, `stem-3.extension`, …: the first that is not
/// taken.
pub(crate) fn distinct_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut distinct = name.to_owned();
    let mut number = 2;
    while is_taken(&distinct) {
        distinct = match name.rsplit_once('.') {
            Some((stem, extension)) => format!("{stem}-{number}.{extension}"),
            None => format!("{name}-{number}"),
        };
        number += 1;
    }
    distinct
}
