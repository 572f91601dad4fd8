//! Reads the files of a format.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dotprompt;
use crate::error::Error;
use crate::fabric::USER_FILE;
use crate::format::{Format, Source};
use crate::note::{Note, NoteKind};

/// The maximum size of a file in bytes. A prompt is far smaller.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The maximum number of files and folders of an import.
pub const MAX_FILES: usize = 10_000;
/// The maximum depth of folders.
const MAX_DEPTH: usize = 16;

/// The files of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSources {
    /// The files, sorted by path.
    pub sources: Vec<Source>,
    /// A note for each file that cannot be read, is too large, not a regular file, or not UTF-8.
    pub notes: Vec<Note>,
}

/// Reads a file, or all files of the format in a folder.
///
/// For Fabric, the folder contains one pattern or all patterns; a symbolic link to a pattern is
/// read as that pattern. Prompty and Dotprompt files are also found in folders inside of it,
/// except hidden ones, `node_modules` and symbolic links.
///
/// # Errors
/// Returns an error if the path cannot be read or is only a part of a prompt, or if the folder
/// contains no prompts or too many files.
pub fn read(format: Format, path: &Path) -> Result<ReadSources, Error> {
    let metadata = fs_err::metadata(path)?;
    let mut files = match (metadata.is_dir(), format) {
        (true, Format::Fabric) => fabric_folder(path)?,
        (true, Format::Llm) => Walk::new(path, &["yaml", "yml"], 0).files()?,
        (true, Format::Prompty) => Walk::new(path, &["prompty"], MAX_DEPTH).files()?,
        (true, Format::Dotprompt) => Walk::new(path, &["prompt"], MAX_DEPTH).files()?,
        (false, _) if !metadata.is_file() => return Err(Error::NotAFile(path.to_owned())),
        (false, Format::Fabric) => fabric_file(path)?,
        (false, Format::Dotprompt) => dotprompt_file(path)?,
        (false, Format::Llm | Format::Prompty) => vec![(stem(path), path.to_owned())],
    };
    if files.iter().all(|(name, path)| is_part(format, name, path)) {
        return Err(Error::NoPrompts {
            path: path.to_owned(),
            expected: match format {
                Format::Fabric => "`system.md` or `NAME/system.md`",
                Format::Llm => "`.yaml` files",
                Format::Prompty => "`.prompty` files",
                Format::Dotprompt => "`.prompt` files other than partials",
            },
        });
    }
    files.sort();
    let mut found = ReadSources::default();
    for (name, path) in files {
        let display = path.display().to_string();
        match text(&path) {
            Ok(text) => found.sources.push(Source {
                path: display,
                name,
                text,
            }),
            Err(reason) => found.notes.push(unreadable(format, name, &path, reason)),
        }
    }
    Ok(found)
}

/// The name of a prompt and its file.
type NamedFile = (String, PathBuf);

/// Returns true for a `user.md` of Fabric and a partial of Dotprompt.
fn is_part(format: Format, name: &str, path: &Path) -> bool {
    match format {
        Format::Fabric => path.file_name().is_some_and(|file| file == USER_FILE),
        Format::Dotprompt => dotprompt::is_partial(name),
        Format::Llm | Format::Prompty => false,
    }
}

/// Returns the note on a file that cannot be read. A part is left out; the prompts that need it
/// have notes of their own.
fn unreadable(format: Format, name: String, path: &Path, reason: String) -> Note {
    let file = path.display().to_string();
    if is_part(format, &name, path) {
        let message = match format {
            Format::Dotprompt => {
                let partial = dotprompt::partial_name(&name);
                format!("the partial `{partial}` cannot be read: {reason}")
            }
            _ => format!("`{USER_FILE}` is left out: {reason}"),
        };
        return Note {
            file,
            line: None,
            prompt: None,
            kind: NoteKind::LeftOut,
            message,
        };
    }
    Note {
        file,
        line: None,
        prompt: Some(name),
        kind: NoteKind::Skipped,
        message: reason,
    }
}

fn fabric_folder(folder: &Path) -> Result<Vec<NamedFile>, Error> {
    if folder.join("system.md").exists() {
        // `.` and `..` have no name of their own.
        let absolute = fs_err::canonicalize(folder)?;
        return Ok(pattern_files(&stem(&absolute), folder));
    }
    let mut files = Vec::new();
    for path in children(folder, MAX_FILES, |_| true)? {
        if path.join("system.md").exists() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.extend(pattern_files(&name, &path));
        }
    }
    Ok(files)
}

fn pattern_files(name: &str, folder: &Path) -> Vec<NamedFile> {
    let files = ["system.md", USER_FILE].map(|file| folder.join(file));
    files
        .into_iter()
        .filter(|file| file.exists())
        .map(|file| (name.to_owned(), file))
        .collect()
}

