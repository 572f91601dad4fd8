//! Servers that were detected before. A request that is needed anyway confirms that the same
//! server still listens at an address, so that a run need not detect it again.
//!
//! There is a file per address in the state folder. If it is missing or damaged, the server is
//! detected again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::detected_server::Server;
use super::listed_model::Listing;
use super::server_address::ServerAddress;
use super::server_kind::ServerKind;
use crate::store::{AtomicFile, sha256_hex};

const SCHEMA: u32 = 1;

/// The time after which a server is detected again: its lists do not show whether it has another
/// version now.
const VALID_FOR: Duration = Duration::from_secs(60 * 60);

/// Maximum size of a file in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The servers that were detected before.
#[derive(Debug)]
pub(super) struct RememberedServers {
    folder: PathBuf,
}

/// A server that was detected before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RememberedServer {
    schema: u32,
    /// The base URL.
    server: String,
    pub(super) kind: ServerKind,
    pub(super) version: Option<String>,
    /// The URL of OpenAI's API as it was given, if that was not `/v1` below the base URL.
    given_api: Option<String>,
    /// True if OpenAI's API is at the given URL.
    pub(super) uses_given_api: bool,
    /// See [`Listing::fingerprint`].
    pub(super) fingerprint: String,
    /// See [`Listing::kept`].
    pub(super) kept: Map<String, Value>,
    /// Seconds since 1970.
    detected_at: u64,
}

impl RememberedServers {
    /// Uses the files in a folder, which need not exist.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("detected"),
        }
    }

    /// Returns the server at an address, if its detection is recent and matches the requested
    /// kind and API. A server that gets a key is always detected: only then is it certain that
    /// the key goes to the right server, and a list without the key may be another one.
    pub(super) fn recall(&self, address: &ServerAddress) -> Option<RememberedServer> {
        let bytes = fs::read(self.path(&address.base_url)).ok()?;
        let found: RememberedServer = serde_json::from_slice(&bytes).ok()?;
        let age = now().checked_sub(found.detected_at)?;
        let is_usable = found.schema == SCHEMA
            && found.server == address.base_url
            && age < VALID_FOR.as_secs()
            && address.dialect.is_none()
            && !address.has_key_for(found.kind)
            && address.kind.is_none_or(|kind| kind.accepts(found.kind))
            && found.given_api == address.given_api;
        is_usable.then_some(found)
    }

    /// Remembers a server with its list, if the list can confirm it later; otherwise forgets
    /// what is remembered of its address. `recalled` is the remembered server that was confirmed
    /// instead of being detected.
    pub(super) fn remember(
        &self,
        address: &ServerAddress,
        server: &Server,
        listing: &Listing,
        recalled: Option<&RememberedServer>,
    ) {
        let fingerprint = listing.fingerprint.as_ref();
        let Some(fingerprint) = fingerprint.filter(|_| !address.has_key_for(server.kind)) else {
            let _missing = fs::remove_file(self.path(&address.base_url));
            return;
        };
        let found = RememberedServer {
            schema: SCHEMA,
            server: address.base_url.clone(),
            kind: server.kind,
            version: server.version.clone(),
            given_api: address.given_api.clone(),
            uses_given_api: server.client.has_given_api(),
            fingerprint: fingerprint.clone(),
            kept: listing.kept.clone(),
            detected_at: recalled.map_or_else(now, |recalled| recalled.detected_at),
        };
        if recalled == Some(&found) {
            return;
        }
        if let Err(error) = self.write(&found) {
            tracing::info!(%error, "the detected server is not remembered");
        }
    }

    fn write(&self, found: &RememberedServer) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(found)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        AtomicFile::replace(&self.path(&found.server), &bytes)
    }

    fn path(&self, address: &str) -> PathBuf {
        let mut digest = sha256_hex(address.as_bytes());
        digest.truncate(16);
        self.folder.join(format!("{digest}.json"))
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
