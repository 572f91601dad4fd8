//! The Hugging Face hub: lists the files of a repository and downloads a model
//! file, with resume and checksum.
//!
//! While a download runs, its data is in `NAME.gguf.partial`, next to
//! `NAME.gguf.partial.json`, which identifies the remote file. A later run resumes
//! the download only if it is for the same remote file.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DEMO;
use super::memory::format_bytes;
use crate::secret::Secret;
use crate::store::{FileLock, sha256_hex_of_file};

/// The hub's default address.
pub const DEFAULT_HUB_URL: &str = "https://huggingface.co";
/// The quantization to use if none is specified.
const DEFAULT_QUANTIZATION: &str = "Q4_K_M";
/// Limit on listing the files of a repository.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit on a download without new data.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Number of consecutive attempts without progress before a download fails.
const MAX_ATTEMPTS: u32 = 5;
/// The maximal size of a list of files, in bytes.
const MAX_LIST_BYTES: usize = 16 << 20;
/// Disk space that a download leaves free, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

/// An error of a download.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is not a repository.
    #[error("`{0}` is not of the form OWNER/REPO[:QUANT]")]
    InvalidReference(String),
    /// The hub cannot be reached.
    #[error("cannot reach {hub}: {reason}")]
    Unreachable {
        /// The hub's address.
        hub: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The hub returned an HTTP error.
    #[error("{hub} returned HTTP {status} for `{repo}`: {message}")]
    Status {
        /// The hub's address.
        hub: String,
        /// The repository.
        repo: String,
        /// The HTTP status.
        status: u16,
        /// The hub's message.
        message: String,
    },
    /// The hub's list of files is not valid.
    #[error("invalid list of files from {hub}")]
    InvalidFileList {
        /// The hub's address.
        hub: String,
    },
    /// The reference matches no file or more than one.
    #[error("{repo}: {reason}")]
    SelectFile {
        /// The repository.
        repo: String,
        /// The reason.
        reason: String,
        /// The model files of the repository: name and size in bytes.
        candidates: Vec<(String, u64)>,
    },
    /// The file's name is reserved for the built-in model.
    #[error("{repo}: `-m {name}` is the built-in model, so `{name}.gguf` could not be used")]
    ReservedName {
        /// The repository.
        repo: String,
        /// The name.
        name: &'static str,
    },
    /// A different file of that name exists.
    #[error("{} already exists and is a different file", .0.display())]
    FileExists(PathBuf),
    /// Another process is downloading the file.
    #[error("another process is downloading {}", .0.display())]
    AlreadyDownloading(PathBuf),
    /// The disk has too little free space.
    #[error(
        "{} needs {} of disk space, but only {} are free",
        path.display(),
        format_bytes(*required_bytes),
        format_bytes(*free_bytes)
    )]
    InsufficientDiskSpace {
        /// The file.
        path: PathBuf,
        /// The bytes that remain to be downloaded.
        required_bytes: u64,
        /// The free disk space, in bytes.
        free_bytes: u64,
    },
    /// The downloaded file differs from the one on the hub.
    #[error(
        "checksum mismatch for {}: expected {expected}, got {actual}",
        path.display()
    )]
    ChecksumMismatch {
        /// The file, which has been removed.
        path: PathBuf,
        /// The expected SHA-256, in hex.
        expected: String,
        /// The actual SHA-256, in hex.
        actual: String,
    },
    /// Too many attempts without progress.
    #[error("download failed after {MAX_ATTEMPTS} attempts without progress: {0}")]
    DownloadInterrupted(String),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

/// A reference to a model file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    /// The repository, `OWNER/REPO`.
    pub repo: String,
    /// The quantization or the file name.
    pub quant: Option<String>,
}

