//! Detects the servers at some addresses in parallel. Waits for a server that is
//! loading, and sends a key only to a server that requires one.

use std::time::{Duration, Instant};

use super::confirm::{DetectedServer, confirm};
use super::detected_server::Server;
use super::fault;
use super::http_client::{ClientError, HttpClient};
use super::probe::{Identity, ProbeResponses, identify, probe, requires_key};
use super::remembered::RememberedServers;
use super::server_address::ServerAddress;
use super::server_kind::ServerKind;
use crate::engine::Error;

/// Time limit for reading LM Studio's version.
const LMSTUDIO_VERSION_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between probes of a server that is still loading.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// The limits on connecting to a server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTimeouts {
    /// The limit on making a connection; `None` leaves it to the system.
    pub connect: Option<Duration>,
    /// The limit on waiting for a server that reports that it is still loading
    /// its model; `None` is unlimited.
    pub load: Option<Duration>,
}

/// Detects the servers at all addresses in parallel. Returns those that answer,
/// in the order of `addresses`.
///
/// # Errors
/// Returns an error if none answers: for an explicitly given address its own
/// error, else a missing or wrong key if there is one, else `Error::NoEngine`.
pub(super) async fn detect_all(
    addresses: &[ServerAddress],
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Vec<Server>, Error> {
    let detected = detect_or_confirm_all(addresses, is_explicit, timeouts, None).await?;
    Ok(detected
        .into_iter()
        .map(|detected| detected.server)
        .collect())
}

/// Detects servers as [`detect_all`] does, except for `remembered` ones that are confirmed by
/// their lists.
///
/// # Errors
/// See [`detect_all`].
pub(super) async fn detect_or_confirm_all(
    addresses: &[ServerAddress],
    is_explicit: bool,
    timeouts: ConnectTimeouts,
    remembered: Option<&RememberedServers>,
) -> Result<Vec<DetectedServer>, Error> {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, address) in addresses.iter().cloned().enumerate() {
        let recalled = remembered.and_then(|remembered| remembered.recall(&address));
        tasks.spawn(async move {
            let confirmed = match recalled {
                Some(recalled) => confirm(&address, recalled, timeouts.connect).await,
                None => Ok(None),
            };
            let detected = match confirmed.transpose() {
                Some(confirmed) => confirmed,
                None => detect(&address, is_explicit, timeouts)
                    .await
                    .map(DetectedServer::new),
            };
            (index, detected)
        });
    }
    let mut results = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        if let Ok(result) = joined {
            results.push(result);
        }
    }
    results.sort_by_key(|(index, _)| *index);
    let mut servers = Vec::new();
    let mut errors = Vec::new();
    for (index, result) in results {
        match result {
            Ok(detected) => {
                tracing::info!(
                    kind = detected.server.kind.name(),
                    version = detected.server.version,
                    url = detected.server.client.base_url(),
                    is_confirmed = detected.confirmed.is_some(),
                    "detected a server"
                );
                servers.push(detected);
            }
            Err(error) => {
                let url = addresses.get(index).map_or("", ServerAddress::base_url);
                tracing::info!(url, %error, "no server detected");
                errors.push(error);
            }
        }
    }
    if !servers.is_empty() {
        return Ok(servers);
    }
    // A server that rejects the key is more informative than several addresses
    // without a server.
    let reported = errors
        .iter()
        .position(|error| is_explicit || matches!(error, Error::Unauthorised { .. }));
    match reported {
        Some(index) => Err(errors.swap_remove(index)),
        None => Err(Error::NoEngine {
            addresses: addresses
                .iter()
                .map(|address| address.base_url.clone())
                .collect(),
        }),
    }
}

