//! Downloads a file into memory, within a size limit.

use std::time::Duration;

use lmstrix_sandbox::{SIDECAR_BYTES_MAX, SandboxLimits};
use reqwest::{Client, RequestBuilder, StatusCode};

use crate::error::{Error, root_cause};

/// Limit for a connection to a server.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Limit between two pieces of a transfer.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The name of this program in requests.
pub(crate) const USER_AGENT: &str = concat!("lmstrix-host/", env!("CARGO_PKG_VERSION"));
/// The part of an error's body that is read, in bytes.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// The limit on the manifest of an artifact, as registries have it.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// The maximum number of redirects.
const MAX_REDIRECTS: usize = 10;

/// The limits on the size of a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimits {
    component_bytes: u64,
}

/// A limit on a size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimit {
    bytes: u64,
    name: &'static str,
}

impl From<&SandboxLimits> for SizeLimits {
    fn from(limits: &SandboxLimits) -> Self {
        Self {
            component_bytes: limits.file_bytes,
        }
    }
}

impl SizeLimits {
    /// Returns the limit on a component, with the other files of the pack in it or not.
    pub(crate) fn bundle(&self) -> SizeLimit {
        SizeLimit {
            bytes: self.component_bytes,
            name: "limits.pack_file_bytes",
        }
    }

    /// Returns the limit on a manifest.
    pub(crate) fn manifest() -> SizeLimit {
        SizeLimit {
            bytes: MANIFEST_BYTES_MAX,
            name: "of a manifest",
        }
    }

    /// Returns the limit on the other files of a pack together.
    pub(crate) fn sidecar() -> SizeLimit {
        SizeLimit {
            bytes: SIDECAR_BYTES_MAX,
            name: "of the files beside a pack",
        }
    }
}

impl SizeLimit {
    /// Checks a size.
    ///
    /// # Errors
    /// Returns an error if the size exceeds the limit.
    pub(crate) fn check(&self, bytes: u64, address: &str) -> Result<(), Error> {
        match bytes > self.bytes {
            true => Err(Error::TooLarge {
                address: address.to_owned(),
                bytes,
                limit: self.bytes,
                limit_name: self.name,
            }),
            false => Ok(()),
        }
    }
}

/// A request, and how its answer is read.
pub(crate) struct Download<'a> {
    /// The address in messages.
    pub(crate) address: &'a str,
    pub(crate) request: RequestBuilder,
    pub(crate) limit: SizeLimit,
    /// Receives the announced size of the content, and the received bytes.
    pub(crate) on_progress: &'a mut (dyn FnMut(Option<u64>, u64) + Send),
}

/// The answer to a request.
pub(crate) struct Downloaded {
    pub(crate) status: StatusCode,
    /// The content; of an error, its first bytes.
    pub(crate) content: Vec<u8>,
}

impl Download<'_> {
    /// Sends the request and reads the answer.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached, if the transfer is cut off, and if the
    /// content of a success exceeds the limit.
    pub(crate) async fn run(self) -> Result<Downloaded, Error> {
        let Self {
            address,
            request,
            limit,
            on_progress,
        } = self;
        let mut response = request.send().await.map_err(|error| Error::Unreachable {
            server: server_of(&error).unwrap_or_else(|| address.to_owned()),
            reason: root_cause(&error),
        })?;
        let status = response.status();
        let announced = response.content_length();
        if status.is_success() {
            limit.check(announced.unwrap_or_default(), address)?;
        }
        let mut content = Vec::new();
        loop {
            let received = content.len() as u64;
            if !status.is_success() && received > ERROR_BYTES_MAX {
                return Ok(Downloaded { status, content });
            }
            let cut_off = |error: reqwest::Error| Error::CutOff {
                address: address.to_owned(),
                received,
                reason: root_cause(&error),
            };
            let Some(chunk) = response.chunk().await.map_err(cut_off)? else {
                return Ok(Downloaded { status, content });
            };
            content.extend_from_slice(&chunk);
            let received = content.len() as u64;
            if status.is_success() {
                limit.check(received, address)?;
            }
            on_progress(announced, received);
        }
    }
}

/// Returns the host and the port of a failed request.
fn server_of(error: &reqwest::Error) -> Option<String> {
    let url = error.url()?;
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Returns a client for servers of packs.
///
/// # Errors
/// Returns an error if the system's certificates cannot be read.
pub(crate) fn client() -> Result<Client, Error> {
    // Fails harmlessly if a provider was installed before.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            attempt.error("redirect from https to http not followed")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .redirect(redirects)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(STALL_TIMEOUT)
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| Error::Client(root_cause(&error)))
}
