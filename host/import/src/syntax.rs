//! Rules that the template languages share.

/// Finds `wanted` outside of string literals, in which a backslash escapes the next character.
pub(crate) fn unquoted_find(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text.get(at..).is_some_and(|rest| rest.starts_with(wanted)) => {
                return Some(at);
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None => {}
        }
    }
    None
}

/// Returns true for a name, or several that are joined by dots. `is_first` and `is_part` accept
/// the first character of a name and all of its characters.
pub(crate) fn is_dotted_name(
    text: &str,
    is_first: fn(char) -> bool,
    is_part: fn(char) -> bool,
) -> bool {
    text.split('.')
        .all(|name| name.starts_with(is_first) && name.chars().all(is_part))
}
