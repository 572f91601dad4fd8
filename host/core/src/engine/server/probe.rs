//! Identifies the kind of a server by the bodies of several probes. The status alone
//! is not enough, because LM Studio answers 200 to every path.

use std::time::Duration;

use serde_json::Value;

use super::http_client::{ClientError, HttpClient, Response};
use super::server_address::ServerAddress;
use super::server_kind::ServerKind;

/// Time limit of one probe. A server that computes on its only thread answers
/// after the computation, which can take minutes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The responses to all probes of one server.
pub(super) struct ProbeResponses {
    pub(super) lmstudio_greeting: Result<Response, ClientError>,
    ollama_version: Result<Response, ClientError>,
    root: Result<Response, ClientError>,
    pub(super) props: Result<Response, ClientError>,
    pub(super) health: Result<Response, ClientError>,
    vllm_version: Result<Response, ClientError>,
    pub(super) models: Result<Response, ClientError>,
    /// The list of models below the address as it was given, if that is another one.
    pub(super) given_models: Option<Result<Response, ClientError>>,
}

impl ProbeResponses {
    /// Returns true if something answered in time.
    pub(super) fn is_connected(&self) -> bool {
        !matches!(
            self.lmstudio_greeting,
            Err(ClientError::ConnectFailed(_)
                | ClientError::ConnectTimeout(_)
                | ClientError::ResponseTimeout(_))
        )
    }
}

/// What the probes tell about a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) kind: ServerKind,
    pub(super) version: Option<String>,
    /// OpenAI's API is below the address as it was given.
    pub(super) uses_given_api: bool,
}

impl Identity {
    fn new(kind: ServerKind, version: Option<String>) -> Self {
        Self {
            kind,
            version,
            uses_given_api: false,
        }
    }
}

/// Returns the time limit for a probe. It covers a server that does not answer. A remote
/// connection gets its own time in addition; a loopback connection needs none.
pub(super) fn probe_timeout(address: &ServerAddress, connect: Option<Duration>) -> Duration {
    match connect {
        Some(connect) if !address.is_loopback => connect.saturating_add(PROBE_TIMEOUT),
        _ => PROBE_TIMEOUT,
    }
}

/// Sends all probes, in parallel where that is safe.
pub(super) async fn probe(
    client: &HttpClient,
    address: &ServerAddress,
    connect: Option<Duration>,
) -> ProbeResponses {
    let limit = probe_timeout(address, connect);
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
            given_models: None,
        };
    }
    let given_probe = async {
        let url = format!("{}/models", address.given_api.as_ref()?);
        Some(client.get_url(&url, limit).await)
    };
    let (ollama_version, root, props, health, vllm_version, models, given_models) = tokio::join!(
        get_probe("/api/version"),
        get_probe("/"),
        get_probe("/props"),
        get_probe("/health"),
        get_probe("/version"),
        get_probe("/v1/models"),
        given_probe,
    );
    ProbeResponses {
        lmstudio_greeting,
        ollama_version,
        root,
        props,
        health,
        vllm_version,
        models,
        given_models,
    }
}

/// Identifies the kind of server and its version.
///
/// The order of the checks matters: LM Studio answers unknown paths, too, and
/// must not be taken for another server.
pub(super) fn identify(probes: &ProbeResponses) -> Option<Identity> {
    let string_field = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    if valid_json(&probes.lmstudio_greeting)
        .is_some_and(|value| value.get("lmstudio") == Some(&Value::Bool(true)))
    {
        return Some(Identity::new(ServerKind::LmStudio, None));
    }
    let root = probes.root.as_ref().ok();
    let is_ollama = root.is_some_and(|response| response.body.starts_with(b"Ollama is running"));
    if is_ollama
        && let Some(version) =
            valid_json(&probes.ollama_version).and_then(|value| string_field(&value, "version"))
    {
        return Some(Identity::new(ServerKind::Ollama, Some(version)));
    }
    let given = probes.given_models.as_ref().and_then(model_list);
    let below_base = model_list(&probes.models);
    // llama-server has its list below both paths, and further endpoints below its base.
    if (given.is_none() || below_base.is_some())
        && let Some(props) = valid_json(&probes.props)
    {
        let build = string_field(&props, "build_info");
        if props.get("role").and_then(Value::as_str) == Some("router") {
            return Some(Identity::new(ServerKind::LlamaRouter, build));
        }
        if props.get("default_generation_settings").is_some() {
            return Some(Identity::new(ServerKind::LlamaServer, build));
        }
    }
    let uses_given_api = given.is_some();
    let models = given.or(below_base)?;
    let owner = models
        .pointer("/data/0/owned_by")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (kind, version) = match owner {
        "llamacpp" => (ServerKind::LlamaServer, None),
        "vllm" => {
            let version = valid_json(&probes.vllm_version);
            let version = version.and_then(|value| string_field(&value, "version"));
            (ServerKind::Vllm, version)
        }
        _ => (ServerKind::OpenAi, None),
    };
    Some(Identity {
        kind,
        version,
        uses_given_api,
    })
}

/// Returns the JSON of a successful response without an error in it.
fn valid_json(probe: &Result<Response, ClientError>) -> Option<Value> {
    let response = probe.as_ref().ok()?;
    let value = response.json().filter(|_| response.status == 200)?;
    value
        .get("error")
        .is_none_or(Value::is_null)
        .then_some(value)
}

/// Returns a list of models in OpenAI's form. Some servers leave out its `object`.
fn model_list(probe: &Result<Response, ClientError>) -> Option<Value> {
    let value = valid_json(probe)?;
    let models = value.get("data")?.as_array()?;
    let is_list = value.get("object").and_then(Value::as_str) == Some("list");
    let has_ids = !models.is_empty() && models.iter().all(|model| model.get("id").is_some());
    (is_list || has_ids).then_some(value)
}

/// Returns whether the server requires a key.
pub(super) fn requires_key(probes: &ProbeResponses) -> bool {
    [&probes.models, &probes.props]
        .into_iter()
        .chain(&probes.given_models)
        .flatten()
        .any(|response| matches!(response.status, 401 | 403))
}
