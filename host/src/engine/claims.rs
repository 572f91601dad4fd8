//! Which instances are ours, and who may load now: one lock and one file per
//! server, in the state folder.
//!
//! A claim is written before a load and taken back after the unload, so that
//! it survives a kill. The lock is the system's own and goes with its process,
//! however that ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

/// How often a lock that somebody else holds is tried again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

const SCHEMA: u32 = 1;

/// An instance that this program loads, or has loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The model that is meant.
    pub(super) model: String,
    /// The instance; absent while it is being loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// The context that it came up with, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<u32>,
    /// The context that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<u32>,
    /// Instances of the model that were there before: none of them is ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) before: Vec<String>,
    /// The process that loaded it.
    #[serde(default)]
    pub(super) process: u32,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    server: String,
    claims: Vec<Claim>,
}

/// The lock of one server, held until this is dropped, and its claims.
#[derive(Debug)]
pub(super) struct Claims {
    server: String,
    path: PathBuf,
    claims: Vec<Claim>,
    _lock: fs::File,
}

fn name(server: &str) -> String {
    Sha256::digest(server.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The claims at a server, without its lock: for showing.
pub(super) fn peek(folder: &Path, server: &str) -> Vec<Claim> {
    read(&folder.join(format!("{}.json", name(server))))
}

fn read(path: &Path) -> Vec<Claim> {
    // A file that makes no sense claims nothing: what is left loaded costs
    // memory, what is unloaded wrongly costs somebody's work.
    fs::read(path)
        .ok()
        .and_then(|it| serde_json::from_slice::<File>(&it).ok())
        .filter(|it| it.schema == SCHEMA)
        .map(|it| it.claims)
        .unwrap_or_default()
}

impl Claims {
    /// Waits for the lock; whoever waits for this sets the limit.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) async fn lock(folder: &Path, server: &str) -> Result<Self, Error> {
        let name = name(server);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::State { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join(format!("{name}.lock"));
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&path))?;
        loop {
            match file.file().try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(ASK_AGAIN).await,
                Err(std::fs::TryLockError::Error(source)) => return Err(failed(&path)(source)),
            }
        }
        let path = folder.join(format!("{name}.json"));
        Ok(Self {
            server: server.to_owned(),
            claims: read(&path),
            path,
            _lock: file,
        })
    }

    /// Drops claims on what is not there any more. `there` are the instances
    /// of all models with their contexts.
    pub(super) fn reconcile(&mut self, there: &[(String, Option<u32>)]) -> Result<(), Error> {
        let before = self.claims.clone();
        self.claims.retain(|claim| match &claim.instance {
            Some(id) => there
                .iter()
                // Another context is another instance under the same name.
                .any(|(it, context)| it == id && same(*context, claim.context)),
            // A load that was killed: ours is what came up since.
            None => there.iter().any(|(it, _)| claim.may_be(it)),
        });
        if self.claims == before {
            return Ok(());
        }
        self.write()
    }

    /// Whether an instance is ours.
    pub(super) fn is_ours(&self, instance: &str, context: Option<u32>) -> bool {
        is_ours(&self.claims, instance, context)
    }

    /// The context that was asked for when an instance of ours was loaded.
    pub(super) fn asked(&self, instance: &str) -> Option<u32> {
        let ours = |it: &&Claim| it.instance.as_deref() == Some(instance);
        self.claims.iter().find(ours)?.asked
    }

    /// Whether this process loaded an instance of the model, or may have: the
    /// load need not have ended.
    pub(super) fn is_own(&self, model: &str, instance: &str, context: Option<u32>) -> bool {
        let own = |it: &&Claim| it.process == std::process::id() && it.model == model;
        let own: Vec<Claim> = self.claims.iter().filter(own).cloned().collect();
        is_ours(&own, instance, context)
    }

    /// Whether this process loaded the model at all, or began to.
    pub(super) fn has_own(&self, model: &str) -> bool {
        let mut claims = self.claims.iter();
        claims.any(|it| it.process == std::process::id() && it.model == model)
    }

    /// Whether a load of the model that this process began has not ended.
    pub(super) fn is_open(&self, model: &str) -> bool {
        self.claims.iter().any(|it| {
            it.process == std::process::id() && it.model == model && it.instance.is_none()
        })
    }

    /// To be called before a load.
    pub(super) fn claim(
        &mut self,
        model: &str,
        asked: Option<u32>,
        before: Vec<String>,
    ) -> Result<(), Error> {
        self.claims
            .retain(|it| it.instance.is_some() || it.model != model);
        self.claims.push(Claim {
            model: model.to_owned(),
            asked,
            before,
            process: std::process::id(),
            ..Claim::default()
        });
        self.write()
    }

    /// To be called after a load, well or badly ended.
    pub(super) fn loaded(
        &mut self,
        model: &str,
        instance: Option<(&str, Option<u32>)>,
    ) -> Result<(), Error> {
        let open = |it: &Claim| it.instance.is_none() && it.model == model;
        match instance {
            Some((id, context)) => {
                if let Some(claim) = self.claims.iter_mut().find(|it| open(it)) {
                    claim.instance = Some(id.to_owned());
                    claim.context = context;
                    claim.before.clear();
                }
            }
            None => self.claims.retain(|it| !open(it)),
        }
        self.write()
    }

    /// To be called after an unload.
    pub(super) fn release(&mut self, instance: &str) -> Result<(), Error> {
        self.claims
            .retain(|it| it.instance.as_deref() != Some(instance) && !it.may_be(instance));
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let failed = |source| Error::State {
            path: self.path.clone(),
            source,
        };
        let file = File {
            schema: SCHEMA,
            server: self.server.clone(),
            claims: self.claims.clone(),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|e| failed(e.into()))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || {
            let mut new = tempfile::Builder::new()
                .prefix(".claims-")
                .tempfile_in(folder)?;
            new.write_all(&text)?;
            new.as_file().sync_data()?;
            new.persist(&self.path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(failed)
    }
}

/// Whether one of the claims is on this instance.
pub(super) fn is_ours(claims: &[Claim], instance: &str, context: Option<u32>) -> bool {
    claims.iter().any(|it| match &it.instance {
        Some(id) => id == instance && same(context, it.context),
        None => it.may_be(instance),
    })
}

impl Claim {
    /// Whether a load that never came to its end may have made this instance:
    /// LM Studio names them `MODEL`, `MODEL:2`, `MODEL:3`.
    fn may_be(&self, instance: &str) -> bool {
        let is_named_so = instance
            .strip_prefix(self.model.as_str())
            .is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix(':')
                        .is_some_and(|it| it.parse::<u32>().is_ok())
            });
        self.instance.is_none() && is_named_so && !self.before.iter().any(|it| it == instance)
    }
}

