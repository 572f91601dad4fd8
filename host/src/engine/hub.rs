//! The Hugging Face hub: which files a repository has, and one of them on the
//! disk, whole and checked.
//!
//! A download lies in `NAME.gguf.partial` while it runs, beside a note of which
//! file it is, so that a later run goes on with it and never with another's.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::DEMO;
use super::memory::gigabytes;
use crate::secret::Secret;

/// Where the hub is when nobody says otherwise.
pub const HUB: &str = "https://huggingface.co";
/// The quantization that is taken when nobody says which.
const USUAL: &str = "Q4_K_M";
/// How long the hub may take to say which files there are.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How long a download may stand still.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How often a download that broke off is taken up again without any progress.
const TRIES: u32 = 5;
/// A list of files has at most this many bytes.
const LIST_BYTES_MAX: usize = 16 << 20;
/// What is left free on the disk.
const SPARE_BYTES: u64 = 64 << 20;

/// A download failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// It is no name of a repository.
    #[error("`{0}` is no OWNER/REPO[:QUANT]")]
    BadReference(String),
    /// The hub cannot be reached.
    #[error("{hub} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        hub: String,
        /// What the system says.
        why: String,
    },
    /// The hub says no.
    #[error("{hub} answers {status} for {repo}: {message}")]
    Status {
        /// Its address.
        hub: String,
        /// The repository.
        repo: String,
        /// The status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The answer is none of the hub's.
    #[error("{hub} sends something that is no list of files")]
    Garbage {
        /// Its address.
        hub: String,
    },
    /// No file, or more than one, is meant.
    #[error("{repo}: {why}")]
    Choice {
        /// The repository.
        repo: String,
        /// Why.
        why: String,
        /// What there is: quantization or file, and bytes.
        offered: Vec<(String, u64)>,
    },
    /// Its name is the one that means the model in this program.
    #[error("{repo}: `-m {name}` means the built-in model, and not a file `{name}.gguf`")]
    BuiltIn {
        /// The repository.
        repo: String,
        /// The name.
        name: &'static str,
    },
    /// Another file of that name is there.
    #[error("{} is there already, and is another file", .0.display())]
    Exists(PathBuf),
    /// Somebody else is downloading it.
    #[error("another process is downloading {}", .0.display())]
    Busy(PathBuf),
    /// The disk is too small.
    #[error(
        "{} needs {}, and {} are free",
        path.display(),
        gigabytes(*need),
        gigabytes(*free)
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes that are still to come.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What came is not what the hub has.
    #[error("{} has the checksum {got}, and the hub says {expected}", path.display())]
    Checksum {
        /// The file, which is removed.
        path: PathBuf,
        /// What was expected, in hex.
        expected: String,
        /// What it is, in hex.
        got: String,
    },
    /// It broke off too often.
    #[error("the download broke off {TRIES} times without getting on: {0}")]
    Broken(String),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `OWNER/REPO`.
    pub repo: String,
    /// The quantization, or the file's name.
    pub quant: Option<String>,
}

impl Reference {
    /// Reads `OWNER/REPO[:QUANT]`, also as an address at the hub.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let bad = || HubError::BadReference(text.to_owned());
        let plain = text
            .trim_start_matches("https://")
            .trim_start_matches("huggingface.co/")
            .trim_start_matches("hf.co/")
            .trim_end_matches('/');
        let (repo, quant) = match plain.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (plain, None),
        };
        let is_name = |it: &str| {
            !it.is_empty()
                && !it.starts_with('.')
                && it.len() <= 96
                && it
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
        };
        let (owner, name) = repo.split_once('/').ok_or_else(bad)?;
        if !is_name(owner) || !is_name(name) || quant.is_some_and(str::is_empty) {
            return Err(bad());
        }
        Ok(Self {
            repo: repo.to_owned(),
            quant: quant.map(str::to_owned),
        })
    }
}

/// A file that the hub has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remote {
    path: String,
    size: u64,
    /// In hex; absent for small files, which are not kept as LFS.
    sha256: Option<String>,
}

