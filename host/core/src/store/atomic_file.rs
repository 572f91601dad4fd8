//! A file that replaces another one at once.

use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::NamedTempFile;

/// The prefix of temporary files, which users may find after a kill.
pub const TEMPORARY_PREFIX: &str = ".lmstrix-";

/// A file under a temporary name beside its target. Dropping it removes it.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file. The folder of `target` must exist. Where `target`
    /// exists, its permissions are kept; a new file is private.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub fn create(target: &Path) -> std::io::Result<Self> {
        let permissions = fs::metadata(target).map(|metadata| metadata.permissions());
        Self::with_permissions(target, permissions.ok())
    }

    /// Creates the temporary file with the permissions that the result gets; `None` is
    /// private.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written.
    pub fn with_permissions(
        target: &Path,
        permissions: Option<std::fs::Permissions>,
    ) -> std::io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        let file = builder.tempfile_in(folder_of(target))?;
        if let Some(permissions) = permissions {
            file.as_file().set_permissions(permissions)?;
        }
        Ok(Self {
            file,
            target: target.to_owned(),
        })
    }

    /// Writes the content to the disk, so that no failure after this is one of space.
    ///
    /// # Errors
    /// Returns an error if the content cannot be written.
    pub fn sync(&self) -> std::io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Gives the file its name, also on the disk.
    ///
    /// # Errors
    /// Returns an error if that is not possible; the target is then unchanged.
    pub fn commit(self) -> std::io::Result<()> {
        self.sync()?;
        let Self { file, target } = self;
        file.persist(&target).map_err(|error| error.error)?;
        // The name is on the disk once its folder is. Not every system can sync a folder.
        if let Ok(folder) = fs::File::open(folder_of(&target)) {
            let _unsupported = folder.sync_all();
        }
        Ok(())
    }

    /// Replaces a file by a content.
    ///
    /// # Errors
    /// Returns an error if that is not possible; the target is then unchanged.
    pub fn replace(target: &Path, content: &[u8]) -> std::io::Result<()> {
        let mut file = Self::create(target)?;
        file.write_all(content)?;
        file.commit()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_on_commit_only_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.txt");
        AtomicFile::replace(&target, b"old").unwrap();
        let mode = fs::metadata(&target).unwrap().permissions();
        let mut read_only = mode.clone();
        read_only.set_readonly(true);
        fs::set_permissions(&target, read_only.clone()).unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        AtomicFile::replace(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::metadata(&target).unwrap().permissions(), read_only);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