/// Returns `system.md` with its `user.md`, under the name of their folder, or another file.
fn fabric_file(path: &Path) -> Result<Vec<NamedFile>, Error> {
    if is_part(Format::Fabric, "", path) {
        return Err(Error::NotAPrompt {
            path: path.to_owned(),
            part: "part of a pattern; import the folder of the pattern",
        });
    }
    if path.file_name().is_none_or(|name| name != "system.md") {
        return Ok(vec![(stem(path), path.to_owned())]);
    }
    let folder = fs_err::canonicalize(path).ok();
    let folder = folder.as_deref().and_then(Path::parent);
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    let user = path.with_file_name(USER_FILE);
    let user = Some(user).filter(|user| user.exists());
    Ok(std::iter::once(path.to_owned())
        .chain(user)
        .map(|file| (name.to_string_lossy().into_owned(), file))
        .collect())
}

/// Returns a file with the partials beside it.
fn dotprompt_file(path: &Path) -> Result<Vec<NamedFile>, Error> {
    let name = stem(path);
    if dotprompt::is_partial(&name) {
        return Err(Error::NotAPrompt {
            path: path.to_owned(),
            part: "a partial; import the prompt that uses it",
        });
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The folder can contain any number of other files.
    let is_partial = |path: &Path| {
        let has_extension = path.extension().is_some_and(|found| found == "prompt");
        has_extension && dotprompt::is_partial(&stem(path)) && !path.is_dir()
    };
    let mut files = vec![(name, path.to_owned())];
    for partial in children(folder, MAX_FILES, is_partial)? {
        // The path as it was given, for messages.
        let shown = path.with_file_name(partial.file_name().unwrap_or_default());
        files.push((stem(&partial), shown));
    }
    Ok(files)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Returns the sorted paths in a folder that `is_wanted` accepts.
fn children(
    folder: &Path,
    limit: usize,
    is_wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if !is_wanted(&path) {
            continue;
        }
        if paths.len() >= limit {
            return Err(Error::TooManyFiles {
                path: folder.to_owned(),
                limit,
            });
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
}

/// A search for files with an extension.
struct Walk<'a> {
    root: &'a Path,
    extensions: &'a [&'a str],
    depth: usize,
    /// The maximum number of files and folders.
    limit: usize,
    visited: usize,
    found: Vec<NamedFile>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, extensions: &'a [&'a str], depth: usize) -> Self {
        Self {
            root,
            extensions,
            depth,
            limit: MAX_FILES,
            visited: 0,
            found: Vec::new(),
        }
    }

    fn files(mut self) -> Result<Vec<NamedFile>, Error> {
        let root = self.root;
        self.folder(root, "", 0)?;
        Ok(self.found)
    }

    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Error> {
        for path in children(folder, self.limit, |_| true)? {
            if self.visited >= self.limit {
                return Err(Error::TooManyFiles {
                    path: self.root.to_owned(),
                    limit: self.limit,
                });
            }
            self.visited += 1;
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            let is_folder = fs_err::symlink_metadata(&path)?.is_dir();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_searched = !name.starts_with('.') && name != "node_modules";
            if is_folder && is_searched && depth < self.depth {
                self.folder(&path, &format!("{prefix}{name}/"), depth + 1)?;
            } else if !is_folder && self.extensions.contains(&&*extension) {
                self.found.push((format!("{prefix}{}", stem(&path)), path));
            }
        }
        Ok(())
    }
}

/// Reads a text, or returns the reason why it cannot be read. A file that is not regular, such
/// as a pipe, is not opened.
fn text(path: &Path) -> Result<String, String> {
    let metadata = fs_err::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = fs_err::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let mebibytes = MAX_FILE_BYTES / (1024 * 1024);
        return Err(format!("larger than {mebibytes} MiB"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{MAX_FILES, Walk, children};

    #[test]
    fn the_limit_covers_all_folders_together() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["a/1.prompty", "a/2.prompty", "b/x.prompty"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), "").unwrap();
        }
        let files = |limit| {
            let mut walk = Walk::new(root, &["prompty"], 16);
            walk.limit = limit;
            walk.files().map(|files| files.len())
        };
        for limit in 1..5 {
            let error = files(limit).unwrap_err().to_string();
            let expected = format!("more than {limit} files in `{}", root.display());
            assert!(error.starts_with(&expected), "{error}");
        }
        assert_eq!(files(5).unwrap(), 3);
    }

    #[test]
    fn only_wanted_files_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.prompt", "_b.prompt", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let partials = children(folder.path(), 1, |path| path.ends_with("_b.prompt"));
        assert_eq!(partials.unwrap().len(), 1);
        assert!(children(folder.path(), 2, |_| true).is_err());
        assert_eq!(
            children(folder.path(), MAX_FILES, |_| true).unwrap().len(),
            3
        );
    }
}