async fn detect(
    address: &ServerAddress,
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Server, Error> {
    let detected = detect_at(address, is_explicit, timeouts).await;
    if let (Err(Error::Unreachable { .. }), Some(on_ipv6)) = (&detected, address.on_ipv6())
        && let Ok(server) = detect_at(&on_ipv6, is_explicit, timeouts).await
    {
        return Ok(server);
    }
    detected
}

async fn detect_at(
    address: &ServerAddress,
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Server, Error> {
    let mut client = HttpClient::new(address, timeouts.connect)?;
    if address.is_own {
        client.set_key(address.key.clone());
    }
    let start = Instant::now();
    loop {
        let probes = probe(&client, address, timeouts.connect).await;
        if let Some(identity) = identify(&probes) {
            let Identity {
                kind,
                version,
                uses_given_api,
            } = identity;
            if let Some(dialect) = address.dialect
                && !dialect.accepts(kind)
            {
                return Ok(configured_server(address, dialect, client));
            }
            if address.kind.is_some_and(|required| !required.accepts(kind)) {
                return Err(Error::NotAServer {
                    url: address.base_url.clone(),
                    response: format!("detected {kind}, which was not requested"),
                });
            }
            let lmstudio_key = address
                .lmstudio_key
                .clone()
                .filter(|_| kind == ServerKind::LmStudio);
            client.set_key(address.key.clone().or(lmstudio_key));
            if let (true, Some(given)) = (uses_given_api, &address.given_api) {
                client.set_api_base(given.clone());
            }
            let version = match kind {
                ServerKind::LmStudio => lmstudio_version(&client).await,
                _ => version,
            };
            return Ok(Server {
                kind,
                version,
                client,
                is_configured: address.dialect.is_some(),
            });
        }
        let is_loading = [&probes.health, &probes.models]
            .into_iter()
            .flatten()
            .any(|response| {
                response.status == 503
                    && fault::from_response(response.status, None, &response.body).kind
                        == fault::FaultKind::Loading
            });
        if is_loading && is_explicit {
            if timeouts.load.is_some_and(|limit| start.elapsed() >= limit) {
                return Err(Error::StillLoading {
                    engine: address.base_url.clone(),
                    limit: start.elapsed(),
                });
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
            continue;
        }
        // The key configured for this address is sent only once the server at
        // this address requires one.
        if !client.has_key() && address.key.is_some() && requires_key(&probes) {
            client.set_key(address.key.clone());
            continue;
        }
        return match address.dialect {
            Some(dialect) if probes.is_connected() => {
                Ok(configured_server(address, dialect, client))
            }
            _ => Err(detection_error(address, &client, &probes)),
        };
    }
}

/// Returns a server of a kind that the config sets, for one that was not identified as such:
/// behind a gateway it may not look like one of its kind. The key in the config belongs to
/// this address; LM Studio's own token is not sent.
fn configured_server(
    address: &ServerAddress,
    dialect: ServerKind,
    mut client: HttpClient,
) -> Server {
    client.set_key(address.key.clone());
    if let Some(given) = &address.given_api
        && ends_in_version(given)
    {
        client.set_api_base(given.clone());
    }
    Server {
        kind: dialect,
        version: None,
        client,
        is_configured: true,
    }
}

/// Returns true if the last part of a URL is the version of an API, such as `v1`.
fn ends_in_version(url: &str) -> bool {
    let last = url.rsplit('/').next().unwrap_or_default();
    last.strip_prefix('v').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Reads LM Studio's version from the address for its own programs. The version
/// is only displayed, so the time limit is short.
async fn lmstudio_version(client: &HttpClient) -> Option<String> {
    let status = client
        .get("/lms-status", LMSTUDIO_VERSION_TIMEOUT)
        .await
        .ok()?;
    let status = status.json().filter(|_| status.status == 200)?;
    status.get("version")?.as_str().map(str::to_owned)
}

/// Returns the reason why no server was detected.
fn detection_error(address: &ServerAddress, client: &HttpClient, probes: &ProbeResponses) -> Error {
    let url = address.base_url.clone();
    match &probes.lmstudio_greeting {
        Err(ClientError::ConnectTimeout(limit)) => {
            return Error::ConnectTimeout {
                engine: url,
                limit: *limit,
            };
        }
        Err(
            error @ (ClientError::ConnectFailed(_)
            | ClientError::ResponseTimeout(_)
            | ClientError::Redirect(_)),
        ) => {
            return Error::Unreachable {
                engine: url,
                reason: error.to_string(),
            };
        }
        _ => {}
    }
    if requires_key(probes) {
        let response = probes.models.as_ref().ok().or(probes.props.as_ref().ok());
        let message = response.map_or_else(String::new, |response| {
            fault::from_response(response.status, None, &response.body).message
        });
        return Error::Unauthorised {
            engine: url,
            had_key: client.has_key(),
            message: client.redact(&message),
        };
    }
    match &probes.models {
        Ok(response) => Error::NotAServer {
            url,
            response: format!(
                "`GET /v1/models` returned HTTP {}: {}",
                response.status,
                client.redact(&fault::from_text(&String::from_utf8_lossy(&response.body)).message)
            ),
        },
        Err(error) => Error::Unreachable {
            engine: url,
            reason: error.to_string(),
        },
    }
}