impl Remote {
    /// Its name without folders.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The parts of its name that say how it is quantized.
    fn is(&self, quant: &str) -> bool {
        let name = self.name();
        let stem = name.strip_suffix(".gguf").unwrap_or(name);
        name.eq_ignore_ascii_case(quant)
            || stem
                .split(['-', '.'])
                .any(|it| it.eq_ignore_ascii_case(quant))
    }
}

/// What a download did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// It was there already, whole.
    pub was_there: bool,
}

/// How a download goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// This file, with so many bytes, of which some are there already.
    Begin {
        /// Its name.
        name: String,
        /// All its bytes.
        bytes: u64,
        /// Those that are there.
        have: u64,
    },
    /// So many bytes are there now.
    Have(u64),
    /// It broke off, and is taken up again.
    Again(String),
    /// All is there and is being checked.
    Checking,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    http: reqwest::Client,
    base: String,
    token: Option<Secret>,
}

impl Hub {
    /// The hub at an address, with the user's token for it.
    ///
    /// # Errors
    /// The system gives no connections.
    pub fn new(base: &str, token: Option<Secret>) -> Result<Self, HubError> {
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let base = base.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            // The files lie elsewhere. The token stays here: reqwest drops it
            // when a redirect leads to another host.
            .redirect(reqwest::redirect::Policy::limited(10))
            .connect_timeout(Duration::from_secs(20))
            .user_agent(concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| HubError::Unreachable {
                hub: base.clone(),
                why: e.to_string(),
            })?;
        Ok(Self { http, base, token })
    }

    /// Downloads a file into a folder, or goes on with what is there of it.
    ///
    /// # Errors
    /// No such file, no room, a broken connection, another file in its place.
    /// What was downloaded stays for the next time.
    pub async fn pull(
        &self,
        reference: &Reference,
        revision: &str,
        folder: &Path,
        force: bool,
        tell: &mut (dyn FnMut(Pulling) + Send),
    ) -> Result<Pulled, HubError> {
        let files = self.files(&reference.repo, revision).await?;
        let remote = choose(reference, &files)?;
        if remote.name().strip_suffix(".gguf") == Some(DEMO) {
            return Err(HubError::BuiltIn {
                repo: reference.repo.clone(),
                name: DEMO,
            });
        }
        let path = folder.join(remote.name());
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let lock_path = with(&path, ".lock");
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        if lock.file().try_lock().is_err() {
            return Err(HubError::Busy(path));
        }
        let pulled = self
            .locked(reference, revision, remote, &path, force, tell)
            .await;
        // Whoever waits for it has its own handle.
        let _left = fs::remove_file(&lock_path);
        pulled
    }

