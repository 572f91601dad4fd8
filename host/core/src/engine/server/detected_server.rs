//! A server whose kind is known.

use super::http_client::HttpClient;
use super::server_kind::ServerKind;

/// A server whose kind has been detected or is configured.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: ServerKind,
    pub(super) version: Option<String>,
    pub(super) client: HttpClient,
    /// The kind is the one in the config and was not detected.
    pub(super) is_configured: bool,
}

impl Server {
    /// The name in messages, such as `LM Studio at http://127.0.0.1:1234`.
    pub(super) fn display_name(&self) -> String {
        format!("{} at {}", self.kind, self.client.base_url())
    }
}
