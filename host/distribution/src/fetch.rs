//! Gets the files of packs from their sources.

use std::path::Path;

use lmstrix_sandbox::{
    Digest, PackFile, PackFiles, PackFolder, PackFolders, SandboxLimits, unbundle,
};
use reqwest::Url;

use crate::download::{Download, Downloaded, SizeLimits, client};
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
    /// The size in bytes if it is known.
    pub total_bytes: Option<u64>,
    /// The received bytes.
    pub received_bytes: u64,
}

/// Reads packs from their sources.
pub struct Fetcher<'a> {
    /// The limits of packs.
    pub limits: &'a SandboxLimits,
    /// The name of the pack instead of the one at the source.
    pub name: Option<&'a str>,
    /// How registries are reached.
    pub connection: &'a Connection,
    /// Receives the progress of transfers.
    pub on_progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl Fetcher<'_> {
    /// Reads the packs of a source: all packs of a folder, or one. A pack of a folder that cannot
    /// be read costs no other.
    ///
    /// # Errors
    /// Returns an error if the source cannot be read, is not a pack, exceeds a limit or cannot
    /// be verified.
    pub async fn fetch(&mut self, source: &Source) -> Result<Vec<Result<Fetched, Error>>, Error> {
        match source {
            Source::Path(path) if path.is_dir() => self.folder(path),
            Source::Path(path) => Ok(vec![Ok(self.file(path)?)]),
            Source::Url(url) => Ok(vec![Ok(self.url(url).await?)]),
            Source::Oci(reference) => Ok(vec![Ok(self.artifact(reference).await?)]),
        }
    }

    fn folder(&self, path: &Path) -> Result<Vec<Result<Fetched, Error>>, Error> {
        let folders = PackFolders(vec![PackFolder {
            path: path.to_owned(),
            allows_links: false,
        }]);
        let (found, unused) = folders.scan();
        let packs = found.iter().map(|pack| {
            let (files, warnings) = PackFiles::read(pack, self.limits)?;
            Ok(Fetched {
                files: unbundled(files)?,
                source: Source::Path(pack.path.clone()),
                manifest: None,
                warnings,
            })
        });
        let unused = unused.into_iter().map(|file| Error::NotAPack {
            address: format!("`{}`", file.path.display()),
            reason: file.reason.to_owned(),
        });
        let all: Vec<_> = packs.chain(unused.map(Err)).collect();
        match all.is_empty() {
            true => Err(Error::EmptyFolder(path.to_owned())),
            false => Ok(all),
        }
    }

    fn file(&self, path: &Path) -> Result<Fetched, Error> {
        let (files, warnings) = match self.name {
            None => PackFiles::read_file(path, self.limits)?,
            Some(name) => PackFiles::read_file_as(name, path, self.limits)?,
        };
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
        let Some((stem, extension @ ("wasm" | "toml"))) = file_name.rsplit_once('.') else {
            return Err(invalid("its name does not end with `.wasm` or `.toml`"));
        };
        let name = self.name.unwrap_or(stem);
        let on_progress = &mut self.on_progress;
        let download = Download {
            address: url.as_str(),
            request: client()?.get(url.clone()),
            limit: match extension {
                "wasm" => SizeLimits::from(self.limits).bundle(),
                _ => SizeLimits::sidecar(),
            },
            on_progress: &mut |total_bytes, received_bytes| {
                on_progress(Progress {
                    total_bytes,
                    received_bytes,
                });
            },
        };
        let Downloaded {
            status,
            content: bytes,
        } = download.run().await?;
        if !status.is_success() {
            return Err(Error::Status {
                address: url.to_string(),
                reason: format!("the server returned HTTP {status}"),
            });
        }
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
        let registry = Registry::new(reference, self.connection).await?;
        let on_progress = &mut self.on_progress;
        let limits = SizeLimits::from(self.limits);
        let mut on_received = |total_bytes, received_bytes| {
            on_progress(Progress {
                total_bytes,
                received_bytes,
            });
        };
        let Pulled { files, manifest } =
            registry.pull(self.name, &limits, &mut on_received).await?;
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
