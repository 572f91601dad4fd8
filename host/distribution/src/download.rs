//! Downloads a file from a web server into memory, within a size limit.

use std::time::Duration;

use lmstrix_sandbox::{SIDECAR_BYTES_MAX, SandboxLimits};
use reqwest::{Response, Url};

use crate::error::{Error, root_cause};

/// Limit for a connection to a server.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Limit between two pieces of a transfer.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
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

    /// Returns the limit on the other files of a pack together.
    pub(crate) fn sidecar(&self) -> SizeLimit {
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

/// Downloads a file. `on_progress` receives the total size, or the received bytes if the server
/// does not announce it, and the received bytes.
///
/// # Errors
/// Returns an error if the server cannot be reached or refuses the request, if the transfer is
/// cut off, and if the file exceeds the limit.
pub(crate) async fn download(
    url: &Url,
    limit: SizeLimit,
    on_progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Vec<u8>, Error> {
    let address = url.to_string();
    let unreachable = |error: reqwest::Error| Error::Unreachable {
        server: url.host_str().unwrap_or_default().to_owned(),
        reason: root_cause(&error),
    };
    let mut response = client()
        .map_err(unreachable)?
        .get(url.clone())
        .send()
        .await
        .map_err(unreachable)?;
    check_status(&response, &address)?;
    let announced = response.content_length();
    limit.check(announced.unwrap_or_default(), &address)?;
    let mut content = Vec::new();
    loop {
        let received = content.len() as u64;
        let cut_off = |error: reqwest::Error| Error::CutOff {
            address: address.clone(),
            received,
            reason: root_cause(&error),
        };
        let Some(chunk) = response.chunk().await.map_err(cut_off)? else {
            return Ok(content);
        };
        content.extend_from_slice(&chunk);
        let received = content.len() as u64;
        limit.check(received, &address)?;
        on_progress(announced.unwrap_or(received), received);
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
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
    reqwest::Client::builder()
        .redirect(redirects)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(STALL_TIMEOUT)
        .user_agent(concat!("lmstrix-host/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn check_status(response: &Response, address: &str) -> Result<(), Error> {
    let status = response.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::Status {
            address: address.to_owned(),
            status: status.as_u16(),
            reason: format!("the server returned HTTP {status}"),
        }),
    }
}
