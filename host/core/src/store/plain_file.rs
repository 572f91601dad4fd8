//! Files that must be plain files. A folder may come from another machine: a link, a pipe or
//! a device in it must not make this program read or write anything else.

use std::io::{self, Read, Write};
use std::path::Path;

use fs_err as fs;

/// Opens a file with `options`. A link under its name is not followed, and opening a pipe
/// does not wait for its other end.
///
/// # Errors
/// Returns an error if the file cannot be opened, or if it is a link, a folder, a pipe or a
/// device.
pub fn open_plain(path: &Path, options: &mut fs::OpenOptions) -> io::Result<fs::File> {
    #[cfg(unix)]
    {
        use fs_err::os::unix::fs::OpenOptionsExt;
        use rustix::fs::OFlags;

        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let is_link = || fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let not_plain = |what: &str| {
        let message = format!("`{}` is {what}, not a file", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    // Elsewhere a link is followed when it is opened.
    if cfg!(not(unix)) && is_link() {
        return Err(not_plain("a link"));
    }
    let file = match options.open(path) {
        Err(_) if is_link() => return Err(not_plain("a link")),
        other => other?,
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_plain("a folder, a pipe or a device"))
    }
}

/// Creates a file for writing, or empties it; see [`open_plain`].
///
/// # Errors
/// Returns the errors of [`open_plain`].
pub fn create_plain(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    open_plain(path, options.write(true).create(true).truncate(true))
}

/// Writes a whole file; see [`open_plain`].
///
/// # Errors
/// Returns the errors of [`open_plain`], and an error if the content cannot be written.
pub fn write_plain(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    create_plain(path)?.write_all(content.as_ref())
}

/// Reads a whole file; see [`open_plain`].
///
/// # Errors
/// Returns the errors of [`open_plain`], and an error if the file cannot be read.
pub fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_plain(path, fs::OpenOptions::new().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_pipes_and_folders_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "old").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("none"), path("dangling")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        for (name, what) in [
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("folder", "folder"),
            ("pipe", "pipe"),
        ] {
            let error = write_plain(&path(name), "new").unwrap_err().to_string();
            assert!(
                error.contains(what) || error.contains("pipe"),
                "{name}: {error}"
            );
            assert!(read_plain(&path(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read(path("file")).unwrap(), b"old");
        assert!(!path("none").exists());
        write_plain(&path("file"), "new").unwrap();
        assert_eq!(read_plain(&path("file")).unwrap(), b"new");
    }
}
