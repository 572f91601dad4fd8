//! Finds the files of a path or a pattern.

use std::path::{Component, MAIN_SEPARATOR, Path, PathBuf};

use fs_err as fs;

use super::error::Error;
use crate::batch::JOURNAL;

/// The characters that make a path a pattern, unless a file of that name exists.
const PATTERN_CHARACTERS: [char; 4] = ['*', '?', '[', ']'];

/// Returns `true` for files to skip although a pattern matches them.
pub type SkipPath<'a> = &'a dyn Fn(&Path) -> bool;

/// Returns the path itself if it exists, else the files that match the pattern.
pub(super) fn matching_paths(
    base: &Path,
    pattern: &Path,
    skip: SkipPath<'_>,
) -> Result<Vec<PathBuf>, Error> {
    // Displayed paths do not start with `./`.
    let base = base.strip_prefix(".").unwrap_or(base);
    let path = base.join(pattern);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Err(Error::IsDirectory { path }),
        Ok(_) => return Ok(vec![path]),
        Err(_) => {}
    }
    let text = pattern
        .to_str()
        .filter(|text| text.contains(PATTERN_CHARACTERS));
    let Some(pattern) = text else {
        // Opening the file gives an error message that names it.
        return fs::File::open(&path)
            .map(|_| vec![path])
            .map_err(Error::Read);
    };
    let mut paths = Vec::new();
    let mut has_skipped = false;
    for path in matches(base, pattern)? {
        // Pipes that a pattern matches would block, and the journal of a batch is not
        // an input.
        let is_journal = path.file_name().is_some_and(|name| name == JOURNAL);
        let is_input = path.is_file() && !is_journal;
        if is_input && skip(&path) {
            has_skipped = true;
        } else if is_input {
            paths.push(path);
        }
    }
    paths.sort();
    paths.dedup();
    if paths.is_empty() && !has_skipped {
        return Err(Error::NoMatch {
            pattern: pattern.to_owned(),
        });
    }
    Ok(paths)
}

/// Returns what a pattern matches, as a shell does: `*` matches no separator, and no name
/// that begins with a dot. Names that are not UTF-8 are not matched.
fn matches(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, Error> {
    let invalid = |reason: &str| Error::InvalidPattern {
        pattern: pattern.to_owned(),
        reason: reason.to_owned(),
    };
    let full_pattern = if base.as_os_str().is_empty() || Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        let base = base
            .to_str()
            .ok_or_else(|| invalid("the path of its folder is not UTF-8"))?;
        format!("{}{MAIN_SEPARATOR}{pattern}", glob::Pattern::escape(base))
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        // With `true`, glob 0.3.4 panics at a name that is not UTF-8; see `is_hidden`.
        require_literal_leading_dot: false,
    };
    let matches = glob::glob_with(&full_pattern, options).map_err(|error| invalid(error.msg))?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| Error::Read(error.into()))?;
        if !is_hidden(&path, &full_pattern) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Returns whether a name in the path begins with a dot, and no part of the pattern that
/// begins with a dot matches it.
fn is_hidden(path: &Path, pattern: &str) -> bool {
    let dotted: Vec<glob::Pattern> = pattern
        .split(std::path::is_separator)
        .filter(|part| part.starts_with('.'))
        .filter_map(|part| glob::Pattern::new(part).ok())
        .collect();
    path.components().any(|component| {
        let Component::Normal(name) = component else {
            return false;
        };
        let name = name.to_string_lossy();
        name.starts_with('.') && !dotted.iter().any(|part| part.matches(&name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_leading_dot_need_a_dot_in_the_pattern() {
        for (path, pattern, hidden) in [
            ("a.txt", "*", false),
            (".a", "*", true),
            (".a", ".*", false),
            (".a", ".a", false),
            ("d/.a", "d/*", true),
            (".d/a", "*/a", true),
            (".d/a", ".d/*", false),
            (".d/.a", ".d/*", true),
            ("../a", "../*", false),
            ("x/y/.z/a", "x/**/a", true),
        ] {
            assert_eq!(
                is_hidden(Path::new(path), pattern),
                hidden,
                "{path} {pattern}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_are_read_by_their_exact_path() {
        use std::os::unix::ffi::OsStrExt;

        let folder = tempfile::tempdir().unwrap();
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"\xff.txt"));
        fs::write(folder.path().join(odd), "x").unwrap();
        fs::write(folder.path().join("a.txt"), "x").unwrap();
        let find = |pattern: &Path| matching_paths(folder.path(), pattern, &|_| false);
        assert_eq!(find(Path::new("*")).unwrap(), [folder.path().join("a.txt")]);
        assert_eq!(find(odd).unwrap(), [folder.path().join(odd)]);
    }
}