impl HubReference {
    /// Parses `OWNER/REPO[:QUANT]`, also as a URL of the hub.
    ///
    /// # Errors
    /// Returns an error unless `text` is `OWNER/REPO[:QUANT]`.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let invalid = || HubError::InvalidReference(text.to_owned());
        let plain = text
            .trim_start_matches("https://")
            .trim_start_matches("huggingface.co/")
            .trim_start_matches("hf.co/")
            .trim_end_matches('/');
        let (repo, quant) = match plain.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (plain, None),
        };
        let is_name = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.len() <= 96
                && part
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
        };
        let (owner, name) = repo.split_once('/').ok_or_else(invalid)?;
        if !is_name(owner) || !is_name(name) || quant.is_some_and(str::is_empty) {
            return Err(invalid());
        }
        Ok(Self {
            repo: repo.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }
}

/// A model file on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RemoteFile {
    path: String,
    size: u64,
    /// In hex; absent for small files, which are not stored with Git LFS.
    sha256: Option<String>,
}

impl RemoteFile {
    /// Returns the file name without folders.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Returns whether `quant` is the file name or one of its parts between `-` and
    /// `.`, ignoring case.
    fn has_quantization(&self, quant: &str) -> bool {
        let name = self.name();
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        name.eq_ignore_ascii_case(quant)
            || stem
                .split(['-', '.'])
                .any(|part| part.eq_ignore_ascii_case(quant))
    }
}

/// The result of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullResult {
    /// The file.
    pub path: PathBuf,
    /// The size in bytes.
    pub size_bytes: u64,
    /// True if the complete file existed already.
    pub already_present: bool,
}

/// Progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullProgress {
    /// The download of a file started.
    Started {
        /// The file name.
        name: String,
        /// The size of the file, in bytes.
        total_bytes: u64,
        /// The bytes that an earlier run downloaded.
        present_bytes: u64,
    },
    /// The number of bytes downloaded so far, with those of earlier runs.
    Received(u64),
    /// The download was interrupted for this reason and is resumed.
    Retrying(String),
    /// The checksum is being computed.
    Verifying,
}

/// A client of the hub.
#[derive(Debug)]
pub struct Hub {
    http: reqwest::Client,
    base_url: String,
    token: Option<Secret>,
}

impl Hub {
    /// Creates a client for the hub at an address, with the user's token for it.
    ///
    /// # Errors
    /// Returns an error if the HTTP client cannot be created.
    pub fn new(base: &str, token: Option<Secret>) -> Result<Self, HubError> {
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let base = base.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            // The hub redirects to another host for files. reqwest does not send the
            // token to that host.
            .redirect(reqwest::redirect::Policy::limited(10))
            .connect_timeout(Duration::from_secs(20))
            .user_agent(concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| HubError::Unreachable {
                hub: base.clone(),
                reason: e.to_string(),
            })?;
        Ok(Self {
            http,
            base_url: base,
            token,
        })
    }

