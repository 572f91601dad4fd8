//! Detects the kind of server at an address by the bodies of several probes.
//! The status alone is not enough, because LM Studio answers 200 to every path.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http_client::{ClientError, HttpClient, Response};
use super::{ConnectTimeouts, Server, ServerAddress, fault};
use crate::engine::Error;

/// Time limit of one probe. A server that computes on its only thread does not
/// answer meanwhile, and waiting longer would not help.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit for reading LM Studio's version.
const LMSTUDIO_VERSION_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between probes of a server that is still loading.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

/// The kinds of server. Each has its own API, or its own variant of OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// LM Studio.
    LmStudio,
    /// Ollama, used by its native API.
    Ollama,
    /// llama.cpp's server, started with one model.
    LlamaServer,
    /// llama.cpp's server in router mode, which loads models on request.
    LlamaRouter,
    /// vLLM.
    Vllm,
    /// Any other server with an OpenAI-compatible API.
    OpenAi,
}

impl ServerKind {
    /// Returns the name in the config, in `--engine` and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LmStudio => "lmstudio",
            Self::Ollama => "ollama",
            Self::LlamaServer | Self::LlamaRouter => "llama-server",
            Self::Vllm => "vllm",
            Self::OpenAi => "openai",
        }
    }

    /// The names that the config and `--engine` accept.
    pub const NAMES: [&'static str; 5] = ["lmstudio", "ollama", "llama-server", "vllm", "openai"];

    /// Returns the kind of this name; `None` unless it is one of `NAMES`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "lmstudio" => Self::LmStudio,
            "ollama" => Self::Ollama,
            "llama-server" => Self::LlamaServer,
            "vllm" => Self::Vllm,
            "openai" => Self::OpenAi,
            _ => return None,
        })
    }

    /// Returns the default ports. llama-server is changing its default from
    /// 8080 to 9931.
    #[must_use]
    pub fn default_ports(self) -> &'static [u16] {
        match self {
            Self::LmStudio => &[1234],
            Self::Ollama => &[11434],
            Self::LlamaServer | Self::LlamaRouter => &[8080, 9931],
            Self::Vllm => &[8000],
            Self::OpenAi => &[],
        }
    }

    /// Returns `true` if the detected kind satisfies the configured kind
    /// `self`.
    fn accepts(self, detected: Self) -> bool {
        self == detected || (self == Self::LlamaServer && detected == Self::LlamaRouter)
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LmStudio => "LM Studio",
            Self::Ollama => "Ollama",
            Self::LlamaServer => "llama-server",
            Self::LlamaRouter => "llama-server (router)",
            Self::Vllm => "vLLM",
            Self::OpenAi => "OpenAI-compatible server",
        })
    }
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
    let mut tasks = tokio::task::JoinSet::new();
    for (index, address) in addresses.iter().cloned().enumerate() {
        tasks.spawn(async move { (index, detect(&address, is_explicit, timeouts).await) });
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
            Ok(server) => {
                tracing::info!(
                    kind = server.kind.name(),
                    version = server.version,
                    url = server.client.base_url(),
                    "detected a server"
                );
                servers.push(server);
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

/// The responses to all probes of one server.
struct ProbeResponses {
    lmstudio_greeting: Result<Response, ClientError>,
    ollama_version: Result<Response, ClientError>,
    root: Result<Response, ClientError>,
    props: Result<Response, ClientError>,
    health: Result<Response, ClientError>,
    vllm_version: Result<Response, ClientError>,
    models: Result<Response, ClientError>,
}

async fn detect(
    address: &ServerAddress,
    is_explicit: bool,
    timeouts: ConnectTimeouts,
) -> Result<Server, Error> {
    let mut client = HttpClient::new(address, timeouts.connect)?;
    let start = Instant::now();
    loop {
        let probes = probe(&client, address.is_loopback, timeouts.connect).await;
        if let Some((kind, version)) = identify(&probes) {
            if address
                .kind
                .is_some_and(|configured| !configured.accepts(kind))
            {
                return Err(Error::NotAServer {
                    url: address.base_url.clone(),
                    response: format!("detected {kind}, but the config sets another kind"),
                });
            }
            let lmstudio_key = address
                .lmstudio_key
                .clone()
                .filter(|_| kind == ServerKind::LmStudio);
            client.set_key(address.key.clone().or(lmstudio_key));
            let version = match kind {
                ServerKind::LmStudio => lmstudio_version(&client).await,
                _ => version,
            };
            return Ok(Server {
                kind,
                version,
                client,
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
        return Err(detection_error(address, &client, &probes));
    }
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

async fn probe(
    client: &HttpClient,
    is_loopback: bool,
    connect: Option<Duration>,
) -> ProbeResponses {
    // The probe limit covers a server that does not answer. A remote connection
    // gets its own time in addition; a loopback connection needs none.
    let limit = match connect {
        Some(connect) if !is_loopback => connect.saturating_add(PROBE_TIMEOUT),
        _ => PROBE_TIMEOUT,
    };
    let get_probe = |path: &'static str| async move {
        match client.get(path, limit).await {
            Err(ClientError::ResponseTimeout(_)) => Err(ClientError::ResponseTimeout(limit)),
            other => other,
        }
    };
    // If the first probe gets no connection, the others would not either.
    let lmstudio_greeting = get_probe("/lmstudio-greeting").await;
    if matches!(
        lmstudio_greeting,
        Err(ClientError::ConnectFailed(_)
            | ClientError::ConnectTimeout(_)
            | ClientError::ResponseTimeout(_))
    ) {
        let skipped = || Err(ClientError::ConnectionLost("not probed".to_owned()));
        return ProbeResponses {
            lmstudio_greeting,
            ollama_version: skipped(),
            root: skipped(),
            props: skipped(),
            health: skipped(),
            vllm_version: skipped(),
            models: skipped(),
        };
    }
    let (ollama_version, root, props, health, vllm_version, models) = tokio::join!(
        get_probe("/api/version"),
        get_probe("/"),
        get_probe("/props"),
        get_probe("/health"),
        get_probe("/version"),
        get_probe("/v1/models"),
    );
    ProbeResponses {
        lmstudio_greeting,
        ollama_version,
        root,
        props,
        health,
        vllm_version,
        models,
    }
}

/// Identifies the kind of server and its version.
///
/// The order of the checks matters: LM Studio answers unknown paths, too, and
/// must not be taken for another server.
fn identify(probes: &ProbeResponses) -> Option<(ServerKind, Option<String>)> {
    let valid_json = |probe: &Result<Response, ClientError>| {
        let response = probe
            .as_ref()
            .ok()
            .filter(|response| response.status == 200)?;
        let value = response.json()?;
        value.get("error").is_none().then_some(value)
    };
    let string_field = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    if valid_json(&probes.lmstudio_greeting)
        .is_some_and(|value| value.get("lmstudio") == Some(&Value::Bool(true)))
    {
        return Some((ServerKind::LmStudio, None));
    }
    let root = probes.root.as_ref().ok();
    let is_ollama = root.is_some_and(|response| response.body.starts_with(b"Ollama is running"));
    if is_ollama
        && let Some(version) =
            valid_json(&probes.ollama_version).and_then(|value| string_field(&value, "version"))
    {
        return Some((ServerKind::Ollama, Some(version)));
    }
    let models =
        valid_json(&probes.models).filter(|value| value.get("data").is_some_and(Value::is_array));
    if let Some(props) = valid_json(&probes.props) {
        let build = string_field(&props, "build_info");
        if props.get("role").and_then(Value::as_str) == Some("router") {
            return Some((ServerKind::LlamaRouter, build));
        }
        if props.get("default_generation_settings").is_some() {
            return Some((ServerKind::LlamaServer, build));
        }
    }
    let models = models?;
    let owner = models
        .pointer("/data/0/owned_by")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match owner {
        "llamacpp" => Some((ServerKind::LlamaServer, None)),
        "vllm" => Some((
            ServerKind::Vllm,
            valid_json(&probes.vllm_version).and_then(|value| string_field(&value, "version")),
        )),
        _ if models.get("object").and_then(Value::as_str) == Some("list") => {
            Some((ServerKind::OpenAi, None))
        }
        _ => None,
    }
}

fn requires_key(probes: &ProbeResponses) -> bool {
    [&probes.models, &probes.props]
        .into_iter()
        .flatten()
        .any(|response| matches!(response.status, 401 | 403))
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
