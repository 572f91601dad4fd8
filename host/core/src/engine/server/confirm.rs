//! Confirms that the server at an address is the one that was detected before.

use std::time::Duration;

use super::detected_server::Server;
use super::http_client::HttpClient;
use super::listed_model::Listing;
use super::model_list::request_listing;
use super::probe::probe_timeout;
use super::remembered::RememberedServer;
use super::server_address::ServerAddress;
use crate::engine::Error;

/// A server that answered.
#[derive(Debug)]
pub(super) struct DetectedServer {
    pub(super) server: Server,
    /// The list that confirmed a remembered server.
    pub(super) confirmed: Option<ConfirmedListing>,
}

/// The list of a remembered server, and the server as it was remembered.
#[derive(Debug)]
pub(super) struct ConfirmedListing {
    pub(super) listing: Listing,
    pub(super) recalled: RememberedServer,
}

impl DetectedServer {
    /// A server that was not remembered.
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            confirmed: None,
        }
    }
}

/// Asks a server that was detected before for its list. Returns `None` if the
/// list does not confirm that it is the same server, or does not arrive in time.
///
/// # Errors
/// Returns an error if no connection could be made in time.
pub(super) async fn confirm(
    address: &ServerAddress,
    recalled: RememberedServer,
    connect_timeout: Option<Duration>,
) -> Result<Option<DetectedServer>, Error> {
    let mut client = HttpClient::new(address, connect_timeout)?;
    if let (true, Some(given)) = (recalled.uses_given_api, &address.given_api) {
        client.set_api_base(given.clone());
    }
    let server = Server {
        kind: recalled.kind,
        version: recalled.version.clone(),
        client,
        is_configured: false,
    };
    let limit = probe_timeout(address, connect_timeout);
    let list = request_listing(&server, recalled.kept.clone());
    let listing = match tokio::time::timeout(limit, list).await {
        Ok(Ok(listing)) if listing.fingerprint.as_ref() == Some(&recalled.fingerprint) => listing,
        Ok(Err(error @ Error::ConnectTimeout { .. })) => return Err(error),
        _ => return Ok(None),
    };
    Ok(Some(DetectedServer {
        server,
        confirmed: Some(ConfirmedListing { listing, recalled }),
    }))
}