    async fn locked(
        &self,
        reference: &Reference,
        revision: &str,
        remote: &Remote,
        path: &Path,
        force: bool,
        tell: &mut (dyn FnMut(Pulling) + Send),
    ) -> Result<Pulled, HubError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::File { path, source }
        };
        let done = |was_there| Pulled {
            path: path.to_owned(),
            bytes: remote.size,
            was_there,
        };
        if let Ok(there) = fs::metadata(path) {
            tell(Pulling::Checking);
            let is_same = there.len() == remote.size
                && match &remote.sha256 {
                    Some(sha256) => *sha256 == digest(path).map_err(failed(path))?,
                    None => true,
                };
            if is_same {
                return Ok(done(true));
            }
            if !force {
                return Err(HubError::Exists(path.to_owned()));
            }
        }
        let partial = with(path, ".partial");
        let note = with(path, ".partial.json");
        let noted = fs::read(&note)
            .ok()
            .and_then(|it| serde_json::from_slice::<Remote>(&it).ok());
        if noted.as_ref() != Some(remote) {
            // What lies there is of another file, or of nobody knows what.
            for old in [&partial, &note] {
                match fs::remove_file(old) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed(old)(e));
                    }
                    _ => {}
                }
            }
            let text = serde_json::to_vec(remote).map_err(|e| failed(&note)(e.into()))?;
            fs::write(&note, text).map_err(failed(&note))?;
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
            return Err(HubError::NoRoom {
                path: path.to_owned(),
                need: remote.size - have,
                free,
            });
        }
        tell(Pulling::Begin {
            name: remote.name().to_owned(),
            bytes: remote.size,
            have,
        });
        let mut tries = 0;
        while have < remote.size {
            let before = have;
            let why = match self
                .some(reference, revision, remote, &mut file, &mut have, tell)
                .await
            {
                Ok(()) if have >= remote.size => break,
                Ok(()) => "it ended early".to_owned(),
                Err(Some(error)) => return Err(at(error, &partial)),
                Err(None) => "the connection broke or stood still".to_owned(),
            };
            tries = if have > before { 1 } else { tries + 1 };
            if tries >= TRIES {
                return Err(HubError::Broken(why));
            }
            tell(Pulling::Again(why));
            tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(tries)).await;
        }
        file.set_len(remote.size).map_err(failed(&partial))?;
        file.sync_all().map_err(failed(&partial))?;
        if let Some(expected) = &remote.sha256 {
            tell(Pulling::Checking);
            let got = digest(&partial).map_err(failed(&partial))?;
            if got != *expected {
                // To go on with it would give the same again.
                let _bad = fs::remove_file(&partial);
                let _bad = fs::remove_file(&note);
                return Err(HubError::Checksum {
                    path: partial,
                    expected: expected.clone(),
                    got,
                });
            }
        }
        fs::rename(&partial, path).map_err(failed(path))?;
        let _done = fs::remove_file(&note);
        Ok(done(false))
    }

    /// One request's worth of bytes. `Err(None)` is worth another try.
    async fn some(
        &self,
        reference: &Reference,
        revision: &str,
        remote: &Remote,
        file: &mut fs::File,
        have: &mut u64,
        tell: &mut (dyn FnMut(Pulling) + Send),
    ) -> Result<(), Option<HubError>> {
        let disk = |source| {
            Some(HubError::File {
                path: PathBuf::new(),
                source,
            })
        };
        let url = format!(
            "{}/{}/resolve/{revision}/{}",
            self.base,
            reference.repo,
            escaped(&remote.path)
        );
        let mut request = self.request(&url);
        if *have > 0 {
            request = request.header("range", format!("bytes={have}-"));
        }
        let sent = tokio::time::timeout(STALL_LIMIT, request.send()).await;
        let Ok(Ok(mut response)) = sent else {
            return Err(None);
        };
        match response.status().as_u16() {
            206 => {}
            200 => {
                // It knows no ranges: all of it comes again.
                *have = 0;
                file.set_len(0).map_err(disk)?;
            }
            416 => {
                *have = 0;
                file.set_len(0).map_err(disk)?;
                return Err(None);
            }
            500.. => return Err(None),
            status => return Err(Some(self.refused(&reference.repo, status, ""))),
        }
        file.seek(SeekFrom::Start(*have)).map_err(disk)?;
        loop {
            let chunk = match tokio::time::timeout(STALL_LIMIT, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(_)) | Err(_) => return Err(None),
            };
            let room = usize::try_from(remote.size - *have).unwrap_or(usize::MAX);
            let chunk = chunk.get(..chunk.len().min(room)).unwrap_or_default();
            file.write_all(chunk).map_err(disk)?;
            *have += chunk.len() as u64;
            tell(Pulling::Have(*have));
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

    /// The files of a repository.
    async fn files(&self, repo: &str, revision: &str) -> Result<Vec<Remote>, HubError> {
        let unreachable = |why: String| HubError::Unreachable {
            hub: self.base.clone(),
            why,
        };
        let url = format!(
            "{}/api/models/{repo}/tree/{revision}?recursive=true",
            self.base
        );
        let asked = async {
            let mut response = self.request(&url).send().await?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > LIST_BYTES_MAX {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((status, body))
        };
        let (status, body) = tokio::time::timeout(LIST_LIMIT, asked)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", LIST_LIMIT.as_secs())))?
            .map_err(|e| unreachable(reason(&e)))?;
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        if status != 200 {
            let message = value.as_ref().and_then(|it| it.get("error")?.as_str());
            return Err(self.refused(repo, status, message.unwrap_or_default()));
        }
        let Some(Value::Array(entries)) = value else {
            return Err(HubError::Garbage {
                hub: self.base.clone(),
            });
        };
        Ok(entries.iter().filter_map(remote).collect())
    }

    fn refused(&self, repo: &str, status: u16, message: &str) -> HubError {
        let message = match (status, message) {
            (401 | 403, "") => "it is private, gated or not there",
            (404, "") => "there is no such repository, revision or file",
            (_, "") => "no reason is given",
            (_, message) => message,
        };
        HubError::Status {
            hub: self.base.clone(),
            repo: repo.to_owned(),
            status,
            message: match &self.token {
                Some(token) => token.redact(message),
                None => message.to_owned(),
            },
        }
    }
}

fn at(error: HubError, path: &Path) -> HubError {
    match error {
        HubError::File { source, .. } => HubError::File {
            path: path.to_owned(),
            source,
        },
        other => other,
    }
}

fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A GGUF file with a name that is safe on every disk, or nothing.
fn remote(entry: &Value) -> Option<Remote> {
    let path = entry.get("path")?.as_str()?;
    let lfs = entry.get("lfs");
    let size = lfs
        .and_then(|it| it.get("size")?.as_u64())
        .or_else(|| entry.get("size")?.as_u64())?;
    let sha256 = lfs
        .and_then(|it| it.get("oid")?.as_str())
        .map(|it| it.trim_start_matches("sha256:").to_lowercase())
        .filter(|it| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit()));
    let remote = Remote {
        path: path.to_owned(),
        size,
        sha256,
    };
    let name = remote.name();
    let is_plain = path
        .split('/')
        .all(|it| !it.is_empty() && it != "." && it != "..")
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_.+".contains(it))
        && !name.starts_with('.');
    let is_model = name.to_lowercase().ends_with(".gguf")
        && !name.to_lowercase().contains("mmproj")
        && !name.contains("-of-");
    (is_plain && is_model && size > 0).then_some(remote)
}

