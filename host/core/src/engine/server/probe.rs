//! Identifies the kind of a server by the bodies of several probes. The status alone
//! is not enough, because LM Studio answers 200 to every path.

use std::time::Duration;

use serde_json::Value;

use super::http_client::{ClientError, HttpClient, Response};
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
}

/// Sends all probes, in parallel where that is safe.
pub(super) async fn probe(
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
pub(super) fn identify(probes: &ProbeResponses) -> Option<(ServerKind, Option<String>)> {
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

/// Returns whether the server requires a key.
pub(super) fn requires_key(probes: &ProbeResponses) -> bool {
    [&probes.models, &probes.props]
        .into_iter()
        .flatten()
        .any(|response| matches!(response.status, 401 | 403))
}