    /// Downloads a file into a folder, or resumes its download.
    ///
    /// # Errors
    /// Returns an error if the file does not exist, the disk is too small, the
    /// connection fails repeatedly, the checksum does not match, or a different file
    /// exists and `force` is not set. A partial download is kept.
    pub async fn pull(
        &self,
        reference: &HubReference,
        revision: &str,
        folder: &Path,
        force: bool,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<PullResult, HubError> {
        let files = self.list_files(&reference.repo, revision).await?;
        let remote = select_file(reference, &files)?;
        if remote.name().strip_suffix(".gguf") == Some(DEMO) {
            return Err(HubError::ReservedName {
                repo: reference.repo.clone(),
                name: DEMO,
            });
        }
        let path = folder.join(remote.name());
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::WriteFile { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock_path = append_extension(&path, ".lock");
        let lock = FileLock::try_acquire(&lock_path).map_err(failed(&lock_path))?;
        if lock.is_none() {
            return Err(HubError::AlreadyDownloading(path));
        }
        let pulled = self
            .pull_locked(reference, revision, remote, &path, force, on_progress)
            .await;
        // Other processes do not wait for this lock, so the file can be removed.
        let _ignored = fs::remove_file(&lock_path);
        pulled
    }

    async fn pull_locked(
        &self,
        reference: &HubReference,
        revision: &str,
        remote: &RemoteFile,
        path: &Path,
        force: bool,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<PullResult, HubError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::WriteFile { path, source }
        };
        let result = |already_present| PullResult {
            path: path.to_owned(),
            size_bytes: remote.size,
            already_present,
        };
        if let Ok(existing) = fs::metadata(path) {
            on_progress(PullProgress::Verifying);
            let is_same = existing.len() == remote.size
                && match &remote.sha256 {
                    Some(sha256) => *sha256 == sha256_hex_of_file(path).map_err(failed(path))?,
                    None => true,
                };
            if is_same {
                return Ok(result(true));
            }
            if !force {
                return Err(HubError::FileExists(path.to_owned()));
            }
        }
        let partial = append_extension(path, ".partial");
        let identity_path = append_extension(path, ".partial.json");
        let identity = fs::read(&identity_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<RemoteFile>(&bytes).ok());
        if identity.as_ref() != Some(remote) {
            // The partial data is of another or an unknown remote file.
            for old in [&partial, &identity_path] {
                match fs::remove_file(old) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed(old)(e));
                    }
                    _ => {}
                }
            }
            let text = serde_json::to_vec(remote).map_err(|e| failed(&identity_path)(e.into()))?;
            fs::write(&identity_path, text).map_err(failed(&identity_path))?;
        }
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&partial)
            .map_err(failed(&partial))?;
        let mut have = file.metadata().map_err(failed(&partial))?.len();
        if have > remote.size {
            file.set_len(0).map_err(failed(&partial))?;
            have = 0;
        }
        if let Some(free) = free_bytes(&partial)
            && (remote.size - have).saturating_add(SPARE_BYTES) > free
        {
            return Err(HubError::InsufficientDiskSpace {
                path: path.to_owned(),
                required_bytes: remote.size - have,
                free_bytes: free,
            });
        }
        on_progress(PullProgress::Started {
            name: remote.name().to_owned(),
            total_bytes: remote.size,
            present_bytes: have,
        });
        let mut attempts = 0;
        while have < remote.size {
            let before = have;
            let reason = match self
                .download_once(
                    reference,
                    revision,
                    remote,
                    &mut file,
                    &mut have,
                    on_progress,
                )
                .await
            {
                Ok(()) if have >= remote.size => break,
                Ok(()) => "the response ended early".to_owned(),
                Err(Some(error)) => return Err(with_path(error, &partial)),
                Err(None) => "connection lost or stalled".to_owned(),
            };
            attempts = if have > before { 1 } else { attempts + 1 };
            if attempts >= MAX_ATTEMPTS {
                return Err(HubError::DownloadInterrupted(reason));
            }
            on_progress(PullProgress::Retrying(reason));
            tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(attempts)).await;
        }
        file.set_len(remote.size).map_err(failed(&partial))?;
        file.sync_all().map_err(failed(&partial))?;
        if let Some(expected) = &remote.sha256 {
            on_progress(PullProgress::Verifying);
            let actual = sha256_hex_of_file(&partial).map_err(failed(&partial))?;
            if actual != *expected {
                // Resuming from corrupt data would fail again.
                let _ignored = fs::remove_file(&partial);
                let _ignored = fs::remove_file(&identity_path);
                return Err(HubError::ChecksumMismatch {
                    path: partial,
                    expected: expected.clone(),
                    actual,
                });
            }
        }
        fs::rename(&partial, path).map_err(failed(path))?;
        let _ignored = fs::remove_file(&identity_path);
        Ok(result(false))
    }

    /// Sends one request and appends the received data to `file`. `have` is the number
    /// of bytes in `file`, before and after.
    ///
    /// # Errors
    /// Returns `None` for a transient error, after which the download can be resumed.
    /// An error of the file has no path.
    async fn download_once(
        &self,
        reference: &HubReference,
        revision: &str,
        remote: &RemoteFile,
        file: &mut fs::File,
        have: &mut u64,
        on_progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), Option<HubError>> {
        let write_error = |source| {
            Some(HubError::WriteFile {
                path: PathBuf::new(),
                source,
            })
        };
        let url = format!(
            "{}/{}/resolve/{revision}/{}",
            self.base_url,
            reference.repo,
            escape_path(&remote.path)
        );
        let mut request = self.request(&url);
        if *have > 0 {
            request = request.header("range", format!("bytes={have}-"));
        }
        let sent = tokio::time::timeout(STALL_TIMEOUT, request.send()).await;
        let Ok(Ok(mut response)) = sent else {
            return Err(None);
        };
        match response.status().as_u16() {
            206 => {}
            200 => {
                // The server ignored the range and sends the whole file.
                *have = 0;
                file.set_len(0).map_err(write_error)?;
            }
            416 => {
                *have = 0;
                file.set_len(0).map_err(write_error)?;
                return Err(None);
            }
            500.. => return Err(None),
            status => return Err(Some(self.status_error(&reference.repo, status, ""))),
        }
        file.seek(SeekFrom::Start(*have)).map_err(write_error)?;
        loop {
            let chunk = match tokio::time::timeout(STALL_TIMEOUT, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(_)) | Err(_) => return Err(None),
            };
            let missing = usize::try_from(remote.size - *have).unwrap_or(usize::MAX);
            let chunk = chunk.get(..chunk.len().min(missing)).unwrap_or_default();
            file.write_all(chunk).map_err(write_error)?;
            *have += chunk.len() as u64;
            on_progress(PullProgress::Received(*have));
            if *have >= remote.size {
                return Ok(());
            }
        }
    }

    fn request(&self, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.get(url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// Lists the model files of a repository.
    async fn list_files(&self, repo: &str, revision: &str) -> Result<Vec<RemoteFile>, HubError> {
        let unreachable = |reason: String| HubError::Unreachable {
            hub: self.base_url.clone(),
            reason,
        };
        let url = format!(
            "{}/api/models/{repo}/tree/{revision}?recursive=true",
            self.base_url
        );
        let response = async {
            let mut response = self.request(&url).send().await?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_LIST_BYTES {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((status, body))
        };
        let (status, body) = tokio::time::timeout(LIST_TIMEOUT, response)
            .await
            .map_err(|_| unreachable(format!("no response within {} s", LIST_TIMEOUT.as_secs())))?
            .map_err(|e| unreachable(root_cause(&e)))?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        if status != 200 {
            let message = value
                .as_ref()
                .and_then(|value| value.get("error")?.as_str());
            return Err(self.status_error(repo, status, message.unwrap_or_default()));
        }
        let Some(Value::Array(entries)) = value else {
            return Err(HubError::InvalidFileList {
                hub: self.base_url.clone(),
            });
        };
        Ok(entries.iter().filter_map(remote_model_file).collect())
    }

    fn status_error(&self, repo: &str, status: u16, message: &str) -> HubError {
        let message = match (status, message) {
            (401 | 403, "") => "private, gated or missing repository",
            (404, "") => "no such repository, revision or file",
            (_, "") => "no reason given",
            (_, message) => message,
        };
        HubError::Status {
            hub: self.base_url.clone(),
            repo: repo.to_owned(),
            status,
            message: match &self.token {
                Some(token) => token.redact(message),
                None => message.to_owned(),
            },
        }
    }
}

/// Sets the path of an error of a file.
fn with_path(error: HubError, path: &Path) -> HubError {
    match error {
        HubError::WriteFile { source, .. } => HubError::WriteFile {
            path: path.to_owned(),
            source,
        },
        other => other,
    }
}

/// Returns the message of the innermost cause.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Reads an entry of the list of files. Returns `None` unless it is a model in a
/// single GGUF file whose name is safe on every file system.
fn remote_model_file(entry: &Value) -> Option<RemoteFile> {
    let path = entry.get("path")?.as_str()?;
    let lfs = entry.get("lfs");
    let size = lfs
        .and_then(|lfs| lfs.get("size")?.as_u64())
        .or_else(|| entry.get("size")?.as_u64())?;
    let sha256 = lfs
        .and_then(|lfs| lfs.get("oid")?.as_str())
        .map(|oid| oid.trim_start_matches("sha256:").to_lowercase())
        .filter(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let remote = RemoteFile {
        path: path.to_owned(),
        size,
        sha256,
    };
    let name = remote.name();
    let is_safe = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..")
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || "-_.+".contains(char))
        && !name.starts_with('.');
    let is_model = name.to_lowercase().ends_with(".gguf")
        && !name.to_lowercase().contains("mmproj")
        && !name.contains("-of-");
    (is_safe && is_model && size > 0).then_some(remote)
}

/// Returns the file that the reference selects.
///
/// # Errors
/// Returns an error if no file or more than one matches.
fn select_file<'a>(
    reference: &HubReference,
    files: &'a [RemoteFile],
) -> Result<&'a RemoteFile, HubError> {
    let failed = |reason: String| HubError::SelectFile {
        repo: reference.repo.clone(),
        reason,
        candidates: files
            .iter()
            .map(|file| (file.name().to_owned(), file.size))
            .collect(),
    };
    let matching = |quant: &str| -> Vec<&RemoteFile> {
        files
            .iter()
            .filter(|file| file.has_quantization(quant))
            .collect()
    };
    match (&reference.quant, files) {
        (_, []) => Err(failed("no model in a single GGUF file found".to_owned())),
        (Some(quant), _) => match matching(quant).as_slice() {
            [file] => Ok(file),
            [] => Err(failed(format!("no file matches `{quant}`"))),
            _ => Err(failed(format!("more than one file matches `{quant}`"))),
        },
        (None, [file]) => Ok(file),
        (None, _) => match matching(DEFAULT_QUANTIZATION).as_slice() {
            [file] => Ok(file),
            _ => Err(failed("no quantization or file specified".to_owned())),
        },
    }
}