/// The file that is meant.
fn choose<'a>(reference: &Reference, files: &'a [Remote]) -> Result<&'a Remote, HubError> {
    let failed = |why: String| HubError::Choice {
        repo: reference.repo.clone(),
        why,
        offered: files
            .iter()
            .map(|it| (it.name().to_owned(), it.size))
            .collect(),
    };
    let named = |quant: &str| -> Vec<&Remote> { files.iter().filter(|it| it.is(quant)).collect() };
    match (&reference.quant, files) {
        (_, []) => Err(failed("it has no GGUF file in one piece".to_owned())),
        (Some(quant), _) => match named(quant).as_slice() {
            [one] => Ok(one),
            [] => Err(failed(format!("no file is `{quant}`"))),
            _ => Err(failed(format!("more than one file is `{quant}`"))),
        },
        (None, [one]) => Ok(one),
        (None, _) => match named(USUAL).as_slice() {
            [one] => Ok(one),
            _ => Err(failed("which file?".to_owned())),
        },
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

/// A path in an address; names here have only a plus that means something else.
fn escaped(path: &str) -> String {
    path.replace('%', "%25")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23")
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

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
    fn references_are_read_as_people_paste_them() {
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
            let read = Reference::parse(text).ok();
            let read = read
                .as_ref()
                .map(|it| (it.repo.as_str(), it.quant.as_deref()));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_quantization_is_a_whole_part_of_a_name() {
        let file =
            |path: &str| remote(&serde_json::json!({"type": "file", "path": path, "size": 9}));
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
        let files: Vec<Remote> = [
            "m-Q4_K_M.gguf",
            "sub/m-Q4_K.gguf",
            "m.Q8_0.gguf",
            "m-f16.gguf",
        ]
        .iter()
        .map(|it| file(it).unwrap())
        .collect();
        for (quant, expected) in [
            (Some("q4_k"), Some("m-Q4_K.gguf")),
            (Some("Q8_0"), Some("m.Q8_0.gguf")),
            (Some("m-F16.gguf"), Some("m-f16.gguf")),
            (Some("m"), None),
            (Some("Q4"), None),
            (None, Some("m-Q4_K_M.gguf")),
        ] {
            let reference = Reference {
                repo: "a/b".to_owned(),
                quant: quant.map(str::to_owned),
            };
            let chosen = choose(&reference, &files).ok().map(Remote::name);
            assert_eq!(chosen, expected, "{quant:?}");
        }
    }
}