/// What is unknown contradicts nothing.
fn same(a: Option<u32>, b: Option<u32>) -> bool {
    a.is_none() || b.is_none() || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn locked(folder: &Path) -> Claims {
        Claims::lock(folder, "http://h:1").await.unwrap()
    }

    #[tokio::test]
    async fn claims_survive_and_go_with_what_they_claim() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let theirs = ("m".to_owned(), Some(4096));
        let ours = ("m:2".to_owned(), Some(8192));
        locked(folder)
            .await
            .claim("m", None, vec!["m".to_owned()])
            .unwrap();
        // Killed in the middle: what came up since is ours, what was there not.
        let mut claims = locked(folder).await;
        claims.reconcile(&[theirs.clone(), ours.clone()]).unwrap();
        assert!(claims.is_ours("m:2", Some(8192)) && !claims.is_ours("m", Some(4096)));
        claims.loaded("m", Some(("m:2", Some(8192)))).unwrap();
        drop(claims);
        let claims = peek(folder, "http://h:1");
        assert!(is_ours(&claims, "m:2", Some(8192)));
        // The same name with another context is somebody else's.
        assert!(!is_ours(&claims, "m:2", Some(2048)));
        assert!(peek(folder, "http://h:2").is_empty());
        let mut claims = locked(folder).await;
        claims.reconcile(std::slice::from_ref(&theirs)).unwrap();
        assert!(!claims.is_ours("m:2", Some(8192)));
    }

    #[tokio::test]
    async fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = locked(folder.path()).await;
        let wait = Duration::from_millis(120);
        let second = tokio::time::timeout(wait, locked(folder.path())).await;
        assert!(second.is_err());
        drop(first);
        locked(folder.path()).await;
    }
}
