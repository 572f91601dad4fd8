//! Gets the files of packs from their sources.

use std::path::Path;

use lmstrix_sandbox::{
    Digest, PackFile, PackFiles, PackFolder, PackFolders, SandboxLimits, unbundle,
};
use reqwest::Url;

use crate::download::{SizeLimits, download};
use crate::error::Error;
use crate::registry::{Connection, OciReference, Pulled, Registry};
use crate::source::Source;

/// A pack that was read from its source.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its files.
    pub files: PackFiles,
    /// The address of this pack alone.
    pub source: Source,
    /// The digest of the manifest, if it comes from an OCI registry.
    pub manifest: Option<Digest>,
    /// Warnings, such as those of files that are no part of the pack.
    pub warnings: Vec<String>,
}

/// The progress of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The size in bytes as far as it is known.
    pub total_bytes: u64,
    /// The received bytes.
    pub received_bytes: u64,
}

/// Reads packs from their sources.
pub struct Fetcher<'a> {
    /// The limits of packs.
    pub limits: &'a SandboxLimits,
    /// How registries are reached.
    pub connection: &'a Connection,
    /// Receives the progress of transfers.
    pub on_progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl Fetcher<'_> {
    /// Reads the packs of a source: all packs of a folder, or one.
    ///
    /// # Errors
    /// Returns an error if the source cannot be read, is not a pack, exceeds a limit or cannot
    /// be verified.
    pub async fn fetch(&mut self, source: &Source) -> Result<Vec<Fetched>, Error> {
        match source {
            Source::Path(path) if path.is_dir() => self.folder(path),
            Source::Path(path) => Ok(vec![self.file(path)?]),
            Source::Url(url) => Ok(vec![self.url(url).await?]),
            Source::Oci(reference) => Ok(vec![self.artifact(reference).await?]),
        }
    }

    fn folder(&self, path: &Path) -> Result<Vec<Fetched>, Error> {
        let folders = PackFolders(vec![PackFolder {
            path: path.to_owned(),
            allows_links: false,
        }]);
        let found = folders.list();
        if found.is_empty() {
            return Err(Error::EmptyFolder(path.to_owned()));
        }
        let packs = found.iter().map(|pack| {
            let (files, warnings) = PackFiles::read(pack, self.limits)?;
            Ok(Fetched {
                files: unbundled(files)?,
                source: Source::Path(pack.path.clone()),
                manifest: None,
                warnings,
            })
        });
        packs.collect()
    }

    fn file(&self, path: &Path) -> Result<Fetched, Error> {
        let (files, warnings) = PackFiles::read_file(path, self.limits)?;
        Ok(Fetched {
            files: unbundled(files)?,
            source: Source::Path(path.to_owned()),
            manifest: None,
            warnings,
        })
    }

    async fn url(&mut self, url: &Url) -> Result<Fetched, Error> {
        let file_name = url
            .path_segments()
            .and_then(|mut segments| segments.next_back());
        let file_name = file_name.unwrap_or_default();
        let invalid = |reason: &str| Error::NotAPack {
            address: url.to_string(),
            reason: reason.to_owned(),
        };
        let Some((name, extension @ ("wasm" | "toml"))) = file_name.rsplit_once('.') else {
            return Err(invalid("its name does not end with `.wasm` or `.toml`"));
        };
        let limits = SizeLimits::from(self.limits);
        let limit = match extension {
            "wasm" => limits.bundle(),
            _ => limits.sidecar(),
        };
        let on_progress = &mut self.on_progress;
        let bytes = download(url, limit, &mut |total_bytes, received_bytes| {
            on_progress(Progress {
                total_bytes,
                received_bytes,
            });
        })
        .await?;
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
            return Err(invalid("the server sent a web page"));
        }
        let files = match extension {
            "wasm" => unbundle(name, &bytes)?,
            _ => PackFiles::new(
                name,
                vec![PackFile {
                    path: format!("{name}.toml"),
                    bytes,
                }],
            )?,
        };
        Ok(Fetched {
            files,
            source: Source::Url(url.clone()),
            manifest: None,
            warnings: Vec::new(),
        })
    }

    async fn artifact(&mut self, reference: &OciReference) -> Result<Fetched, Error> {
        let registry = Registry::new(reference, self.connection).await;
        let on_progress = &mut self.on_progress;
        let limits = SizeLimits::from(self.limits);
        let mut on_received = |total_bytes, received_bytes| {
            on_progress(Progress {
                total_bytes,
                received_bytes,
            });
        };
        let Pulled { files, manifest } = registry.pull(&limits, &mut on_received).await?;
        Ok(Fetched {
            files,
            source: Source::Oci(reference.clone()),
            manifest: Some(manifest),
            warnings: registry.warning().map(str::to_owned).into_iter().collect(),
        })
    }
}

/// Takes the other files of a pack out of its component. Those beside it win.
fn unbundled(pack: PackFiles) -> Result<PackFiles, Error> {
    let component_path = format!("{}.wasm", pack.name);
    let Some(component) = pack.files.iter().find(|file| file.path == component_path) else {
        return Ok(pack);
    };
    let mut files = unbundle(&pack.name, &component.bytes)?.files;
    for file in pack.files {
        if file.path != component_path {
            files.retain(|other| other.path != file.path);
            files.push(file);
        }
    }
    Ok(PackFiles::new(&pack.name, files)?)
}