/// Appends `extension` to the whole file name.
fn append_extension(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(extension);
    PathBuf::from(path)
}

/// Escapes a path for a URL.
fn escape_path(path: &str) -> String {
    path.replace('%', "%25")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23")
}

/// Returns the free space of the file's disk, in bytes, if known.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_with_and_without_url() {
        for (text, expected) in [
            ("a/b", Some(("a/b", None))),
            ("a/b-GGUF:Q8_0", Some(("a/b-GGUF", Some("Q8_0")))),
            ("hf.co/a/b:x", Some(("a/b", Some("x")))),
            ("https://huggingface.co/a/b/", Some(("a/b", None))),
            ("a", None),
            ("a/b/c", None),
            ("../b", None),
            ("a/..", None),
            ("a/b:", None),
            ("a b/c", None),
            ("", None),
        ] {
            let reference = HubReference::parse(text).ok();
            let parts = reference
                .as_ref()
                .map(|reference| (reference.repo.as_str(), reference.quant.as_deref()));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn a_quantization_matches_a_whole_part_of_a_file_name() {
        let file = |path: &str| {
            remote_model_file(&serde_json::json!({"type": "file", "path": path, "size": 9}))
        };
        for path in [
            "m.bin",
            "../m.gguf",
            "a/../m.gguf",
            ".m.gguf",
            "m-00001-of-00002.gguf",
            "mmproj-m.gguf",
            "m\n.gguf",
            "m\\x.gguf",
        ] {
            assert_eq!(file(path), None, "{path}");
        }
        let files: Vec<RemoteFile> = [
            "m-Q4_K_M.gguf",
            "sub/m-Q4_K.gguf",
            "m.Q8_0.gguf",
            "m-f16.gguf",
        ]
        .iter()
        .map(|path| file(path).unwrap())
        .collect();
        for (quant, expected) in [
            (Some("q4_k"), Some("m-Q4_K.gguf")),
            (Some("Q8_0"), Some("m.Q8_0.gguf")),
            (Some("m-F16.gguf"), Some("m-f16.gguf")),
            (Some("m"), None),
            (Some("Q4"), None),
            (None, Some("m-Q4_K_M.gguf")),
        ] {
            let reference = HubReference {
                repo: "a/b".to_owned(),
                quant: quant.map(str::to_owned),
            };
            let selected = select_file(&reference, &files).ok().map(RemoteFile::name);
            assert_eq!(selected, expected, "{quant:?}");
        }
    }
}
