//! The client of the hub: lists the files of a repository and requests one.

use std::time::Duration;

use serde_json::Value;

use super::error::HubError;
use super::remote_file::{RemoteFile, remote_model_file};
use crate::secret::Secret;

/// The hub's default address.
pub const DEFAULT_HUB_URL: &str = "https://huggingface.co";
/// Limit on listing the files of a repository.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximal size of a list of files, in bytes.
const MAX_LIST_BYTES: usize = 16 << 20;

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

    /// Returns the request for a file of a repository.
    pub(super) fn file_request(
        &self,
        repo: &str,
        revision: &str,
        path: &str,
    ) -> reqwest::RequestBuilder {
        self.request(&format!(
            "{}/{repo}/resolve/{revision}/{}",
            self.base_url,
            escape_path(path)
        ))
    }

    fn request(&self, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.get(url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// Lists the model files of a repository.
    pub(super) async fn list_files(
        &self,
        repo: &str,
        revision: &str,
    ) -> Result<Vec<RemoteFile>, HubError> {
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

    pub(super) fn status_error(&self, repo: &str, status: u16, message: &str) -> HubError {
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

/// Returns the message of the innermost cause.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Escapes a path for a URL.
fn escape_path(path: &str) -> String {
    path.replace('%', "%25")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('#', "%23")
}
